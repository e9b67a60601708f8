"""One training step of a small model: its losses and gradients."""

import torch
from torch import Tensor, nn
from torch.testing import assert_close

from heed.model import Seq2Seq
from heed.ops.cross_entropy import cross_entropy
from helpers.models import make_model

B, S, T = 3, 11, 7
SRC_LENGTHS, TGT_LENGTHS = [11, 4, 1], [3, 7, 1]
Step = tuple[Tensor, dict[str, Tensor]]


def step_model(score: str, wiring: str, cell: str, dropout: float, dtype: torch.dtype) -> Seq2Seq:
    return make_model(score, wiring, cell=cell, dropout=dropout, decoder_layers=2).to(dtype).train()


def training_step(model: nn.Module) -> Step:
    """A loss and its gradients, on sentences of different lengths."""
    random = torch.Generator().manual_seed(1)
    src, tgt_in, tgt_out = (torch.randint(4, 17, (B, length), generator=random) for length in (S, T, T))
    real = torch.arange(T) < torch.tensor(TGT_LENGTHS)[:, None]
    readouts, alignments = model(src, torch.tensor(SRC_LENGTHS), tgt_in)
    loss, nll = cross_entropy(readouts[real], tgt_out[real], model.output, 0.1)
    parameters = dict(model.named_parameters())
    used = loss + alignments[real].square().sum()  # for the alignments' gradient
    found = torch.autograd.grad(used, list(parameters.values()), allow_unused=True)
    gradients = {name: g for name, g in zip(parameters, found, strict=True) if g is not None}
    return torch.stack([loss, nll, used]).detach(), gradients


def assert_same(found: Step, expected: Step) -> None:
    assert_close(found[0], expected[0], rtol=1e-11, atol=0)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in found[1].items():
        assert_close(gradient, expected[1][name], rtol=1e-9, atol=1e-11, msg=name)
