"""Dropout, fast and reference versions: the share that is dropped, the rest, and the gradient."""

import pytest
import torch
from torch.testing import assert_close

from heed.ops import switch
from heed.ops.dropout import dropout


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("p", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_drops_a_share_and_scales_the_rest(p, dtype, fast, monkeypatch):
    monkeypatch.setattr(switch, "_enabled", fast)
    torch.manual_seed(3)
    x = torch.full((101, 211), 3.0, dtype=dtype, requires_grad=True)
    y = dropout(x, p)
    assert y.dtype == dtype
    kept = y != 0
    assert_close(y[kept], (torch.tensor(3 / (1 - p)).to(dtype)).expand_as(y[kept]), rtol=0.01, atol=0)
    num = x.numel()
    assert abs(int((~kept).sum()) - p * num) <= 5 * (num * p * (1 - p)) ** 0.5  # five standard deviations
    y.sum().backward()
    assert_close(x.grad, y.detach() / 3, rtol=0.01, atol=0)
