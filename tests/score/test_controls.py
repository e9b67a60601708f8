"""Controls: scores that do not look, in the slot of one that does."""

import pytest
import torch
from helpers.models import CONTROLS, WIRINGS, make_model, make_score
from torch.testing import assert_close

from heed.model import Attention

B, N, S, D = 3, 5, 11, 7
LENGTHS = [11, 4, 1]
DTYPES = [torch.float64, torch.float32, torch.bfloat16]


def ask(name: str, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """States, context, alignment."""
    random = torch.Generator().manual_seed(1)
    query, states = (torch.randn(B, n, D, generator=random).to(dtype) for n in (N, S))
    attention = Attention(make_score(name, D, D)).to(dtype)
    mask = torch.arange(S) < torch.tensor(LENGTHS)[:, None]
    states[~mask] = torch.nan  # so that any weight on padding would show
    values = states.nan_to_num(1e6)
    return states, *attention(query, attention.remember(values, mask))


@pytest.mark.parametrize("dtype", DTYPES)
def test_uniform_is_the_mean_of_the_real_states(dtype):
    states, context, alignment = ask("uniform", dtype)
    for b, length in enumerate(LENGTHS):
        assert_close(alignment[b, :, :length].double(), torch.full((N, length), 1 / length).double())
        assert (alignment[b, :, length:] == 0).all()
        expected = states[b, :length].double().mean(0).expand(N, -1)
        assert_close(context[b].double(), expected, rtol=0.02 if dtype == torch.bfloat16 else 1e-5, atol=0.02)


@pytest.mark.parametrize("dtype", DTYPES)
def test_last_is_the_last_real_state_and_nothing_else(dtype):
    states, context, alignment = ask("last", dtype)
    for b, length in enumerate(LENGTHS):
        assert torch.equal(context[b], states[b, length - 1].expand(N, -1))
        assert (alignment[b, :, length - 1] == 1).all() and (alignment[b].sum(-1) == 1).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_none_sees_nothing(dtype):
    _, context, alignment = ask("none", dtype)
    assert not context.any() and not alignment.any()


@pytest.mark.parametrize("wiring", WIRINGS)
def test_without_attention_the_source_enters_by_the_first_state_alone(wiring):
    model = make_model("none", wiring).double().eval()
    random = torch.Generator().manual_seed(1)
    src, other, tgt = (torch.randint(4, 17, (B, n), generator=random) for n in (S, S, N))
    memory, state = model.encode(src, torch.tensor(LENGTHS))
    others, _ = model.encode(other, torch.tensor(LENGTHS))
    embedded = model.tgt_embedding(tgt)
    readouts, _ = model.decoder.unroll(embedded, state, memory)
    assert torch.equal(readouts, model.decoder.unroll(embedded, state, others)[0])
    assert not torch.equal(readouts, model(other, torch.tensor(LENGTHS), tgt)[0])


@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize("score", CONTROLS)
def test_training_makes_finite_gradients_everywhere(score, wiring):
    model = make_model(score, wiring).train()
    random = torch.Generator().manual_seed(1)
    src, tgt = (torch.randint(4, 17, (B, n), generator=random) for n in (S, N))
    model(src, torch.tensor(LENGTHS), tgt)[0].square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name
    assert model.encoder.forwards[0].weight_hh_l0.grad.abs().sum() > 0


def test_random_is_a_product_with_a_matrix_that_is_saved_and_not_learned():
    score = make_score("random", 5, 7).double()
    assert not list(score.parameters())
    query, states = torch.randn(B, N, 5).double(), torch.randn(B, S, 7).double()
    expected = torch.einsum("bnq,kq,bsk->bns", query, score.state_dict()["R"], states)
    assert_close(score(query, score.prepare(states)), expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(score.R, make_score("random", 5, 7).double().R)
    assert not torch.equal(score.R, make_score("random", 5, 7, seed=2).double().R)


def test_random_has_its_scale():
    """R has the variance of a layer whose forward and backward pass keep theirs, 1 / sqrt(Q K)."""
    R = make_score("random", 300, 200).R
    assert float(R.std()) == pytest.approx((300 * 200) ** -0.25, rel=0.02)
