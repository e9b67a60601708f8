"""Kills processes and damages files: `make torture KILLS=200 MUTATIONS=2000`. The fast suite does a few of each.

Every process is a real one. It is forked from a server that has imported torch, so that its start takes no time.
"""

import argparse
import json
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

from helpers.runs import config, processes, quick, shapes_checked
from helpers.training import TIMED, check_run, metrics
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tqdm import tqdm

from heed.config.components import build_corpus, build_tokenizer_settings
from heed.config.schema import CompareConfig, EvaluateConfig, MetricSettings, TrainConfig
from heed.data.prepare import ENCODED, Prepared
from heed.errors import UserError
from heed.evaluation.evaluate import find_earlier, identity, weight_digests
from heed.files.checksums import read_json, verify_digests
from heed.run.checkpoints import load_state, states
from heed.run.directory import Run
from heed.run.loading import load_run

KEEP = 2
SETTINGS = (
    "training.max_epochs=3",
    "training.batch_tokens=60",
    "training.save_every=3",
    f"training.keep={KEEP}",
    "training.num_samples=1",
    "training.precision=fp32",
)
FAULT_POINTS = ("fsync", "replace", "rename", "unlink")  # all calls that rename, remove or flush files
ENDS = (0, 130, -signal.SIGKILL, -signal.SIGTERM)  # 130: interrupted and saved
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


# The tasks of the processes


def train(settings: TrainConfig, run: Path) -> None:
    from heed.cli.train import train

    train(settings, run)


def prepare(settings: TrainConfig, run: Path) -> None:
    from heed.cli.prepare import prepare

    prepare(settings)


def evaluate(settings: TrainConfig, run: Path) -> None:
    from heed.evaluation.evaluate import evaluate

    evaluate(evaluation(settings, run), "beam")


def compare(settings: TrainConfig, run: Path) -> None:
    from heed.comparison.compare import compare_runs

    given = CompareConfig([], "test", asdict(settings.search), "cpu", 100, 100, str(run / "compare"))
    compare_runs([str(run)], given, "beam")


def evaluation(settings: TrainConfig, run: Path) -> EvaluateConfig:
    return EvaluateConfig(str(run), "best", "test", asdict(settings.search), MetricSettings(None, None, None), "cpu")


def act(task: Callable[..., None], arguments: tuple[Any, ...], said: Path, at: int, after: bool, passed: Any) -> None:
    """Run the task, and die at fault point `at`. Counts the fault points that it passes."""
    import torch

    torch.set_num_threads(1)
    calls = count()

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            number = next(calls)
            passed.value = number + 1
            if number == at and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = real(*given, **named)
            if number == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    for name in FAULT_POINTS:
        setattr(os, name, dying(getattr(os, name)))
    logging.disable(logging.WARNING)
    try:
        passed.value = 0
        try:
            with (
                open(said, "w", encoding="utf-8") as file,
                redirect_stdout(file),
                redirect_stderr(file),
                quick(),
            ):
                task(*arguments)
        finally:  # a later interrupt would hit multiprocessing's own code
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    except KeyboardInterrupt:
        sys.exit(130)


# Kills


class Killer:
    """Starts a task, kills it in one way or another, and counts the kills."""

    def __init__(self, directory: Path, seed: int):
        self.said, self.random = directory / "said.txt", random.Random(seed)
        self.kills: Counter[str] = Counter()
        self.points = processes.Value("i", 0, lock=False)  # a killed process would keep its lock

    def whole(self, task: Callable[..., None], *arguments: Any) -> tuple[float, int]:
        """Let a task end by itself. Returns its seconds, and the number of fault points that it passed."""
        start = time.perf_counter()
        self._ended(self._start(task, arguments), 0)
        return time.perf_counter() - start, self.points.value

    def kill(self, measured: tuple[float, int], task: Callable[..., None], *arguments: Any) -> bool:
        """Start a task and kill it at a fault point or at some moment. Returns True if it had ended before."""
        seconds, points = measured
        if self.random.random() < 0.5:
            after = self.random.random() < 0.5
            process = self._start(task, arguments, self.random.randrange(points), after)
            process.join()
            name = f"{task.__name__}: SIGKILL {'after' if after else 'before'} a fault point"
        else:
            number = self.random.choice(SIGNALS)
            process = self._start(task, arguments)
            while self.points.value < 0 and process.is_alive():  # it still runs multiprocessing's own code
                time.sleep(0.001)
            process.join(self.random.uniform(0, seconds))
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, number)
            name = f"{task.__name__}: {number.name} from outside"
        ended = self._ended(process, *ENDS)
        if ended:
            self.kills[name] += 1
        return not ended

    def _start(self, task: Callable[..., None], arguments: Any, at: int = -1, after: bool = False) -> Any:
        self.points.value = -1
        process = processes.Process(target=act, args=(task, arguments, self.said, at, after, self.points))
        process.start()
        return process

    def _ended(self, process: Any, *allowed: int) -> int:
        process.join(300)
        assert process.exitcode in allowed, (process.exitcode, self.said.read_text(encoding="utf-8"))
        return int(process.exitcode)


