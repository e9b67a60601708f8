"""Kills and rot, as often as wanted: `make torture KILLS=200 MUTATIONS=2000`. The fast suite does a few of each.

Every process is a real one, forked from a server that has torch loaded, so that a start takes no time.
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

from helpers.runs import config, processes
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tqdm import tqdm

from heed.config.components import build_corpus, build_tokenizer_settings
from heed.config.schema import CompareConfig, EvaluateConfig, MetricSettings, TrainConfig
from heed.data.prepare import ENCODED, Prepared
from heed.evaluation.evaluate import find_earlier, identity, weight_digests
from heed.files.checksums import read_json, verify_digests
from heed.run.checkpoints import load_state, states
from heed.run.directory import Run
from heed.run.loading import load_run

KEEP = 2
SETTINGS = (
    "training.max_epochs=4",
    "training.save_every=3",
    f"training.keep={KEEP}",
    "training.precision=fp32",
)
TIMED = ("train/tokens_per_second",)  # the only metric that depends on the clock
FAULT_POINTS = (
    "fsync",
    "replace",
    "rename",
    "unlink",
)  # all that changes what files are called, and that they last
ENDS = (0, 130, -signal.SIGKILL, -signal.SIGTERM)  # 130: interrupted and saved
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


# What the processes do.


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
    return EvaluateConfig(
        str(run), "best", "test", asdict(settings.search), MetricSettings(None, None, None), "cpu"
    )


def act(
    task: Callable[..., None], arguments: tuple[Any, ...], said: Path, at: int, after: bool, passed: Any
) -> None:
    """Runs the task, and dies at a fault point; counts those that it passes."""
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
            with open(said, "w", encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
                task(*arguments)
        finally:  # an interrupt that comes later is one of multiprocessing's own code
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    except KeyboardInterrupt:
        sys.exit(130)


# Killing them.


class Killer:
    """Starts a task again and again, kills it in one way or another, and keeps count."""

    def __init__(self, directory: Path, seed: int):
        self.said, self.random = directory / "said.txt", random.Random(seed)
        self.kills: Counter[str] = Counter()
        self.points = processes.Value("i", 0, lock=False)  # whoever is killed would keep its lock

    def whole(self, task: Callable[..., None], *arguments: Any) -> tuple[float, int]:
        """Lets it end by itself. Seconds, and how many fault points it passed."""
        start = time.perf_counter()
        self._ended(self._start(task, arguments), 0)
        return time.perf_counter() - start, self.points.value

    def kill(self, measured: tuple[float, int], task: Callable[..., None], *arguments: Any) -> bool:
        """One attempt, killed at a fault point or at some moment; whether it had ended by itself before."""
        seconds, points = measured
        if self.random.random() < 0.5:
            after = self.random.random() < 0.5
            process = self._start(task, arguments, self.random.randrange(points), after)
            process.join()
            name = f"{task.__name__}: SIGKILL {'after' if after else 'before'} a fault point"
        else:
            number = self.random.choice(SIGNALS)
            process = self._start(task, arguments)
            while self.points.value < 0 and process.is_alive():  # still multiprocessing's own code
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
    """Trains in pieces, with at least so many kills, in as many runs as it takes; each equals the uninterrupted one."""
    settings = config(directory, *SETTINGS, *more)
    killer.whole(prepare, settings, directory)
    measured = killer.whole(train, settings, directory / "whole")
    done, runs = 0, 0
    with tqdm(total=kills, unit=" kills", desc="training", disable=None) as bar:
        while done < kills:
            run, step, last = directory / f"run{runs}", -1, False
            while not last:
                last = killer.kill(measured, train, settings, run)
                step = check_run(run, step)
                done += not last
                bar.update(not last)
                if done >= kills and not last:
                    killer.whole(train, settings, run)
                    last = True
            same_runs(directory / "whole", run)
            shutil.rmtree(run)
            runs += 1


def same_runs(whole: Path, run: Path) -> None:
    """Weights, states, metrics, TensorBoard's steps and values, translations: bit for bit."""
    files = [sorted(path.name for path in (one / "checkpoints").iterdir()) for one in (whole, run)]
    assert files[0] == files[1], files
    for name in files[0]:
        if (
            name != "previous.safetensors"
        ):  # that of the save before, which an interrupted run may have elsewhere
            assert (whole / "checkpoints" / name).read_bytes() == (run / "checkpoints" / name).read_bytes(), (
                name
            )
    assert measured(whole) == measured(run)
    assert shown(whole) == shown(run)
    for name in ("hypotheses.txt", "alignments.npz", "sentences.jsonl"):
        assert (whole / "eval/test-beam" / name).read_bytes() == (
            run / "eval/test-beam" / name
        ).read_bytes(), name


