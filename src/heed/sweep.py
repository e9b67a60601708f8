"""Many runs by one command: `scripts/train.py --multirun score=dot,general seed=1,2,3`, then a report on all."""

import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hydra import compose
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from heed import fast
from heed.cli import CONFIGS, choices, overrides
from heed.component import build_corpus, build_tokenizer_settings, own_directories, trust
from heed.config import CompareConfig, TrainConfig, train_config, typed
from heed.data.prepare import recipe_of
from heed.run import Run, default_path, relevant
from heed.seals import read_json
from heed.signals import INTERRUPTED, stopping_signals


def is_one_of_many() -> bool:
    """Whether Hydra has started this job as part of a multirun."""
    return HydraConfig.get().mode == RunMode.MULTIRUN


def train_in_own_process() -> None:
    """The job, by a command of its own: what goes wrong in one stays there, and its memory is its own.

    A run that ends badly has said why, unless it was killed, and the next one follows. Ctrl-C is handed on to the run
    each time, SIGTERM and SIGHUP only if nothing was before (what ends jobs may send several); it saves itself, and the
    whole ends. (joblib, on Ctrl-C, ends its workers' processes within seconds, saved or not.)
    """
    hydra = HydraConfig.get()
    print(f"# run {int(hydra.job.num) + 1}: {' '.join(overrides())}", flush=True)
    command = [sys.executable, str(CONFIGS.parent / "scripts" / "train.py"), *overrides()]
    command += searchpath()
    # Bars of several runs at a time would write over each other: a pipe shows none.
    alone = "basic" in str(hydra.launcher._target_).lower()
    stopped: list[int] = []
    process = subprocess.Popen(
        command, stderr=None if alone else subprocess.PIPE, text=True, start_new_session=True
    )

    def hand_on(number: int, frame: object) -> None:
        if number == signal.SIGINT or not stopped:
            process.send_signal(number)
        stopped.append(number)

    before = {number: signal.signal(number, hand_on) for number in stopping_signals()}
    try:
        _, said = process.communicate()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if said:
        print(said, end="", file=sys.stderr)
    if stopped or process.returncode == INTERRUPTED:
        sys.exit(INTERRUPTED)
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        hint = ": supposedly the memory did not suffice" if name == "SIGKILL" else ""
        print(f"error: this run was ended by {name}{hint}", file=sys.stderr)


def searchpath() -> list[str]:
    """The override by which another composition finds the user's own YAMLs too, if there are any."""
    directories = ",".join(json.dumps(f"file://{path}", ensure_ascii=False) for path in own_directories())
    return [f"hydra.searchpath=[{directories}]"] if directories else []


class CompareRuns(Callback):
    """Hydra's callback at the end of a multirun (`hydra.callbacks` in configs/train.yaml): one report on its runs."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Compares them. Exits with status 1 where one has not finished, and 2 where they cannot be compared."""
        from heed.commands.compare import compare_runs

        if Path(sys.argv[0]).stem != "train":  # preparing has the same configuration
            return
        try:
            HydraConfig.instance().set_config(config)
            arguments: Any = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
            # What a YAML sweeps over comes first, as in Hydra.
            swept = (config.hydra.sweeper.get("params") or {}).items()
            arguments = [*(f"{key}={value}" for key, value in swept), *arguments]
            asked, notes = asked_for(arguments)
            if not asked:
                raise ValueError("nothing to compare; " + "; ".join(notes))
            first = next(iter(asked.values()))
            settings = compose("compare", ["runs=[]"])
            OmegaConf.set_struct(settings, False)
            settings.pop("fast")
            comparison = typed(CompareConfig, settings)
            comparison.search, comparison.split = asdict(first.search), first.test_split
            comparison.device = first.device
            summary = compare_runs(list(asked), comparison, "trained", notes)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(INTERRUPTED)
        except Exception as error:  # of which Hydra would make a warning, and go on as if all were well
            if os.environ.get("HYDRA_FULL_ERROR"):
                traceback.print_exc()
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        if notes or sum(len(one["runs"]) for one in summary["systems"].values()) < len(asked):
            sys.exit(1)


def asked_for(arguments: Sequence[str]) -> tuple[dict[str, TrainConfig], list[str]]:
    """The runs that a multirun's overrides ask for, by path, and a note on each job that none is of."""
    asked: dict[str, TrainConfig] = {}
    notes = []
    for job in jobs(arguments):
        try:
            composed = compose("train", [*job, *searchpath()], return_hydra_config=True)
            OmegaConf.set_struct(composed, False)
            names = choices(composed, composed.pop("hydra").runtime.choices)
            fast.enabled = composed.fast  # of the evaluations that are still to be made
            config = train_config(composed, names)
            trust(config)
            path = str(composed.run or default_path(names, config.seed, job))
            other = asked.get(path, config)
            if (relevant(other), other.search) != (relevant(config), config.search):
                raise ValueError(f"{path} is of another job; give each a run=… of its own")
            refuse_other(Run(path), config)
            asked[path] = config
        except ValueError as error:
            notes.append(f"left out, {' '.join(job)}: {error}")
    return asked, notes


def refuse_other(run: Run, asked: TrainConfig) -> None:
    """`ValueError` where the directory holds a run of before that is of another configuration, code or corpus."""
    run.check(asked)
    if run.begun:
        recipe = recipe_of(
            build_corpus(asked.data), build_tokenizer_settings(asked.tokenizer), asked.max_length
        )
        known = read_json(run.corpus_file)
        if any(known.get(key) != value for key, value in recipe.items()):
            raise ValueError(
                f"{run.path} was trained on another corpus: the data, or how heed prepares them, have changed since"
            )


def jobs(arguments: Sequence[str]) -> list[list[str]]:
    """The overrides of each job of a multirun, as Hydra combines them: of a key, the last counts."""
    parsed = OverridesParser.create(_config_loader()).parse_overrides(list(arguments))
    return BasicSweeper.split_arguments(parsed, None)[0]


def _config_loader() -> Any:
    """What `score=glob(*)` is looked up with, where Hydra runs."""
    running = GlobalHydra.instance()
    return running.config_loader() if running.is_initialized() else None
