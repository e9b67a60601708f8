"""Train for minutes, translate 200,000 lines, and watch memory, files, threads and disk.

`make soak MINUTES=30 LINES=200000`. Logs (`metrics.jsonl`, TensorBoard's events) grow by design. They are reported
separately.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from threading import Thread

import numpy as np
from helpers.runs import ROOT, overrides
from tqdm import tqdm

WARM_UP = 0.2  # of the time. Its figures do not count
LOGS = ("metrics.jsonl", "tensorboard")
TRAINING = (
    "training.max_epochs=1000000", "training.validate_every=100", "training.save_every=25", "training.keep=3",
    "training.precision=fp32", "training.log_every=50",
)  # fmt: skip


def resources(process: int) -> dict[str, float]:
    """Return the resources of a running process, as /proc has them."""
    proc = Path(f"/proc/{process}")
    status = dict(line.split(":", 1) for line in (proc / "status").read_text().split("\n") if ":" in line)
    return {
        "resident MiB": int(status["VmRSS"].split()[0]) / 1024,
        "open files": len(list((proc / "fd").iterdir())),
        "threads": int(status["Threads"]),
    }


def disk(run: Path) -> dict[str, float]:
    """Return the KiB of a run's logs, and of all its other files."""
    sizes = {"logs KiB": 0.0, "disk KiB without logs": 0.0}
    for path in run.rglob("*"):
        try:
            size = path.stat().st_size / 1024 if path.is_file() else 0
        except FileNotFoundError:  # renamed meanwhile
            continue
        sizes["logs KiB" if path.relative_to(run).parts[0] in LOGS else "disk KiB without logs"] += size
    return sizes


def watch(process: "subprocess.Popen[str]", minutes: float, run: Path | None) -> list[dict[str, float]]:
    """Return the resources of a process every two seconds, until it ends or the time has passed."""
    seen, start = [], time.monotonic()
    with tqdm(total=round(minutes * 60), unit=" s", disable=None) as bar:
        while process.poll() is None and time.monotonic() - start < minutes * 60:
            elapsed = time.monotonic() - start
            try:
                seen.append({"minutes": elapsed / 60, **resources(process.pid), **(disk(run) if run else {})})
            except (FileNotFoundError, KeyError):  # it has just ended
                break
            bar.update(round(elapsed) - bar.n)
            time.sleep(2)
    return seen


def report(title: str, seen: list[dict[str, float]]) -> None:
    """Print the range and the slope of each figure after the warm-up."""
    after = seen[int(len(seen) * WARM_UP) :]
    print(f"{title}: {seen[-1]['minutes']:.1f} minutes, {len(seen)} samples; after the first fifth:")
    minutes = np.array([one["minutes"] for one in after])
    for name in after[0]:
        if name != "minutes":
            values = np.array([one[name] for one in after])
            slope = float(np.polyfit(minutes, values, 1)[0])
            print(f"  {name:22} {values.min():10,.1f} to {values.max():10,.1f}, {slope:+8.3f} a minute")


def start(name: str, *arguments: str, **options: object) -> "subprocess.Popen[str]":
    """Start a script on one thread."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / f"{name}.py"), *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        text=True,
        **options,  # type: ignore[call-overload]
    )


def main() -> None:
    """Train and translate, and print a report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--lines", type=int, default=200_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        run = directory / "run"
        with open(directory / "said", "w", encoding="utf-8") as said:
            process = start("train", *overrides(directory), *TRAINING, f"run={run}", stdout=said, stderr=said)
            seen = watch(process, arguments.minutes, run)
            process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 130, (directory / "said").read_text(encoding="utf-8")
        report("training", seen)
        process = start("translate", f"run={run}", "search=greedy", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin and process.stdout

        def feed(stream=process.stdin) -> None:  # type: ignore[no-untyped-def]
            for number in range(arguments.lines):
                stream.write(("ene mene muh und raus bist du " * (1 + number % 5)).strip() + "\n")
            stream.close()

        got: list[int] = [0]

        def count(stream=process.stdout) -> None:  # type: ignore[no-untyped-def]
            for _ in stream:
                got[0] += 1

        threads = [Thread(target=feed), Thread(target=count)]
        for thread in threads:
            thread.start()
        seen = watch(process, 600, None)
        for thread in threads:
            thread.join()
        assert process.wait(60) == 0 and got[0] == arguments.lines, got
        report(f"translating {got[0]:,} lines, as many out as in", seen)


if __name__ == "__main__":
    main()
