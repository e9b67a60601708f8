"""The compiled loop: equal to the plain one, one code for all shapes."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers.models import EXAMPLE, SCORES, make_model
from helpers.steps import assert_same, step_model, training_step
from torch import Tensor, nn

import heed.ops.linear
from heed.ops import onednn
from heed.ops.loop import cast_weights, compiling, missing_for_compiling
from heed.score import Score

TESTS = Path(__file__).parents[1]
compilable = pytest.mark.skipif(bool(missing_for_compiling()), reason=f"needs {missing_for_compiling()}")


def check_compiled(*arguments: str) -> None:
    """Run this file in a new process: the compiler would fail on this suite's checks of shapes."""
    command = [sys.executable, __file__, *arguments]
    environment = os.environ | {"PYTHONPATH": f"{EXAMPLE}:{TESTS}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@compilable
def test_a_compiled_training_step_is_that_of_the_fast_paths():
    check_compiled("bahdanau", "luong", "gru", "float64")


def compare_compiled(score: str, wiring: str, cell: str, dtype: str) -> None:
    """Compare with the plain loop: the same draws of dropout too, wherever it is."""
    model = step_model(score, wiring, cell, 0.3, getattr(torch, dtype))
    steps = []
    ways = [(True, False), (False, False)]
    if dtype == "float32":
        ways = [(True, True), (False, True), (False, False)]
    for compiled, bf16 in ways:
        torch.manual_seed(1)
        with compiling(compiled), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            steps.append(training_step(model))
    if dtype == "float64":
        assert_same(*steps)
        return
    for compiled, plain, exact in zip(*(gradients.values() for _, gradients in steps), strict=True):
        # In bfloat16 a maximum of two that are nearly equal may be the other one: both are far off then.
        assert (compiled - exact).norm() <= 2 * (plain - exact).norm() + 0.01 * exact.norm()


@compilable
def test_what_is_compiled_does_for_all_shapes():
    check_compiled("shapes")


def compile_for_shapes() -> None:
    """Compile in float32, where products by oneDNN are a custom operator. Kernels are traced but not made."""
    heed.ops.linear.ONEDNN_IS_FASTER = onednn.AVAILABLE
    torch.compile = partial(torch.compile, backend="aot_eager")
    model = make_model("bahdanau", "luong").train()
    for batch, length in ((2, 3), (3, 5), (5, 4), (7, 11), (11, 7)):
        src, tgt_in = torch.randint(4, 17, (2, batch, length))
        with compiling(True):
            readouts, _ = model(src, torch.full((batch,), length), tgt_in)
        readouts.sum().backward()
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert graphs == 2, f"{graphs}: of the first step, whose state has no gradient, and of the others"


@pytest.mark.skipif(not onednn.AVAILABLE, reason="needs oneDNN")
def test_compiling_leaves_what_has_no_loop_as_it_is():
    """The loop's weights are cast once to bfloat16. The state must not be cast with them."""
    steps = []
    for compiled in (True, False):
        model = make_model("bahdanau", "luong-unfed", dropout=0.3, decoder_layers=2).train()
        torch.manual_seed(1)
        with compiling(compiled), torch.autocast("cpu", torch.bfloat16):
            steps.append(training_step(model))
    assert torch.equal(steps[0][0], steps[1][0])
    assert all(torch.equal(one, other) for one, other in zip(*(s[1].values() for s in steps), strict=True))


def test_of_a_users_own_score_compiling_casts_nothing():
    """Its matrices may be used otherwise than in a product, or in float32 on purpose."""

    class Mine(Score):
        def __init__(self, query_dim: int, key_dim: int) -> None:
            super().__init__(query_dim, key_dim)
            self.scale, self.W = nn.Parameter(torch.ones(1, query_dim)), nn.Linear(query_dim, key_dim)

        def forward(self, query: Tensor, keys: Tensor) -> Tensor:
            with torch.autocast("cpu", enabled=False):
                return self.W(query.float() * self.scale) @ keys.float().mT

    model = make_model("bahdanau", "luong")
    with torch.autocast("cpu", torch.bfloat16):
        ours = cast_weights(model.decoder)
        model.decoder.attention.score = Mine(11, 14)
        theirs = cast_weights(model.decoder)
    assert {"attention.score.W_a.weight", "W_c.weight", "recurrent.rnn.weight_hh_l0"} <= ours.keys()
    assert theirs.keys() == {name for name in ours if "score" not in name}
    assert all(weight.dtype == torch.bfloat16 for weight in ours.values())


@compilable
@pytest.mark.slow
@pytest.mark.parametrize("wiring", ["luong", "bahdanau"])  # the other has no loop
@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize(
    ("cell", "dtype"), [("gru", "float64"), ("lstm", "float64"), ("gru", "float32")]
)  # the last with products in bfloat16
def test_a_compiled_training_step_with_any_parts(score, wiring, cell, dtype):
    check_compiled(score, wiring, cell, dtype)


if __name__ == "__main__":
    compile_for_shapes() if sys.argv[1:] == ["shapes"] else compare_compiled(*sys.argv[1:])
    breaks = torch._dynamo.utils.counters["graph_break"]
    assert not breaks, breaks
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"], "nothing was compiled"
