"""The speed of `scripts/prepare.py`, and its memory for corpora of different sizes."""

import json
import subprocess
import sys
from collections.abc import Iterable
from itertools import cycle, islice
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from heed.data.grammar.sentences import sentence

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "prepare.py"
SIZES = (10_000, 100_000, 1_000_000)  # pairs
POOL = 100_000  # sentences from the grammar; a larger corpus repeats them
HELD_OUT = 1_000

# Runs a command, and prints its seconds and its peak memory in bytes. This takes a small process: a child inherits the
# peak memory of its parent, and the benchmark itself is larger than the command that it measures.
PROBE = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
done = subprocess.run(sys.argv[1:], capture_output=True, text=True)
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps([seconds, peak]))
sys.exit(done.stderr if done.returncode else 0)
"""


def measure(sizes: tuple[int, ...] = SIZES) -> dict[str, Any]:
    """Return the command's seconds, pairs per second and peak memory in bytes, for each number of pairs.

    `memory_ratio` is the peak of the last size divided by the peak of the first size. The corpora are plain files of
    English and German sentences from the grammar. The time to make them does not count.
    """
    random = Random(1)
    pool = [sentence(random)[:2] for _ in range(min(POOL, max(sizes)))]
    results = []
    for size in sizes:
        with TemporaryDirectory() as temporary:
            directory = Path(temporary)
            for split, num in (("train", size), ("val", HELD_OUT), ("test", HELD_OUT)):
                _write(directory, split, islice(cycle(pool), num))
            files = ("data=files", "data.src=en", "data.tgt=de", f"data.source={directory}")
            command = [sys.executable, str(SCRIPT), *files, f"data_dir={directory}"]
            done = subprocess.run([sys.executable, "-c", PROBE, *command], capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"prepare failed: {done.stderr}")
            seconds, peak = json.loads(done.stdout)
            results.append({"pairs": size, "seconds": seconds, "pairs_per_second": size / seconds, "peak_bytes": peak})
    return {"sizes": results, "memory_ratio": results[-1]["peak_bytes"] / results[0]["peak_bytes"]}


def _write(directory: Path, split: str, pairs: Iterable[tuple[str, str]]) -> None:
    with (
        open(directory / f"{split}.en", "w", encoding="utf-8") as src,
        open(directory / f"{split}.de", "w", encoding="utf-8") as tgt,
    ):
        for en, de in pairs:
            src.write(en + "\n")
            tgt.write(de + "\n")


def main() -> None:
    """Print a line for each size, and the ratio of memory."""
    measured = measure()
    for one in measured["sizes"]:
        print(
            f"{one['pairs']:9,} pairs {one['seconds']:6.2f} s {one['pairs_per_second']:9,.0f} pairs/s "
            f"{one['peak_bytes'] / 2**20:6.0f} MiB"
        )
    print(f"memory, largest over smallest: {measured['memory_ratio']:.2f}")


if __name__ == "__main__":
    main()
