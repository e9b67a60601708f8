"""Settings of the whole process: threads, logging, warnings. Commands make them; `import heed` makes none."""

import io
import logging
import os
import sys
import threading
import warnings


def set_up_threads() -> None:
    """Set how torch's threads wait, and how much oneDNN caches. Must run before torch is imported.

    By default, threads that wait for each other spin so long that training beside other work becomes ten times slower.
    Without spinning, training on an idle machine loses a third of its speed (docs/LOG.md).

    oneDNN caches the code that it generates for each shape of a product. The default of 1,024 shapes takes gigabytes,
    and hardly any shape occurs twice. The shapes that a step uses again fit in 128.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")


def set_up_output() -> None:
    """Write standard output line by line, and warnings and log messages to standard error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    logging.getLogger("hydra.utils").disabled = True  # `component` reports failed imports itself
    warnings.formatwarning = lambda message, *_, **__: str(message)
    logging.captureWarnings(True)


def set_up_thread_errors() -> None:
    """Print no traceback for TensorBoard's writing thread. It hands its errors to the next call of the main thread."""
    threading.excepthook = _except_tensorboard


def _except_tensorboard(failed: threading.ExceptHookArgs) -> None:
    # TensorBoard's class is private, so it goes by its name. Under another name, the traceback is printed.
    if type(failed.thread).__name__ != "_AsyncWriterThread":
        threading.__excepthook__(failed)