def torture_training(killer: Killer, directory: Path, kills: int, more: tuple[str, ...] = ()) -> None:
    """Train with at least so many kills, in as many runs as it takes. Each must equal the uninterrupted run."""
    settings = config(directory, *SETTINGS, *more)
    killer.whole(prepare, settings, directory)
    measured = killer.whole(train, settings, directory / "whole")
    done, runs = 0, 0
    with tqdm(total=kills, unit=" kills", desc="training", disable=None) as bar:
        while done < kills:
            run, step, last = directory / f"run{runs}", -1, False
            while not last:
                last = killer.kill(measured, train, settings, run)
                step = check_run(run, step, KEEP)
                done += not last
                bar.update(not last)
                if done >= kills and not last:
                    killer.whole(train, settings, run)
                    last = True
            same_runs(directory / "whole", run)
            shutil.rmtree(run)
            runs += 1


def same_runs(whole: Path, run: Path) -> None:
    """Compare weights, states, metrics, TensorBoard's steps and values, and translations, bit for bit."""
    files = [sorted(path.name for path in (one / "checkpoints").iterdir()) for one in (whole, run)]
    assert files[0] == files[1], files
    for name in files[0]:
        if name != "previous.safetensors":  # an interrupted run may have made the save before at another step
            contents = [(one / "checkpoints" / name).read_bytes() for one in (whole, run)]
            assert contents[0] == contents[1], name
    assert metrics(whole) == metrics(run)
    steps = [one["step"] for one in metrics(run)]
    assert steps and steps == sorted(steps)
    assert shown(whole) == shown(run)
    for name in ("hypotheses.txt", "alignments.npz", "sentences.jsonl"):
        contents = [(one / "eval/test-beam" / name).read_bytes() for one in (whole, run)]
        assert contents[0] == contents[1], name


