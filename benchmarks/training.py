"""Training: target tokens per second beside the textbook loop, the share of the machine's peak, memory, operators."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from torch import nn
from torch.profiler import ProfilerActivity, profile

from benchmarks.flops import training_flops
from benchmarks.prepare import SIZES
from benchmarks.textbook import textbook
from heed.config.model import build_model
from heed.config.schema import TrainConfig, train_config
from heed.config.sources import CONFIGS
from heed.data.batches import Batch, Batches
from heed.device import has_fast_bf16, keep_freed_memory, peak_memory
from heed.model import Seq2Seq
from heed.ops.linear import product
from heed.ops.loop import missing_for_compiling
from heed.ops.precision import precision as computing
from heed.run.directory import Run
from heed.score import Bahdanau
from heed.text import BOS, EOS, PAD
from heed.training.trainer import Trainer
from heed.training.validation import Validator

CPU = torch.device("cpu")
PRECISIONS = ("fp32", "auto") if has_fast_bf16(CPU) else ("fp32",)  # without fast bf16, auto is fp32
SCORES = ("bahdanau", "content", "dot", "general", "scaled_dot")
WIRINGS = {
    "luong": ("decoder=luong",),
    "luong-unfed": ("decoder=luong", "decoder.input_feeding=false"),
    "bahdanau": ("decoder=bahdanau",),
}
# The textbook's update has neither averaged weights nor a schedule.
BASE = ("data=multi30k", "training.ema_decay=0", "training.schedule=constant", "training.warmup_steps=0")
# The defaults of libgomp and oneDNN, which `set_up_threads` changes.
TORCHS = {"GOMP_SPINCOUNT": "300000", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "1024"}
PRODUCT = 2048  # rows and columns of the matrices whose product measures the peak
MIB = 2**20
WIDTH = 12  # of a column
SPEED = ("per second", "textbook", f"{'ratio (min..max)':>19}")  # columns


class Plan(NamedTuple):
    """The extent of a benchmark. The headline is the first score in the luong wiring with input feeding."""

    scores: tuple[str, ...] = SCORES
    wirings: tuple[str, ...] = tuple(WIRINGS)
    lstm: bool = True  # measure the headline with LSTM too
    rounds: int = 5
    num_batches: int = 4  # in a round of training
    batch_size: int = 64  # sentences
    decoding: tuple[tuple[int, int], ...] = ((1, 24), (64, 3))  # sentences in a batch, batches in a round
    energies: tuple[int, int, int, int] = (32, 400, 400, 512)  # B N S A
    startup_rounds: int = 3
    prepare_sizes: tuple[int, ...] = SIZES
    overrides: tuple[str, ...] = ()  # of the configuration


FEWER = Plan(rounds=3, num_batches=3, decoding=((1, 12), (64, 1)), startup_rounds=1, prepare_sizes=(1_000, 10_000))
QUICK = FEWER._replace(scores=("bahdanau",), wirings=("luong",), lstm=False)


def measure(plan: Plan) -> dict[str, Any]:
    """Measure all, print tables, and return the results."""
    keep_freed_memory()  # as scripts/train.py does
    peaks = {"fp32": matrix_peak(torch.float32), "bf16": matrix_peak(torch.bfloat16)}
    found = ", ".join(f"{name} {peak / 1e9:,.0f} GFLOP/s" for name, peak in peaks.items())
    print(f"matrix products: {found}; share: of this peak. per second: target tokens")
    print("memory: MiB above the peak before the first update. Each side has its own process:", end=" ")
    print("heed with its settings of allocator and threads, the textbook with torch's\n")
    line("cell", "score", "wiring", "precision", *SPEED, "share", "memory", "textbook", "memory ratio")
    rows = []
    models = [("gru", score, wiring) for score in plan.scores for wiring in plan.wirings]
    if plan.lstm:
        models.append(("lstm", plan.scores[0], "luong"))
    for cell, score, wiring in models:
        overrides = (f"score={score}", *WIRINGS[wiring], f"model.cell={cell}", *plan.overrides)
        for row in measure_model(overrides, plan, peaks):
            rows.append({"cell": cell, "score": score, "wiring": wiring, **row})
            memory = [f"{row[side]['growth'] / MIB:,.0f}" for side in ("memory", "textbook_memory")]
            shares = [f"{row['share_of_peak']:.1%}", *memory, f"{row['memory_ratio']:.2f}"]
            line(cell, score, wiring, row["precision"], *speed(row), *shares)
    print("\nluong without input feeding ÷ with, auto:")
    unfed = {score: measure_unfed(score, plan) for score in plan.scores}
    for score, ratio in unfed.items():
        line(score, interval(ratio))
    print("\nwhere the headline's time goes, auto:")
    top = top_operators((f"score={plan.scores[0]}", *WIRINGS["luong"], *plan.overrides), plan)
    for operator in top:
        line(f"{operator['share']:.1%}", f"{operator['calls']:,} calls", operator["name"][:80])

    B, N, S, A = plan.energies
    growth, at_once = in_child("energies", sizes=plan.energies)["growth"], 4 * B * N * S * A
    print(f"\nadditive energies and their gradient, B {B}, N = T {N}, S {S}, A {A}: {growth / MIB:,.0f} MiB;")
    print(f"all sums of a query and a key at once would be {at_once / MIB:,.0f} MiB\n", flush=True)
    energies = {"sizes": plan.energies, "growth": growth, "sums_at_once": at_once}
    return {"peaks": peaks, "models": rows, "unfed": unfed, "top_operators": top, "energies": energies}


def measure_model(overrides: Sequence[str], plan: Plan, peaks: dict[str, float]) -> list[dict[str, Any]]:
    """Return a row for each precision: speeds in tokens/s, their ratio, share of the peak, and bytes of memory."""
    config = configuration(*overrides)
    batches = synthetic(plan.num_batches, plan.batch_size, config)
    tokens = sum(int(batch.tgt_lengths.sum()) for batch in batches)
    model = make_model(config)
    per_token = sum(training_flops(model, batch) for batch in batches) / tokens
    sizes = {"num": plan.num_batches, "size": plan.batch_size}
    with ExitStack() as stack:
        updates: dict[str, Callable[[int], object]] = {}
        updates["textbook"] = stack.enter_context(textbook_process(overrides, **sizes))
        for precision in PRECISIONS:
            update = stack.enter_context(heed_update(config, precision, batches))
            updates[precision] = numbered(update, batches)
        speeds = compare(updates, range(len(batches)), tokens, plan.rounds)
    memory = {side: in_child("updates", side=side, overrides=overrides, **sizes) for side in updates}
    return [
        {
            "precision": precision,
            **speeds[precision],
            "textbook": speeds["textbook"]["per_second"],
            "share_of_peak": speeds[precision]["per_second"]["median"] * per_token / peaks[peak],
            "memory": memory[precision],
            "textbook_memory": memory["textbook"],
            "memory_ratio": memory[precision]["growth"] / max(1, memory["textbook"]["growth"]),
        }
        for precision, peak in zip(PRECISIONS, peaks, strict=False)
    ]


def measure_unfed(score: str, plan: Plan) -> dict[str, float]:
    """Return the speed of the luong wiring without input feeding divided by its speed with it, in `auto`."""
    with ExitStack() as stack:
        updates = {}
        for wiring in ("luong", "luong-unfed"):
            config = configuration(f"score={score}", *WIRINGS[wiring], *plan.overrides)
            batches = synthetic(plan.num_batches, plan.batch_size, config)
            updates[wiring] = stack.enter_context(heed_update(config, "auto", batches))
        ratio: dict[str, float] = compare(updates, batches, 1, plan.rounds)["luong-unfed"]["ratio"]
        return ratio


def top_operators(overrides: Sequence[str], plan: Plan) -> list[dict[str, Any]]:
    """Return the 12 operators that take most time in three updates in `auto`, and their shares.

    An operator's time does not include the operators that it calls.
    """
    config = configuration(*overrides)
    batches = synthetic(3, plan.batch_size, config)
    with heed_update(config, "auto", batches) as update, ExitStack() as stack:
        for i, batch in enumerate(batches * 2):
            if i == len(batches):  # the first updates are for warm-up
                profiled = stack.enter_context(profile(activities=[ProfilerActivity.CPU]))
            update(batch)
    events = sorted(profiled.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    return [
        {"name": event.key, "share": event.self_cpu_time_total / total, "calls": event.count} for event in events[:12]
    ]


def configuration(*overrides: str) -> TrainConfig:
    """Return the configuration that `scripts/train.py` would make of these overrides, on Multi30k."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return train_config(compose("train", [*BASE, *overrides]), {})


