"""Many runs by one command: `scripts/train.py --multirun score=dot,general seed=1,2,3`, then a report on all."""

import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from typing import Any

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from heed.cli.command import choices, overrides, set_fast
from heed.config.components import build_corpus, build_tokenizer_settings, trust
from heed.config.schema import CompareConfig, TrainConfig, train_config, typed
from heed.config.sources import CONFIGS, user_config_dirs
from heed.data.prepare import recipe_of
from heed.errors import UserError
from heed.files.checksums import read_json
from heed.run.directory import Run
from heed.run.identity import default_path, relevant
from heed.training.signals import INTERRUPTED, stopping_signals


def train_in_subprocess() -> None:
    """Run this job by a command in a new process, with its own memory. Its failure does not end the multirun.

    Every Ctrl-C is handed on to the run. Of SIGTERM and SIGHUP only the first signal is: job schedulers may send
    several. The run saves itself, and the multirun ends. (joblib kills its workers within seconds after Ctrl-C.)
    """
    hydra = HydraConfig.get()
    print(f"# run {int(hydra.job.num) + 1}: {' '.join(overrides())}", flush=True)
    command = [sys.executable, str(CONFIGS.parent / "scripts" / "train.py"), *overrides(), *searchpath()]
    # Progress bars of several runs at a time would overwrite each other. Into a pipe none is drawn.
    alone = "basic" in str(hydra.launcher._target_).lower()
    received, status, errors = _run_with_signals(command, None if alone else subprocess.PIPE)
    if errors:
        print(errors, end="", file=sys.stderr)
    if received or status == INTERRUPTED:
        sys.exit(INTERRUPTED)
    if status < 0:
        name = signal.Signals(-status).name
        hint = ": probably out of memory" if name == "SIGKILL" else ""
        print(f"error: this run was ended by {name}{hint}", file=sys.stderr)


def _run_with_signals(command: Sequence[str], stderr: int | None) -> tuple[list[int], int, str | None]:
    """Run a command and hand signals on to it. Returns the signals received, the exit status and standard error.

    The handlers are set before the process begins, so that no signal can end this process and leave the other alone.
    """
    received: list[int] = []
    waiting: list[int] = []  # signals to be sent
    process: subprocess.Popen[str] | None = None

    def hand_on(number: int, frame: object) -> None:
        if number == signal.SIGINT or not received:
            waiting.append(number)
        received.append(number)
        send()

    def send() -> None:
        while process is not None and waiting:
            process.send_signal(waiting.pop())

    before = {number: signal.signal(number, hand_on) for number in stopping_signals()}
    try:
        process = subprocess.Popen(command, stderr=stderr, text=True, start_new_session=True)
        send()
        _, errors = process.communicate()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return received, process.returncode, errors


def searchpath() -> list[str]:
    """Return the override by which another composition finds the user's own YAMLs too, if there are any."""
    directories = ",".join(json.dumps(f"file://{path}", ensure_ascii=False) for path in user_config_dirs())
    return [f"hydra.searchpath=[{directories}]"] if directories else []


class CompareRuns(Callback):
    """Hydra's callback at the end of a multirun (`hydra.callbacks` in configs/train.yaml): one report on its runs."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Compare the runs. Exits with status 1 if one has not finished, and 2 if they cannot be compared."""
        if config.hydra.job.name != "train":  # `prepare` has the same configuration
            return
        try:
            HydraConfig.instance().set_config(config)
            arguments: Any = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
            # Sweeps in a YAML come first, as in Hydra.
            swept = (config.hydra.sweeper.get("params") or {}).items()
            requested, notes = requested_runs([*(f"{key}={value}" for key, value in swept), *arguments])
            if not requested:
                raise UserError("nothing to compare; " + "; ".join(notes))
            complete = compare_requested(requested, notes)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(INTERRUPTED)
        except Exception as error:  # Hydra would print a warning and exit with status 0
            if os.environ.get("HYDRA_FULL_ERROR") or not isinstance(error, UserError):
                traceback.print_exc()
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        if not complete:
            sys.exit(1)


def compare_requested(requested: dict[str, TrainConfig], notes: Sequence[str]) -> bool:
    """Compare the runs as the first one's configuration says. Returns True if all jobs are in the report."""
    from heed.comparison.compare import compare_runs

    first = next(iter(requested.values()))
    settings = compose("compare", ["runs=[]"])
    OmegaConf.set_struct(settings, False)
    settings.pop("fast")
    comparison = typed(CompareConfig, settings)
    comparison.search, comparison.split = asdict(first.search), first.test_split
    comparison.device = first.device
    summary = compare_runs(list(requested), comparison, "trained", notes=notes)
    compared = sum(len(one["runs"]) for one in summary["systems"].values())
    return not notes and compared == len(requested)


def requested_runs(arguments: Sequence[str]) -> tuple[dict[str, TrainConfig], list[str]]:
    """Return the runs that a multirun's overrides ask for, by path, and a note on each job without one."""
    requested: dict[str, TrainConfig] = {}
    notes = []
    for job in jobs(arguments):
        try:
            composed = compose("train", [*job, *searchpath()], return_hydra_config=True)
            OmegaConf.set_struct(composed, False)
            names = choices(composed, composed.pop("hydra").runtime.choices)
            set_fast(composed)  # for evaluations that are yet to be made
            config = train_config(composed, names)
            trust(config)
            path = str(composed.run or default_path(names, config.seed, job))
            other = requested.get(path, config)
            if (relevant(other), other.search) != (relevant(config), config.search):
                raise UserError(f"{path} belongs to another job; give each job its own run=…")
            refuse_other(Run(path), config)
            requested[path] = config
        except UserError as error:
            notes.append(f"left out, {' '.join(job)}: {error}")
    return requested, notes


def refuse_other(run: Run, requested: TrainConfig) -> None:
    """Raise `UserError` if the directory holds an earlier run of another configuration, code or corpus."""
    run.check(requested)
    if run.begun:
        recipe = recipe_of(
            build_corpus(requested.data), build_tokenizer_settings(requested.tokenizer), requested.max_length
        )
        known = read_json(run.corpus_file)
        if any(known.get(key) != value for key, value in recipe.items()):
            raise UserError(
                f"{run.path} was trained on another corpus: the data, or how heed prepares them, have changed"
            )


def jobs(arguments: Sequence[str]) -> list[list[str]]:
    """Return the overrides of each job of a multirun, as Hydra combines them. The last value of a key counts."""
    running = GlobalHydra.instance()
    loader = running.config_loader() if running.is_initialized() else None  # looks up `score=glob(*)`
    values: dict[str, list[str]] = {}
    for override in OverridesParser.create(loader).parse_overrides(list(arguments)):
        key = override.get_key_element()
        many = override.is_sweep_override()
        one = override.get_value_element_as_str
        values[key] = [f"{key}={value}" for value in (override.sweep_string_iterator() if many else [one()])]
    return [list(job) for job in product(*values.values())]