def measured(run: Path) -> list[dict[str, Any]]:
    """Its `metrics.jsonl`, but for what the clock says."""
    found = [{key: value for key, value in one.items() if key not in TIMED} for one in Run(run).metrics()]
    assert found and [one["step"] for one in found] == sorted(one["step"] for one in found)
    return found


def shown(run: Path) -> dict[str, list[tuple[int, Any]]]:
    """What TensorBoard shows of it: steps and values by tag; no step twice."""
    events = EventAccumulator(str(run / "tensorboard"), {"scalars": 0, "images": 0}).Reload()
    found: dict[str, list[tuple[int, Any]]] = {
        tag: [(one.step, None if tag in TIMED else one.value) for one in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }
    found |= {
        tag: [(one.step, one.encoded_image_string) for one in events.Images(tag)]
        for tag in events.Tags()["images"]
    }
    for tag, values in found.items():
        steps = [step for step, _ in values]
        assert steps == sorted(set(steps)), (tag, steps)
    return found


def torture_outputs(killer: Killer, directory: Path, kills: int) -> None:
    """`prepare`, `evaluate` and `compare`, each killed so many times: whole or not there, and in the end the same."""
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
    """All bytes of the prepared corpus, or None where there is none; no leftovers once a later command has ended."""
    root = Path(settings.data_dir)
    there = [path for path in root.glob("[!.]*") if path.is_dir()]
    assert not ended or not list(root.glob(".*.new"))
    for directory in there:
        prepared(settings, directory)
    return {path.name: path.read_bytes() for directory in there for path in directory.iterdir()} or None


def check_evaluation(settings: TrainConfig, run: Path, ended: bool) -> object:
    """The evaluation but for its seconds, or None where there is none."""
    directory = run / "eval" / "test-beam"
    if not directory.exists():
        return None
    scores = read_json(directory / "metrics.json")
    verify_digests(directory, scores["files"], scores["files"])
    assert not ended or not list(run.glob("eval/.test*"))
    return {key: scores[key] for key in ("bleu", "chrf", "ter", "perplexity", "alignment_entropy")}


def check_comparison(settings: TrainConfig, run: Path, ended: bool) -> object:
    """The comparison's numbers, or None where there are none; its page and its text are whole."""
    directory = run / "compare"
    for name, end in (("compare.html", "</html>"), ("compare.md", ")")):
        if (directory / name).exists():
            assert (directory / name).read_text(encoding="utf-8").rstrip().endswith(end)
    if not (directory / "compare.json").exists():
        return None
    return json.loads((directory / "compare.json").read_text(encoding="utf-8"))


# Rot.


def prepared(settings: TrainConfig, directory: Path) -> dict[str, Any]:
    """All that heed reads of a prepared corpus."""
    one = Prepared(directory, build_tokenizer_settings(settings.tokenizer))
    found: dict[str, Any] = {"stats": one.stats}
    for split in one.splits:
        if split in ENCODED:
            pairs = one.pairs(split)
            found[split] = [pairs.src.ids.tolist(), pairs.tgt.ids.tolist(), pairs.src.offsets.tolist()]
        found[f"{split} text"] = [list(side) for side in one.text(split)]
    return found


def uses(settings: TrainConfig, run: Path, corpus: Path) -> dict[str, Callable[[], Any]]:
    """Everything that heed does with the files of a run and of its corpus."""
    one = Run(run)
    pairs = list(build_corpus(settings.data).pairs("test"))

    def weights(checkpoint: str) -> Any:
        model, tokenizers, trained = load_run(run, checkpoint)
        texts = tokenizers.src.pieces(range(len(tokenizers.src)))
        return [tensor.tolist() for tensor in model.state_dict().values()], texts, trained

    def state() -> Any:
        found = load_state(one.checkpoints)
        return repr(found) if found else "none"

    def scores() -> Any:
        directory = run / "eval" / "test-beam"
        asked = evaluation(settings, run)
        found = find_earlier(directory, identity(asked, one.config(), pairs, weight_digests(asked)))
        if not found:  # it would be made again, by the best weights
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
        "metrics": lambda: one.metrics(one.record()["lines"]),
        "scores": scores,
        "corpus": lambda: prepared(settings, corpus),
    }