def make_model(config: TrainConfig) -> Seq2Seq:
    """Return the initialised model of a configuration."""
    return build_model(config, (config.tokenizer["vocab_size"],) * 2, joint=True)


def synthetic(num: int, size: int, config: TrainConfig) -> list[Batch]:
    """Return batches of `size` pairs of random ids, from short to long.

    The lengths are distributed as in Multi30k, German to English, with 8,000 joint pieces.
    """
    random = np.random.default_rng(1)
    first = random.normal(15.3, 5.7, 29_000)  # as many pairs as in Multi30k
    second = 3.5 + 0.73 * first + random.normal(0, 2.6, len(first))  # correlation 0.85
    src, tgt = (1 + x.round().clip(3, 40).astype(np.int64) for x in (first, second))  # EOS counted
    order = np.lexsort((np.where(tgt % 2, src, -src), tgt))  # the order of heed's batches
    batches = []
    for rows in spread([order[i : i + size] for i in range(0, len(order) - size + 1, size)], num):
        src_ids, tgt_ids = (_ids(x[rows], config.tokenizer["vocab_size"], random) for x in (src, tgt))
        tgt_in = np.pad(np.where(tgt_ids == EOS, PAD, tgt_ids)[:, :-1], ((0, 0), (1, 0)), constant_values=BOS)
        arrays = (src_ids, src[rows], tgt_in, tgt_ids, tgt[rows], rows)
        batches.append(Batch(*map(torch.from_numpy, arrays)))
    return batches


