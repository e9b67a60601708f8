"""Fast paths: each equal to its plain twin, values and gradients, in float64."""

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial

import pytest
import torch
from making import EXAMPLE, SCORES, WIRINGS, make_model
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.nn import functional as F
from torch.testing import assert_close

import heed.linear
from heed import fast
from heed.device import HAS_ONEDNN
from heed.linear import Linear, linear, product, unchanging_weights
from heed.model.decoder import cast_weights
from heed.model.recurrent import gru_layer
from heed.score import Score, additive
from heed.score.additive import additive_energy
from heed.training.loss import cross_entropy

B, N, S, T, A, INPUT, OUTPUT = 3, 5, 11, 7, 13, 17, 19
SRC_LENGTHS, TGT_LENGTHS = [11, 4, 1], [3, 7, 1]


@pytest.fixture(params=[True, False], ids=["fast", "plain"])
def switched(request) -> Iterator[bool]:
    with fast.switched(request.param):
        yield request.param


@pytest.fixture(params=[True, False], ids=["onednn", "mkl"])
def by_onednn(request, monkeypatch) -> bool:
    """Whichever is faster here."""
    monkeypatch.setattr("heed.linear.ONEDNN_IS_FASTER", request.param and HAS_ONEDNN)
    return request.param and HAS_ONEDNN


Step = tuple[Tensor, dict[str, Tensor]]


def training_step(model: nn.Module) -> Step:
    """A loss and its gradients, on sentences of every length."""
    random = torch.Generator().manual_seed(1)
    src, tgt_in, tgt_out = (torch.randint(4, 17, (B, length), generator=random) for length in (S, T, T))
    lengths = torch.tensor(SRC_LENGTHS)
    real = torch.arange(T) < torch.tensor(TGT_LENGTHS)[:, None]
    readouts, alignments = model(src, lengths, tgt_in)
    loss, nll = cross_entropy(readouts[real], tgt_out[real], model.output, 0.1)
    parameters = dict(model.named_parameters())
    used = loss + alignments[real].square().sum()  # the alignments' gradient too
    found = torch.autograd.grad(used, list(parameters.values()), allow_unused=True)
    gradients = {name: g for name, g in zip(parameters, found, strict=True) if g is not None}
    return torch.stack([loss, nll, used]).detach(), gradients


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize("score", SCORES)
def test_a_training_step_is_that_of_the_plain_paths(score, wiring, cell):
    check_step(score, wiring, cell)


def check_step(score: str, wiring: str, cell: str) -> None:
    model = make_model(score, wiring, cell=cell, dropout=0.0, decoder_layers=2).double().train()
    found = training_step(model)
    with fast.switched(False):
        check_same(found, training_step(model))


def check_same(found: Step, expected: Step) -> None:
    assert_close(found[0], expected[0], rtol=1e-11, atol=0)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in found[1].items():
        assert_close(gradient, expected[1][name], rtol=1e-9, atol=1e-11, msg=name)


# --- compiled loops ---

compilable = pytest.mark.skipif(
    bool(fast.missing_for_compiling()), reason=f"needs {fast.missing_for_compiling()}"
)


