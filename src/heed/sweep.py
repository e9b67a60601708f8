"""Many runs by one command: `scripts/train.py --multirun score=dot,general seed=1,2,3`, then a report on all."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from heed.cli import CONFIGS, choices, overrides
from heed.run import default_path

INTERRUPTED = 130


def is_one_of_many() -> bool:
    """Whether Hydra has started this job as part of a multirun."""
    return HydraConfig.get().mode == RunMode.MULTIRUN


def train_in_own_process() -> None:
    """The job, by a command of its own: what goes wrong in one stays there, and its memory is its own.

    A run that ends badly has said why, and the next one follows. Ctrl-C and SIGTERM reach the run, which saves
    itself, and end the whole.
    """
    hydra = HydraConfig.get()
    print(f"# run {int(hydra.job.num) + 1}: {' '.join(overrides())}", flush=True)
    command = [sys.executable, str(CONFIGS.parent / "scripts" / "train.py"), *overrides()]
    for source in hydra.runtime.config_sources:
        if source.provider == "command-line":
            command += ["--config-dir", source.path]
    # Bars of several runs at a time would write over each other.
    quiet = {} if "basic" in str(hydra.launcher._target_).lower() else {"TQDM_DISABLE": "1"}
    with subprocess.Popen(command, env=os.environ | quiet) as process:
        before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        try:
            status = _wait(process)
        finally:
            signal.signal(signal.SIGTERM, before)
    if status in (INTERRUPTED, -signal.SIGTERM):
        sys.exit(INTERRUPTED)


def _wait(process: "subprocess.Popen[bytes]") -> int:
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # the terminal sent it to the run, too, which is saving now
            continue


class CompareRuns(Callback):
    """Hydra's callback at the end of a multirun (`hydra.callbacks` in configs/train.yaml): one report on its runs."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Compares them. Exits with status 1 where one has not finished, and 2 where they cannot be compared."""
        from heed.compare import compare_runs
        from heed.config import CompareConfig, train_config, typed

        try:
            paths = []
            for job in jobs(config.hydra.overrides.task):
                composed = compose("train", job, return_hydra_config=True)
                OmegaConf.set_struct(composed, False)
                names = choices(composed, composed.pop("hydra").runtime.choices)
                trained = train_config(composed, names)
                paths.append(str(composed.run or default_path(names, trained.seed, job)))
            settings = compose("compare", ["runs=[]"])
            OmegaConf.set_struct(settings, False)
            settings.pop("fast")
            comparison = typed(CompareConfig, settings)
            comparison.search, comparison.split = trained.search, trained.test_split
            comparison.device = trained.device
            summary = compare_runs(paths, comparison, names["search"])
        except (ValueError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        if sum(len(one["runs"]) for one in summary["systems"].values()) < len(paths):
            sys.exit(1)


def jobs(arguments: Sequence[str]) -> Iterator[list[str]]:
    """The overrides of each job of a multirun, as Hydra's basic sweeper combines them: of a key, the last counts."""
    ways = {}
    for override in OverridesParser.create().parse_overrides(list(arguments)):
        key = override.get_key_element()
        values = (
            override.sweep_string_iterator()
            if override.is_sweep_override()
            else [override.get_value_element_as_str()]
        )
        ways[key] = [f"{key}={value}" for value in values]
    yield from map(list, product(*ways.values()))