def _ids(lengths: Any, vocabulary: int, random: np.random.Generator) -> Any:
    ids = random.integers(4, vocabulary, (len(lengths), lengths.max()))
    ids[np.arange(lengths.max()) >= lengths[:, None]] = PAD
    ids[np.arange(len(lengths)), lengths - 1] = EOS
    return ids


def spread(items: Sequence[Any], num: int) -> list[Any]:
    """Return `num` items, evenly spread from the first to the last."""
    return [items[(2 * i + 1) * len(items) // (2 * num)] for i in range(min(num, len(items)))]


@contextmanager
def heed_update(config: TrainConfig, precision: str, batches: list[Batch]) -> Iterator[Callable[[Batch], object]]:
    """Yield a function that makes one update by heed's trainer, in a temporary run directory."""
    with TemporaryDirectory() as directory:
        some = cast(Batches, batches)  # the trainer needs only their number
        none = cast(Validator, None)  # there is no validation
        compiled = config.training.compile and not missing_for_compiling()
        run, context = Run(directory), computing(precision, CPU, compiled)
        trainer = Trainer(make_model(config), some, none, config.training, run, config.seed, CPU, context)
        yield lambda batch: trainer.update([batch])
        trainer.monitor.close()
        torch._dynamo.reset()  # forget the compiled code of this model


def textbook_update(config: TrainConfig) -> Callable[[Batch], None]:
    """Return the textbook's update in float32: loss, gradient, clipping, Adam, with heed's settings."""
    book, settings = textbook(make_model(config)).train(), config.training
    beta1, beta2 = settings.betas
    optimizer = torch.optim.Adam(book.parameters(), settings.learning_rate, (beta1, beta2))

    def update(batch: Batch) -> None:
        optimizer.zero_grad()
        (book.loss(batch, settings.label_smoothing) / int(batch.tgt_lengths.sum())).backward()
        nn.utils.clip_grad_norm_(book.parameters(), settings.clip_norm)
        optimizer.step()

    return update


def numbered(update: Callable[[Batch], object], batches: Sequence[Batch]) -> Callable[[int], object]:
    """Return a function that makes the update with batch i."""
    return lambda i: update(batches[i])


@contextmanager
def textbook_process(overrides: Sequence[str], num: int, size: int) -> Iterator[Callable[[int], object]]:
    """Yield a function that makes the textbook's update with batch i, in a process with torch's default settings."""
    arguments = json.dumps({"overrides": overrides, "num": num, "size": size})
    command = [sys.executable, "-m", "benchmarks.training", "serve", arguments]
    with subprocess.Popen(
        command,
        cwd=CONFIGS.parent,
        env=os.environ | TORCHS,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin and process.stdout
        orders, answers = process.stdin, process.stdout

        def update(i: int) -> None:
            print(i, file=orders, flush=True)
            if not answers.readline():
                raise RuntimeError("the textbook's process has died")

        yield update
        orders.close()


def serve(overrides: Sequence[str], num: int, size: int) -> None:
    """Make an update for each line of standard input. Runs in the child process."""
    config = configuration(*overrides)
    update, batches = textbook_update(config), synthetic(num, size, config)
    for order in sys.stdin:
        update(batches[int(order)])
        print("done", flush=True)


def compare(
    sides: Mapping[str, Callable[[Any], object]], items: Sequence[Any], amount: float, rounds: int
) -> dict[str, dict[str, Any]]:
    """Return each side's `amount` per second, and the ratio to the first side's speed, over the rounds.

    In a round each side does all items. The sides take turns in going first. An additional first round does not count.
    """
    names = list(sides)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for i in range(rounds + 1):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            start = time.perf_counter()
            for item in items:
                sides[name](item)
            seconds[name].append(time.perf_counter() - start)
    found = {}
    for name in names:
        pairs = list(zip(seconds[names[0]], seconds[name], strict=True))[1:]
        ratio = [first / own for first, own in pairs]
        found[name] = {"per_second": _spans([amount / own for _, own in pairs]), "ratio": _spans(ratio)}
    return found


def _spans(values: Sequence[float]) -> dict[str, float]:
    return {"median": median(values), "min": min(values), "max": max(values)}


def interval(values: dict[str, float]) -> str:
    """Return the median and the range for a table."""
    return f"{values['median']:.2f} ({values['min']:.2f}..{values['max']:.2f})".rjust(19)


def speed(row: dict[str, Any]) -> tuple[str, str, str]:
    """Return a row's speed, the textbook's speed and their ratio for a table."""
    return f"{row['per_second']['median']:,.1f}", f"{row['textbook']['median']:,.1f}", interval(row["ratio"])


def line(*cells: object) -> None:
    """Print a line of a table."""
    print(" ".join(f"{cell!s:>{WIDTH}}" for cell in cells), flush=True)


@torch.inference_mode()
def matrix_peak(dtype: torch.dtype) -> float:
    """Return the FLOP/s of the fastest of several products of square matrices, by torch or by heed."""
    a, b = torch.randn(2, PRODUCT, PRODUCT).to(dtype)
    sides = {"torch": lambda _: torch.mm(a, b), "heed": lambda _: product(a, b)}
    return float(max(one["per_second"]["max"] for one in compare(sides, [0], 2 * PRODUCT**3, 8).values()))


# Runs a command in a small process between: a child inherits the peak memory of its parent.
SMALL = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:]).returncode)"


