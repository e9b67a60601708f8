"""Linear maps by oneDNN and by packed weights, against torch's own."""

from collections.abc import Iterator
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from heed.ops import onednn, switch
from heed.ops.linear import Linear, linear, packed_weights, product

B, N, INPUT, OUTPUT = 3, 5, 17, 19


@pytest.fixture(params=[True, False], ids=["fast", "reference"])
def switched(request) -> Iterator[bool]:
    before = switch.enabled()
    switch.set_fast(request.param)
    yield request.param
    switch.set_fast(before)


@pytest.fixture(params=[True, False], ids=["onednn", "mkl"])
def by_onednn(request, monkeypatch) -> bool:
    """Either, whichever is faster on this machine."""
    monkeypatch.setattr("heed.ops.linear.ONEDNN_IS_FASTER", request.param and onednn.AVAILABLE)
    return request.param and onednn.AVAILABLE


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
        with packed_weights():
            for _ in range(2):
                assert_close([nn.Sequential(*layers)(x), layers[0](x)], expected)
    with torch.no_grad(), autocast():
        layers[0].weight.mul_(-1)  # outside, a weight may change
        expected = [layers[0](x)]
        with packed_weights():
            assert_close([layers[0](x)], expected)


def test_linear_of_matrices_with_gaps(by_onednn):
    torch.manual_seed(1)
    x, weight = torch.randn(B, 2 * INPUT)[:, ::2], torch.randn(OUTPUT, INPUT + 3)[:, 2:-1]
    assert_close(linear(x, weight), x @ weight.T)
    assert_close(product(x, weight), x @ weight.T)


def test_linear_keeps_float32_precision(by_onednn):
    """oneDNN has a mode that rounds to bfloat16 on the way. It is not in use."""
    torch.manual_seed(1)
    x, weight = torch.randn(64, 512), torch.randn(256, 512)
    exact = (x.double() @ weight.double().T).float()
    assert_close(linear(x, weight), exact, rtol=1e-4, atol=1e-4)


def test_packed_weights_of_an_outer_block_are_used_by_an_inner_one(monkeypatch):
    packed = []
    monkeypatch.setattr(onednn, "pack", lambda weight: packed.append(weight) or weight)
    layer = Linear(INPUT, OUTPUT)
    with torch.no_grad(), packed_weights():
        for _ in range(2):
            with packed_weights():
                layer(torch.randn(B, INPUT))
    assert len(packed) == onednn.CAN_PACK


@pytest.mark.parametrize("name", ["_linear_pointwise", "_reorder_linear_weight", "_is_mkldnn_bf16_supported"])
def test_torch_still_has_the_private_names(name):
    """Without them heed falls back to public functions, which are slower."""
    assert hasattr(torch.ops.mkldnn, name)


def test_without_the_private_names_products_are_torchs(monkeypatch):
    monkeypatch.setattr(onednn, "AVAILABLE", False)
    monkeypatch.setattr(onednn, "CAN_PACK", False)
    x, layer = torch.randn(B, INPUT), Linear(INPUT, OUTPUT)
    with torch.no_grad(), packed_weights():
        assert_close(layer(x), F.linear(x, layer.weight, layer.bias))
    assert_close(onednn.linear(x, onednn.pack(layer.weight), None), F.linear(x, layer.weight))