class Heard(logging.Handler):
    """What was warned of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def listening() -> Iterator[list[str]]:
    """The warnings within."""
    heard, logger = Heard(), logging.getLogger("heed")
    logger.addHandler(heard)
    propagated, logger.propagate = logger.propagate, False
    try:
        yield heard.messages
    finally:
        logger.removeHandler(heard)
        logger.propagate = propagated


def result_of(use: Callable[[], Any]) -> tuple[str, str]:
    """What came of it, and what was said."""
    with listening() as messages:
        try:
            found = repr(use())
        except (ValueError, OSError) as error:
            found = "refused"
            messages.append(str(error))
    return found, "\n".join(messages)


def mutated(content: bytes, generator: random.Random) -> bytes:
    """With a bit or a byte flipped, bytes overwritten, cut out or put in, the end cut off, or nothing left."""
    place = generator.randrange(len(content))
    end = min(len(content), place + generator.randrange(1, 64))
    return generator.choice(
        [
            content[:place] + bytes([content[place] ^ 1 << generator.randrange(8)]) + content[place + 1 :],
            content[:place]
            + bytes([(content[place] + generator.randrange(1, 256)) % 256])
            + content[place + 1 :],
            content[:place] + bytes(end - place) + content[end:],
            content[:place] + content[end:],
            content[:place] + generator.randbytes(end - place) + content[place:],
            content[:place],
            content + generator.randbytes(end - place),
            b"",
        ]
    )


def torture_by_rot(killer: Killer, directory: Path, mutations: int) -> Counter[str]:
    """Changes the files of a run and its corpus one at a time: noticed and named, or nothing comes of it."""
    settings = config(directory, *SETTINGS)
    run = directory / "whole"
    if not (run / "eval").exists():
        killer.whole(train, settings, run)
    corpus = next(path for path in Path(settings.data_dir).glob("[!.]*") if path.is_dir())
    by_use = uses(settings, run, corpus)
    right = {name: result_of(use) for name, use in by_use.items()}
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
            found, said = result_of(use)
            if found == right[name][0]:
                continue
            assert path.name in said, (
                f"{path} was changed, and {name} went wrong unnoticed: {found[:300]} {said}"
            )
            kinds.add("refused" if found == "refused" else "fallen back")
        path.write_bytes(content)
        if path.suffix in (".yaml", ".model", ".ids", ".offsets") or path.name in (
            "best.safetensors",
            "training.json",
        ):
            assert kinds, f"{path}: a change that nobody noticed"
        counts[", ".join(sorted(kinds)) or "nothing comes of it"] += 1
    return counts


def main() -> None:
    """The whole, with a report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--kills", type=int, default=200, help="of training; of prepare, evaluate, compare a tenth each"
    )
    parser.add_argument("--mutations", type=int, default=2000)
    parser.add_argument(
        "--seed", type=int, default=random.SystemRandom().randrange(1 << 32), help="of the attacks"
    )
    arguments = parser.parse_args()
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it tells of each restart
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
