"""Run the benchmarks, print tables, and write JSON: `make bench` or `python -m benchmarks`."""

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

# Decoding comes first: training changes the allocator until the process ends.
PARTS = ("decoding", "training", "startup", "prepare")


def main(arguments: Sequence[str] | None = None, plan: Plan | None = None) -> None:
    """Measure the chosen parts, by the given plan or by the plan that the arguments choose."""
    parser = ArgumentParser(prog="python -m benchmarks", description="Measure heed against a textbook loop.")
    parser.add_argument("--quick", action="store_true", help="smaller benchmarks: under three minutes")
    parser.add_argument("--only", default=",".join(PARTS), help="some of %(default)s")
    parser.add_argument("--score", help="one score instead of all: " + ", ".join(SCORES))
    parser.add_argument("--run", help="decode with this trained run instead of untrained weights")
    parser.add_argument("--out", type=Path, default=Path("bench.json"), help="default: %(default)s")
    chosen = parser.parse_args(arguments)
    only = chosen.only.split(",")
    if unknown := set(only) - set(PARTS):
        parser.error(f"--only takes some of {', '.join(PARTS)}, not {', '.join(sorted(unknown))}")
    if chosen.score and chosen.score not in SCORES:
        parser.error(f"--score takes one of {', '.join(SCORES)}, not {chosen.score}")
    if chosen.run and Run(chosen.run).config().model.embedding_skip:
        parser.error(f"--run {chosen.run} has model.embedding_skip, which the textbook's model does not have")
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
    """Measure one part, and print the results."""
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
    """Return the machine, its settings and the date."""
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