def in_child(what: str, **arguments: Any) -> dict[str, int]:
    """Return the peak memory of a process that runs `updates` or `energies`, and its growth in the run, in bytes."""
    command = [sys.executable, "-m", "benchmarks.training", what, json.dumps(arguments)]
    small = [sys.executable, "-c", SMALL, *command]
    environment = os.environ | (TORCHS if arguments.get("side") == "textbook" else {})
    done = subprocess.run(small, cwd=CONFIGS.parent, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the measurement of memory failed: {done.stderr}")
    before, peak = json.loads(done.stdout)
    return {"growth": peak - before, "peak": peak}


def updates(side: str, overrides: Sequence[str], num: int, size: int) -> tuple[int, int]:
    """Make two updates with each batch. Returns the peak memory before and after. Runs in the child process.

    `side` is "textbook", or the precision that heed computes in.
    """
    config = configuration(*overrides)
    batches = synthetic(num, size, config)
    with ExitStack() as stack:
        if side == "textbook":
            update: Callable[[Batch], object] = textbook_update(config)
        else:
            keep_freed_memory()
            update = stack.enter_context(heed_update(config, side, batches))
        before = peak_memory(CPU)
        for batch in batches * 2:
            update(batch)
        return before, peak_memory(CPU)


def energies(sizes: Sequence[int]) -> tuple[int, int]:
    """Compute additive energies and their gradients. Returns the peak memory before and after. Runs in the child."""
    B, N, S, A = sizes
    score, query, states = Bahdanau(A, A), torch.randn(B, N, A), torch.randn(B, S, A)
    before = peak_memory(CPU)
    score(query, score.prepare(states)).sum().backward()
    return before, peak_memory(CPU)


if __name__ == "__main__":
    arguments = json.loads(sys.argv[2])
    if sys.argv[1] == "serve":
        serve(**arguments)
    else:
        print(json.dumps((updates if sys.argv[1] == "updates" else energies)(**arguments)))
