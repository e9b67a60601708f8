"""`make bench`, or `python -m benchmarks`: measures it all, prints tables, writes JSON."""

from heed.cli.process import set_up_threads

set_up_threads()  # before torch is imported

# isort: split

import json
import os
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import decoding, prepare, startup, training
from benchmarks.training import CPU, MIB, QUICK, SCORES, Plan, line
from heed.device import cpu_name, has_fast_bf16
from heed.run.directory import Run

PARTS = (
    "decoding",
    "training",
    "startup",
    "prepare",
)  # decoding first: training changes the allocator for good


def main(arguments: Sequence[str] | None = None, plan: Plan | None = None) -> None:
    """Measures the parts that are asked for, in a plan of its own or in the one given."""
    parser = ArgumentParser(prog="python -m benchmarks", description="Measures heed against a textbook loop.")
    parser.add_argument("--quick", action="store_true", help="less of everything: under three minutes")
    parser.add_argument("--only", default=",".join(PARTS), help="some of %(default)s")
    parser.add_argument("--score", help="one score instead of all: " + ", ".join(SCORES))
    parser.add_argument("--run", help="a trained run directory, to decode with; by default untrained weights")
    parser.add_argument("--out", type=Path, default=Path("bench.json"), help="default: %(default)s")
    chosen = parser.parse_args(arguments)
    only = chosen.only.split(",")
    if unknown := set(only) - set(PARTS):
        parser.error(f"--only takes some of {', '.join(PARTS)}, not {', '.join(sorted(unknown))}")
    if chosen.score and chosen.score not in SCORES:
        parser.error(f"--score takes one of {', '.join(SCORES)}, not {chosen.score}")
    if chosen.run and Run(chosen.run).config().model.embedding_skip:
        parser.error(f"--run {chosen.run} has model.embedding_skip, which the textbook's model has not")
    plan = plan or (QUICK if chosen.quick else Plan())
    if chosen.score:
        plan = plan._replace(scores=(chosen.score,))

    results: dict[str, Any] = {"machine": machine(), "quick": chosen.quick}
    print(", ".join(f"{key} {value}" for key, value in results["machine"].items()) + "\n", flush=True)
    for part in PARTS:
        if part in only:
            print(f"# {part}\n", flush=True)
            results[part] = measure(part, plan, chosen.run)
            chosen.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(f"\nwritten: {chosen.out}")


def measure(part: str, plan: Plan, run: str | None) -> dict[str, Any]:
    """Measures and prints one part."""
    if part == "decoding":
        return decoding.measure(plan, run)
    if part == "training":
        return training.measure(plan)
    if part == "startup":
        waits = startup.measure(plan.startup_rounds)
        for what, seconds in waits.items():
            print(f"{what.replace('_', ' '):18} {seconds['median']:.2f} s")
        print()
        return dict(waits)
    results = prepare.measure(plan.prepare_sizes)
    line("pairs", "seconds", "pairs/s", "MiB")
    for one in results["sizes"]:
        speed, memory = f"{one['pairs_per_second']:,.0f}", f"{one['peak_bytes'] / MIB:,.0f}"
        line(f"{one['pairs']:,}", f"{one['seconds']:.2f}", speed, memory)
    print(f"memory, largest over smallest: {results['memory_ratio']:.2f}")
    return results


def machine() -> dict[str, Any]:
    """What was measured on, and when."""
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "auto": "bf16" if has_fast_bf16(CPU) else "fp32",
        "date": time.strftime("%Y-%m-%d %H:%M"),
    }


if __name__ == "__main__":
    main()
