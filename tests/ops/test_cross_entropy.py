"""The chunked loss against torch's own cross-entropy over the whole logits."""

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck
from torch.nn import functional as F
from torch.testing import assert_close

from heed.ops import switch
from heed.ops.cross_entropy import CHUNK, cross_entropy

R, V = 7, 13


def case(num: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor, nn.Linear]:
    torch.manual_seed(num)
    output = nn.Linear(R, V).to(dtype)
    return torch.randn(num, R).to(dtype).requires_grad_(), torch.randint(V, (num,)), output


def gradients(loss: torch.Tensor, readouts: torch.Tensor, output: nn.Linear, factor: float = 1.0) -> list[torch.Tensor]:
    return list(torch.autograd.grad(factor * loss, [readouts, output.weight, output.bias]))


def test_the_sizes_below_are_around_a_chunk():
    assert CHUNK == 256


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
@pytest.mark.parametrize("num", [1, 255, 256, 257, 600])
def test_is_torchs_cross_entropy(num, smoothing):
    readouts, targets, output = case(num)
    loss, nll = cross_entropy(readouts, targets, output, smoothing)
    expected = F.cross_entropy(output(readouts), targets, reduction="sum", label_smoothing=smoothing)
    assert_close(loss, expected, rtol=1e-12, atol=0)
    assert_close(nll, F.cross_entropy(output(readouts), targets, reduction="sum"), rtol=1e-12, atol=0)
    assert not nll.requires_grad
    # a factor, since the trainer divides by the number of tokens
    for mine, theirs in zip(
        gradients(loss, readouts, output, 1 / 3), gradients(expected, readouts, output, 1 / 3), strict=True
    ):
        assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_under_bf16_autocast(smoothing):
    readouts, targets, output = case(600, torch.float32)
    expected = F.cross_entropy(output(readouts), targets, reduction="sum", label_smoothing=smoothing)
    with torch.autocast("cpu", torch.bfloat16):
        loss, nll = cross_entropy(readouts, targets, output, smoothing)
    assert loss.dtype == nll.dtype == torch.float32
    assert not torch.equal(loss, expected)  # the products did run in bf16
    assert_close(loss, expected, rtol=2e-3, atol=0)
    pairs = zip(gradients(loss, readouts, output), gradients(expected, readouts, output), strict=True)
    for mine, theirs in pairs:
        assert mine.dtype == torch.float32
        assert (mine - theirs).norm() < 0.01 * theirs.norm()


def test_bf16_readouts_get_bf16_gradients():
    readouts, targets, output = case(257, torch.float32)
    readouts = readouts.detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = cross_entropy(readouts, targets, output, 0.1)
    assert [x.dtype for x in gradients(loss, readouts, output)] == [
        torch.bfloat16,
        torch.float32,
        torch.float32,
    ]


def test_gradcheck():
    readouts, targets, output = case(5)
    assert gradcheck(lambda x, *_: cross_entropy(x, targets, output, 0.1)[0], (readouts, output.weight, output.bias))


def test_without_gradients_the_values_are_the_same():
    readouts, targets, output = case(257)
    with_gradients = cross_entropy(readouts, targets, output, 0.1)
    with torch.no_grad():
        without = cross_entropy(readouts, targets, output, 0.1)
    with torch.inference_mode():
        inferred = cross_entropy(readouts, targets, output, 0.1)
    for loss, nll in (without, inferred):
        assert not loss.requires_grad
        assert torch.equal(loss, with_gradients[0].detach()) and torch.equal(nll, with_gradients[1])


@pytest.mark.parametrize("num", [2, 254, 258, 600])
def test_consistency_is_the_symmetric_divergence_of_the_pairs(num):
    readouts, targets, output = case(num)
    targets = targets[::2].repeat_interleave(2)
    loss, nll = cross_entropy(readouts, targets, output, 0.1, consistency=5.0)
    plain, plain_nll = cross_entropy(readouts, targets, output, 0.1)
    log_p, log_q = output(readouts).log_softmax(-1).view(-1, 2, V).unbind(1)
    divergence = F.kl_div(log_q, log_p, reduction="sum", log_target=True)  # torch's is KL(target ‖ input)
    divergence = divergence + F.kl_div(log_p, log_q, reduction="sum", log_target=True)
    assert divergence > 0.1 and torch.equal(nll, plain_nll)
    expected = plain + 5.0 / 2 * divergence
    assert_close(loss, expected, rtol=1e-12, atol=0)
    for mine, theirs in zip(
        gradients(loss, readouts, output, 1 / 3), gradients(expected, readouts, output, 1 / 3), strict=True
    ):
        assert_close(mine, theirs, rtol=1e-10, atol=1e-11)
    with switch.reference():
        assert_close(cross_entropy(readouts, targets, output, 0.1, 5.0)[0], loss, rtol=1e-12, atol=0)
    twins = readouts[::2].repeat_interleave(2, 0)  # two draws that are the same are no distance apart
    assert_close(*(cross_entropy(twins, targets, output, 0.1, alpha)[0] for alpha in (0.0, 5.0)))


def test_far_from_zero_logits_stay_finite():
    readouts, targets, output = case(5, torch.float32)
    readouts = (1e4 * readouts).detach().requires_grad_()
    loss, nll = cross_entropy(readouts, targets, output, 0.1)
    assert loss.isfinite() and nll.isfinite()
    assert all(x.isfinite().all() for x in gradients(loss, readouts, output))