def shown(run: Path) -> dict[str, list[tuple[int, Any]]]:
    """Return the steps and values that TensorBoard shows, by tag. No step may be there twice."""
    events = EventAccumulator(str(run / "tensorboard"), {"scalars": 0, "images": 0}).Reload()
    found: dict[str, list[tuple[int, Any]]] = {
        tag: [(one.step, None if tag in TIMED else one.value) for one in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }
    found |= {
        tag: [(one.step, one.encoded_image_string) for one in events.Images(tag)] for tag in events.Tags()["images"]
    }
    for tag, values in found.items():
        steps = [step for step, _ in values]
        assert steps == sorted(set(steps)), (tag, steps)
    return found


def torture_outputs(killer: Killer, directory: Path, kills: int) -> None:
    """Kill `prepare`, `evaluate` and `compare` so many times each: outputs are complete or absent, and the same."""
    settings = config(directory, *SETTINGS)
    killer.whole(train, settings, directory / "whole")
    for task, check, output in (
        (prepare, check_prepared, directory / "data"),
        (evaluate, check_evaluation, directory / "whole" / "eval"),
        (compare, check_comparison, directory / "whole" / "compare"),
    ):
        shutil.rmtree(output, ignore_errors=True)
        took = killer.whole(task, settings, directory / "whole")
        first = check(settings, directory / "whole", True)
        assert first is not None
        done = 0
        with tqdm(total=kills, unit=" kills", desc=task.__name__, disable=None) as bar:
            while done < kills:
                if killer.random.random() < 0.5:  # else over an earlier output
                    shutil.rmtree(output, ignore_errors=True)
                killed = not killer.kill(took, task, settings, directory / "whole")
                done += killed
                bar.update(killed)
                assert check(settings, directory / "whole", False) in (None, first)
        killer.whole(task, settings, directory / "whole")
        assert check(settings, directory / "whole", True) == first


def check_prepared(settings: TrainConfig, run: Path, ended: bool) -> object:
    """Return all bytes of the prepared corpus, or None if there is none. No leftovers may be there at the end."""
    root = Path(settings.data_dir)
    there = [path for path in root.glob("[!.]*") if path.is_dir()]
    assert not ended or not list(root.glob(".*.new"))
    for directory in there:
        prepared(settings, directory)
    return {path.name: path.read_bytes() for directory in there for path in directory.iterdir()} or None


def check_evaluation(settings: TrainConfig, run: Path, ended: bool) -> object:
    """Return the evaluation without its seconds, or None if there is none."""
    directory = run / "eval" / "test-beam"
    if not directory.exists():
        return None
    found = read_json(directory / "metrics.json")
    verify_digests(directory, found["files"], found["files"])
    assert not ended or not list(run.glob("eval/.test*"))
    return {key: found[key] for key in ("bleu", "chrf", "ter", "perplexity", "alignment_entropy")}


def check_comparison(settings: TrainConfig, run: Path, ended: bool) -> object:
    """Return the comparison's numbers, or None if there are none. Its page and its text must be complete."""
    directory = run / "compare"
    for name, end in (("compare.html", "</html>"), ("compare.md", ")")):
        if (directory / name).exists():
            assert (directory / name).read_text(encoding="utf-8").rstrip().endswith(end)
    if not (directory / "compare.json").exists():
        return None
    return json.loads((directory / "compare.json").read_text(encoding="utf-8"))


# Damaged files


def prepared(settings: TrainConfig, directory: Path) -> dict[str, Any]:
    """Return all that heed reads of a prepared corpus."""
    one = Prepared(directory, build_tokenizer_settings(settings.tokenizer))
    found: dict[str, Any] = {"stats": one.stats}
    for split in one.splits:
        if split in ENCODED:
            pairs = one.pairs(split)
            found[split] = [pairs.src.ids.tolist(), pairs.tgt.ids.tolist(), pairs.src.offsets.tolist()]
        found[f"{split} text"] = [list(side) for side in one.text(split)]
    return found


def uses(settings: TrainConfig, run: Path, corpus: Path) -> dict[str, Callable[[], Any]]:
    """Return everything that heed does with the files of a run and of its corpus."""
    one = Run(run)
    pairs = list(build_corpus(settings.data).pairs("test"))

    def weights(checkpoint: str) -> Any:
        model, tokenizers, trained = load_run(run, checkpoint)
        texts = tokenizers.src.pieces(range(len(tokenizers.src)))
        return [tensor.tolist() for tensor in model.state_dict().values()], texts, trained

    def state() -> Any:
        found = load_state(one.checkpoints)
        return repr(found) if found else "none"

    def log() -> Any:
        """Numbers may change unnoticed there: it is a log. Lines may not go missing unnoticed."""
        found = one.metrics(one.record()["lines"])
        assert all(isinstance(line["step"], int) for line in found)
        return len(found)

    def earlier_evaluation() -> Any:
        directory = run / "eval" / "test-beam"
        asked = evaluation(settings, run)
        found = find_earlier(directory, identity(asked, one.config(), pairs, weight_digests(asked)))
        if not found:  # it would be made again with the best weights
            return weights("best")
        return (
            found,
            (directory / "hypotheses.txt").read_text(),
            (directory / "sentences.jsonl").read_text(),
        )

    return {
        "best": lambda: weights("best"),
        "last": lambda: weights("last"),
        "kept": lambda: weights(max(path.stem for path in one.checkpoints.glob("step-*"))),
        "state": state,
        "record": one.record,
        "log": log,
        "evaluation": earlier_evaluation,
        "corpus": lambda: prepared(settings, corpus),
    }


class Heard(logging.Handler):
    """Keeps warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def listening() -> Iterator[list[str]]:
    """Yield the warnings that heed logs inside the block."""
    heard, logger = Heard(), logging.getLogger("heed")
    logger.addHandler(heard)
    propagated, logger.propagate = logger.propagate, False
    try:
        yield heard.messages
    finally:
        logger.removeHandler(heard)
        logger.propagate = propagated


def result_of(use: Callable[[], Any]) -> tuple[str, str]:
    """Return the result of a use, and its error and warnings."""
    with listening() as messages, shapes_checked(False):
        try:
            found = repr(use())
        except UserError as error:
            found = "refused"
            messages.append(str(error))
    return found, "\n".join(messages)


_opened: set[Path] | None = None


def _note_opened(event: str, arguments: tuple[Any, ...]) -> None:
    if _opened is not None and event == "open" and isinstance(arguments[0], str | os.PathLike):
        _opened.add(Path(arguments[0]).absolute())


sys.addaudithook(_note_opened)


@contextmanager
def opened_files() -> Iterator[set[Path]]:
    """Yield the files that Python opens inside the block. (safetensors opens files by itself, after their check.)"""
    global _opened
    _opened = found = set[Path]()
    try:
        yield found
    finally:
        _opened = None


def mutated(content: bytes, generator: random.Random) -> bytes:
    """Return the content with flipped, overwritten, removed or inserted bytes, with a cut end, or empty."""
    place = generator.randrange(len(content))
    end = min(len(content), place + generator.randrange(1, 64))
    return generator.choice(
        [
            content[:place] + bytes([content[place] ^ 1 << generator.randrange(8)]) + content[place + 1 :],
            content[:place] + bytes([(content[place] + generator.randrange(1, 256)) % 256]) + content[place + 1 :],
            content[:place] + bytes(end - place) + content[end:],
            content[:place] + content[end:],
            content[:place] + generator.randbytes(end - place) + content[place:],
            content[:place],
            content + generator.randbytes(end - place),
            b"",
        ]
    )


def torture_by_rot(killer: Killer, directory: Path, mutations: int) -> Counter[str]:
    """Damage the files of a run and its corpus, one at a time: the file is named, or the results are the same."""
    settings = config(directory, *SETTINGS)
    run = directory / "whole"
    if not (run / "eval").exists():
        killer.whole(train, settings, run)
    corpus = next(path for path in Path(settings.data_dir).glob("[!.]*") if path.is_dir())
    by_use = uses(settings, run, corpus)
    right, reads = {}, {}
    for name, use in by_use.items():
        with opened_files() as reads[name]:
            right[name] = result_of(use)
    assert not any(found == "refused" or said for found, said in right.values()), right
    read = [path for path in (*run.rglob("*"), *corpus.rglob("*")) if path.is_file() and path.stat().st_size]
    read = [path for path in read if "tensorboard" not in path.parts and path.name != ".lock"]
    assert states(run / "checkpoints"), read
    counts: Counter[str] = Counter()
    for number in tqdm(range(mutations), unit=" mutations", desc="rot", disable=None):
        path = read[number % len(read)]
        content = path.read_bytes()
        changed = content
        while changed == content:
            changed = mutated(content, killer.random)
        path.write_bytes(changed)
        kinds = set()
        for name, use in by_use.items():
            if path not in reads[name]:
                continue
            found, said = result_of(use)
            if found == right[name][0]:
                continue
            assert path.name in said, f"{path} was changed, and {name} went wrong unnoticed: {found[:300]} {said}"
            kinds.add("refused" if found == "refused" else "fallen back")
        path.write_bytes(content)
        if path.suffix in (".yaml", ".model", ".ids", ".offsets") or path.name in (
            "best.safetensors",
            "training.json",
        ):
            assert kinds, f"{path}: a change that was not noticed"
        counts[", ".join(sorted(kinds)) or "nothing comes of it"] += 1
    return counts


def main() -> None:
    """Kill and damage, and print a report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--kills", type=int, default=200, help="of training; of prepare, evaluate, compare a tenth each"
    )
    parser.add_argument("--mutations", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32), help="of the attacks")
    arguments = parser.parse_args()
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it warns of each restart
    print(f"seed {arguments.seed}")
    with tempfile.TemporaryDirectory() as temporary:
        directory, start = Path(temporary), time.perf_counter()
        killer = Killer(directory, arguments.seed)
        torture_training(killer, directory / "kills", arguments.kills)
        torture_outputs(killer, directory / "outputs", max(1, arguments.kills // 10))
        counts = torture_by_rot(killer, directory / "outputs", arguments.mutations)
    for name, number in sorted(killer.kills.items()):
        print(f"{number:6,}  {name}")
    print(f"{sum(killer.kills.values()):6,}  kills in all, and every run ended as if never killed")
    for name, number in sorted(counts.items()):
        print(f"{number:6,}  changed files: {name}")
    print(f"{sum(counts.values()):6,}  changed files in all, none of them used unnoticed")
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