def check_compiled(*arguments: str) -> None:
    """In a process of its own: the compiler would stumble over this suite's checks of shapes."""
    command = [sys.executable, __file__, *arguments]
    environment = os.environ | {"PYTHONPATH": str(EXAMPLE)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@compilable
def test_a_compiled_training_step_is_that_of_the_fast_paths():
    check_compiled("bahdanau", "luong", "gru", "float64")


def compare_compiled(score: str, wiring: str, cell: str, dtype: str) -> None:
    """With the fast path, which is held to the plain one above: the same draws of dropout too, wherever it is."""
    model = (
        make_model(score, wiring, cell=cell, dropout=0.3, decoder_layers=2).to(getattr(torch, dtype)).train()
    )
    steps = []
    ways = [(True, False), (False, False)]
    if dtype == "float32":
        ways = [(True, True), (False, True), (False, False)]
    for compiling, bf16 in ways:
        torch.manual_seed(1)
        with fast.compiling(compiling), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            steps.append(training_step(model))
    if dtype == "float64":
        check_same(*steps)
        return
    for compiled, plain, exact in zip(*(gradients.values() for _, gradients in steps), strict=True):
        # In bfloat16 a maximum of two that are nearly equal may be the other one: both are far off then.
        assert (compiled - exact).norm() <= 2 * (plain - exact).norm() + 0.01 * exact.norm()


@compilable
def test_what_is_compiled_does_for_all_shapes():
    check_compiled("shapes")


def compile_for_shapes() -> None:
    """In float32: products by oneDNN are an operator of our own. Traced as ever, without the time of making kernels."""
    heed.linear.ONEDNN_IS_FASTER = HAS_ONEDNN
    torch.compile = partial(torch.compile, backend="aot_eager")
    model = make_model("bahdanau", "luong").train()
    for batch, length in ((2, 3), (3, 5), (5, 4), (7, 11), (11, 7)):
        src, tgt_in = torch.randint(4, 17, (2, batch, length))
        with fast.compiling(True):
            readouts, _ = model(src, torch.full((batch,), length), tgt_in)
        readouts.sum().backward()
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert graphs == 2, f"{graphs}: of the first step, whose state has no gradient, and of the others"


@pytest.mark.skipif(not HAS_ONEDNN, reason="needs oneDNN")
def test_compiling_leaves_what_has_no_loop_as_it_is():
    """In bfloat16 above all: there the loop's weights are cast once, which would take the state along."""
    steps = []
    for compiling in (True, False):
        model = make_model("bahdanau", "luong-unfed", dropout=0.3, decoder_layers=2).train()
        torch.manual_seed(1)
        with fast.compiling(compiling), torch.autocast("cpu", torch.bfloat16):
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


# --- the additive energy ---


def operands() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(3)
    query, keys, v = torch.randn(B, N, A), torch.randn(B, S, A), torch.randn(A)
    return tuple(x.double().requires_grad_() for x in (query, keys, v))  # type: ignore[return-value]


@pytest.mark.parametrize("piece", [1, S * A, 2 * S * A + 1, N * S * A, 2 * N * S * A, 1 << 20])
def test_additive_energy_in_pieces_of_any_size(piece, monkeypatch):
    monkeypatch.setattr(additive, "PIECE", piece)
    query, keys, v = operands()
    energy = additive_energy(query, keys, v)
    assert_close(energy, (query[:, :, None] + keys[:, None]).tanh() @ v, rtol=1e-12, atol=1e-12)
    assert gradcheck(additive_energy, (query, keys, v))


def test_additive_energy_of_far_sums_saturates():
    query, keys, v = torch.tensor([[[1e4]]]), torch.tensor([[[-3e4], [3e4], [-1e4]]]), torch.tensor([2.0])
    assert additive_energy(query, keys, v).tolist() == [[[-2.0, 2.0, 0.0]]]


def test_additive_energy_never_holds_all_sums(monkeypatch):
    """With B · N · S · A = 13 million numbers, no tensor made on the way has more than a piece and one query."""
    sizes: list[int] = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            made = function(*args, **(kwargs or {}))
            if isinstance(made, Tensor) and not made._is_view():
                sizes.append(made.untyped_storage().nbytes() // made.element_size())
            return made

    monkeypatch.setattr(additive, "PIECE", 1 << 16)
    query, keys, v = (torch.randn(2, 101, 64), torch.randn(2, 1009, 64), torch.randn(64))
    for x in (query, keys, v):
        x.requires_grad_()
    with Watch():
        additive_energy(query, keys, v).sum().backward()
    assert 0 < max(sizes) <= max(keys.numel(), query.size(1) * keys.size(1) * 2, (1 << 16) + keys[0].numel())


# --- linear maps ---


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(INPUT,), (B, INPUT), (B, N, INPUT), (0, INPUT)])
def test_linear_is_torchs(shape, bias, switched, by_onednn):
    torch.manual_seed(1)
    layer = Linear(INPUT, OUTPUT, bias=bias)
    x = torch.randn(shape, requires_grad=True)
    expected = F.linear(x, layer.weight, layer.bias)
    found = layer(x)
    assert_close(found, expected)
    weights = torch.randn_like(expected)
    inputs = [x, *layer.parameters()]
    for mine, torchs in zip(
        torch.autograd.grad(found, inputs, weights),
        torch.autograd.grad(expected, inputs, weights),
        strict=True,
    ):
        assert_close(mine, torchs)


