"""Settings of the whole suite: shapes in heed's signatures are checked, torch has one thread, no test is timed."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import helpers.shapes  # noqa: F401  (the checker that the hook below names)
import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

# Before anything of heed is imported. What handles tensors; each call is checked, so no more than that.
PACKAGES = ["ops", "score", "model", "search", "training", "data.batches", "data.store", "config.model"]
install_import_hook([f"heed.{name}" for name in PACKAGES], "helpers.shapes.check")

sys.path.append(str(Path(__file__).parents[1] / "examples" / "custom_score"))  # my_scores

import torch  # noqa: E402

torch.set_num_threads(1)

settings.register_profile("heed", deadline=None)
settings.load_profile("heed")


@pytest.fixture
def heard_signals() -> Iterator[None]:
    """Let processes of the test hear a closed terminal and Ctrl-C, even if nohup or a script's `&` began the tests."""
    heard = {signal.SIGHUP: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, handler) for number, handler in heard.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
