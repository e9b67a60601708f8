"""The additive energy piece by piece, against its reference version, the published formula."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.testing import assert_close

from heed.ops import additive
from heed.score.bahdanau import additive_energy

B, N, S, A = 3, 5, 11, 13


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
    """There are B · N · S · A = 13 million sums, and no tensor made on the way has more than a piece and one query."""
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