def test_switch_and_processor_choose_the_product(switched, by_onednn):
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiled:
        linear(torch.randn(B, INPUT), torch.randn(OUTPUT, INPUT))
    called = any(event.key == "mkldnn::_linear_pointwise" for event in profiled.key_averages())
    assert called == (switched and by_onednn)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_linear_by_packed_weights_is_torchs(precision, switched):
    torch.manual_seed(1)
    layers = [Linear(INPUT, OUTPUT), Linear(OUTPUT, INPUT, bias=False)]
    x = torch.randn(B, N, INPUT)
    autocast = partial(torch.autocast, "cpu", precision, enabled=precision != torch.float32)
    with torch.no_grad(), autocast():
        expected = [layer(x) for layer in (nn.Sequential(*layers), layers[0])]
        with unchanging_weights():
            for _ in range(2):
                assert_close([nn.Sequential(*layers)(x), layers[0](x)], expected)
    with torch.no_grad(), autocast():
        layers[0].weight.mul_(-1)  # outside, a weight may change
        expected = [layers[0](x)]
        with unchanging_weights():
            assert_close([layers[0](x)], expected)


def test_linear_of_matrices_with_gaps(by_onednn):
    torch.manual_seed(1)
    x, weight = torch.randn(B, 2 * INPUT)[:, ::2], torch.randn(OUTPUT, INPUT + 3)[:, 2:-1]
    assert_close(linear(x, weight), x @ weight.T)
    assert_close(product(x, weight), x @ weight.T)


def test_linear_keeps_float32_precision(by_onednn):
    """oneDNN may be told to round to bfloat16 on the way; nothing here does."""
    torch.manual_seed(1)
    x, weight = torch.randn(64, 512), torch.randn(256, 512)
    exact = (x.double() @ weight.double().T).float()
    assert_close(linear(x, weight), exact, rtol=1e-4, atol=1e-4)


# --- the GRU ---


@pytest.mark.parametrize("directions", [1, 2])
def test_gru_is_torchs(directions):
    torch.manual_seed(5)
    rnns = [nn.GRU(INPUT, OUTPUT).double() for _ in range(directions)]
    inputs = torch.randn(directions, T, B, INPUT).double().requires_grad_()
    hidden = torch.randn(directions, B, OUTPUT).double().requires_grad_()
    found = gru_layer(rnns, 0, list(inputs), hidden)
    expected = torch.stack([rnn(x, h[None])[0] for rnn, x, h in zip(rnns, inputs, hidden, strict=True)])
    assert_close(found, expected, rtol=1e-12, atol=1e-12)
    weights = torch.randn_like(expected)
    of = [inputs, hidden, *(parameter for rnn in rnns for parameter in rnn.parameters())]
    for mine, torchs in zip(
        torch.autograd.grad(found, of, weights), torch.autograd.grad(expected, of, weights), strict=True
    ):
        assert_close(mine, torchs, rtol=1e-10, atol=1e-12)


if __name__ == "__main__":
    compile_for_shapes() if sys.argv[1:] == ["shapes"] else compare_compiled(*sys.argv[1:])
    breaks = torch._dynamo.utils.counters["graph_break"]
    assert not breaks, breaks
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"], "nothing was compiled"
