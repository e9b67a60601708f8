"""The names of evaluations: settings that differ never share a name, and equal settings are found again."""

from dataclasses import asdict, replace

import pytest
from helpers.runs import config

from heed.config.schema import EvaluateConfig, MetricSettings, TrainConfig
from heed.evaluation.evaluate import directory_of, evaluation_name
from heed.search.settings import SearchSettings

BEAM, GREEDY = SearchSettings(), SearchSettings(width=1)


@pytest.fixture
def trained(tmp_path) -> TrainConfig:
    """A run that was trained with search=beam."""
    return config(tmp_path)


def name(trained: TrainConfig, search: SearchSettings, search_name: str, overridden=False, **metrics) -> str:
    settings = replace(MetricSettings(None, None, None), **metrics)
    asked = EvaluateConfig("run", "best", "test", asdict(search), settings, "cpu")
    return evaluation_name(asked, search_name, overridden, trained)


def test_the_settings_of_the_run_have_the_name_of_its_search(trained):
    assert name(trained, BEAM, "trained") == "beam"
    assert name(trained, BEAM, "beam") == "beam"
    assert name(trained, BEAM, "greedy", overridden=True) == "beam"  # search=greedy search.width=5
    assert name(replace(trained, names={}), BEAM, "trained") == "own"


def test_another_yaml_has_its_own_name(trained):
    assert name(trained, GREEDY, "greedy") == "greedy"
    assert name(trained, GREEDY, "greedy", bootstrap=7) == "greedy"


def test_different_settings_never_have_the_same_name(trained):
    asked = [
        (BEAM, "trained", False, {}),
        (GREEDY, "greedy", False, {}),
        *((replace(BEAM, width=width), "trained", True, {}) for width in (2, 3, 4)),
        *((replace(GREEDY, alpha=alpha), "greedy", True, {}) for alpha in (0.5, 0.7)),
        (BEAM, "trained", True, {"tokenize": "none"}),
        (BEAM, "trained", True, {"lowercase": True}),
        (GREEDY, "greedy", True, {"lowercase": True}),
        (replace(BEAM, alpha=0.3), "beam", False, {}),  # the run's own YAML has been edited since
    ]
    names = [name(trained, search, *rest, **metrics) for search, *rest, metrics in asked]
    assert len(set(names)) == len(names)
    with_greedy = replace(trained, search=replace(GREEDY, alpha=0.7), names={"search": "greedy"})
    assert name(with_greedy, GREEDY, "greedy") != name(with_greedy, with_greedy.search, "trained") == "greedy"


def test_the_same_settings_have_the_same_name(trained):
    wide = replace(BEAM, width=7)
    found = {name(trained, wide, given, overridden=True, bootstrap=n) for given in ("trained", "beam") for n in (0, 9)}
    assert len(found) == 1 and found.pop().startswith("beam-")


def test_an_untrusted_name_stays_in_the_run(trained):
    outside = replace(trained, names={"search": "../../x y"})
    asked = EvaluateConfig("run", "last", "test", asdict(BEAM), MetricSettings(None, None, None), "cpu")
    assert directory_of(asked, "test", "trained", False, outside).as_posix() == "run/eval/test-.._.._x_y-last"
