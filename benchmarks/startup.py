"""The time that a user waits for `--help`, for the first training step, and for the first translation."""

import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
TINY = ("data=grammar", "data.num_train=200", "data.num_val=10", "data.num_test=10", "metrics.bootstrap=0")


def measure(rounds: int = 3) -> dict[str, dict[str, float | list[float]]]:
    """Return the seconds that each of the three takes from the start of its process: all rounds and their median.

    The corpus is prepared before, and the model has the sizes of the grammar's recipe. One training has run before, so
    that the system has cached the files that Python imports.
    """
    with TemporaryDirectory() as temporary:
        directory = Path(temporary)
        tiny = (*TINY, f"data_dir={directory}")
        _run("train", *tiny, "training.max_steps=2", f"run={directory / 'trained'}")
        waits = {
            "help": [_help() for _ in range(rounds)],
            "first_step": [_first_step(directory / f"run{i}", *tiny) for i in range(rounds)],
            "first_translation": [_first_translation(directory / "trained") for _ in range(rounds)],
        }
    return {what: {"median": median(seconds), "rounds": seconds} for what, seconds in waits.items()}


def _run(script: str, *arguments: str) -> None:
    command = [sys.executable, str(SCRIPTS / f"{script}.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{script} failed: {done.stderr}")


def _help() -> float:
    start = time.perf_counter()
    _run("train", "--help")
    return time.perf_counter() - start


def _first_step(run: Path, *arguments: str) -> float:
    """Return the seconds until the first step has been logged."""
    command = [sys.executable, str(SCRIPTS / "train.py"), *arguments, "training.log_every=1", f"run={run}"]
    log = run / "metrics.jsonl"
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while not (log.exists() and log.stat().st_size):
            if process.poll() is not None:
                raise RuntimeError(f"train failed: {process.stderr and process.stderr.read()}")
            time.sleep(0.002)
        seconds = time.perf_counter() - start
        process.kill()
    return seconds


def _first_translation(run: Path) -> float:
    """Return the seconds until the first translation has been printed."""
    command = [sys.executable, str(SCRIPTS / "translate.py"), f"run={run}"]
    start = time.perf_counter()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        process.stdin.write(b"the dog sleeps.\n")
        process.stdin.flush()
        if not process.stdout.readline().endswith(b"\n"):
            raise RuntimeError("translate failed")
        seconds = time.perf_counter() - start
        process.stdin.close()
    return seconds


def main() -> None:
    """Print a line for each of the three."""
    for what, seconds in measure().items():
        print(f"{what.replace('_', ' '):18} {seconds['median']:.2f} s")


if __name__ == "__main__":
    main()
