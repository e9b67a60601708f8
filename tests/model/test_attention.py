"""Attention: a dictionary look-up made soft; padding weighs nothing."""

import pytest
import torch
from helpers.models import SCORES, make_score
from torch.nn.functional import cosine_similarity
from torch.testing import assert_close

from heed import attend
from heed.model import Attention, Memory
from heed.model.attention import masked_softmax

B, N, S, D = 2, 3, 5, 7
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
every_score = pytest.mark.parametrize("name", SCORES)


def ragged(lengths: list[int], num: int = S) -> torch.Tensor:
    return torch.arange(num) < torch.tensor(lengths)[:, None]


def query_and_states(*, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    query = torch.randn(B, N, D, dtype=torch.float64, generator=random)
    return query, torch.randn(B, S, D, dtype=torch.float64, generator=random)


def equal(query: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    return (query[..., :, None, :] == keys[..., None, :, :]).all(-1).float()


# --- heed.attend ---


def test_with_equality_and_no_normaliser_it_is_a_dictionary():
    random = torch.Generator().manual_seed(0)
    keys = torch.randperm(11, generator=random)[:, None].float()
    values = torch.randn(11, D, generator=random)
    dictionary = {int(key): value for key, value in zip(keys, values, strict=True)}
    asked = torch.randint(14, (17, 1), generator=random).float()  # some of them are in no key
    answer, weights = attend(asked, keys, values, equal, normalize=None)
    expected = [dictionary.get(int(key), torch.zeros(D)) for key in asked]
    assert torch.equal(answer, torch.stack(expected))
    assert set(weights.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_the_answer_for_puppy_is_3_2(dtype):
    similarities = {"dog": 0.9, "computer": 0.1, "cat": 0.7}
    keys, values = torch.zeros(3, 1), torch.tensor([[1], [2], [3]], dtype=dtype)
    answer, weights = attend(
        torch.zeros(1, 1), keys, values, lambda q, k: torch.tensor([list(similarities.values())]), None
    )
    assert_close(answer.item(), 0.9 * 1 + 0.1 * 2 + 0.7 * 3)
    assert_close(answer.item(), 3.2)
    assert_close(weights, torch.tensor([[0.9, 0.1, 0.7]]))


def test_a_dictionary_of_integers_has_integers():
    keys, values = torch.tensor([[3.0], [5.0]]), torch.tensor([[1, 7], [2, 11]])
    answer, _ = attend(keys[1:], keys, values, lambda q, k: (q == k.mT).long(), None)
    assert torch.equal(answer, torch.tensor([[2, 11]]))


def test_any_function_is_a_score():
    query, states = query_and_states()
    _, weights = attend(
        query, states, states, lambda q, k: cosine_similarity(q[..., :, None, :], k[..., None, :, :], dim=-1)
    )
    expected = cosine_similarity(query[1, 2], states[1], dim=-1).softmax(0)
    assert_close(weights[1, 2], expected)


@pytest.mark.parametrize("n", [1, 5])
def test_compiled_attention_is_the_same_for_any_number_of_queries(n, monkeypatch):
    query, keys, values = torch.randn(3, n, 7), torch.randn(3, 5, 7), torch.randn(3, 5, 5)
    expected = attend(query, keys, values, lambda q, k: q @ k.mT)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    for found, right in zip(attend(query, keys, values, lambda q, k: q @ k.mT), expected, strict=True):
        assert_close(found, right)


@every_score
def test_attend_with_a_score_and_softmax_is_attention(name):
    score = make_score(name, D, D).double()
    query, states = query_and_states()
    attention = Attention(score)
    context, alignment = attention(query, attention.remember(states, ragged([S, S])))
    answer, weights = attend(query, states, states, score)
    assert_close(answer, context, rtol=1e-12, atol=1e-12)
    assert_close(weights, alignment, rtol=1e-12, atol=1e-12)
    for given in ((query[0], states[0]), (query[None], states[None])):  # some scores would broadcast these
        with pytest.raises(ValueError, match=rf"takes queries \(B, N, {D}\) and keys \(B, S, {D}\), not \("):
            attend(*given, given[1], score)


def test_attention_is_the_mean_of_the_states_weighed_by_the_softmax():
    score = make_score("general", D, D).double()
    query, states = query_and_states()
    attention, lengths = Attention(score), [S, 2]
    context, alignment = attention(query, attention.remember(states, ragged(lengths)))
    energy = score(query, score.prepare(states))
    for b, length in enumerate(lengths):
        for n in range(N):
            exponentials = [energy[b, n, s].exp() for s in range(length)]
            weights = [e / sum(exponentials) for e in exponentials]
            assert_close(alignment[b, n, :length], torch.stack(weights))
            assert_close(context[b, n], sum(w * states[b, s] for s, w in enumerate(weights)))


# --- padding ---


@every_score
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1.0, 30.0])
def test_padding_weighs_exactly_nothing(name, dtype, size):
    attention = Attention(make_score(name, D, D)).to(dtype)
    query, states = (size * x.to(dtype) for x in query_and_states())
    mask = ragged([S, 2])
    states = torch.where(mask[:, :, None], states, 100 * states)  # padding that would win
    context, alignment = attention(query, attention.remember(states, mask))
    assert context.dtype == dtype
    assert (alignment[1, :, 2:] == 0).all()
    assert (alignment >= 0).all()
    assert_close(alignment.double().sum(-1), torch.ones(B, N, dtype=torch.float64), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_extreme_energies(dtype):
    top = torch.finfo(dtype).max
    energy = torch.tensor([[[top, -top, top, 0.0]], [[-top, -top, top, top]]], dtype=dtype)
    weights = masked_softmax(energy, ragged([3, 2], 4))
    assert torch.equal(weights.double()[0, 0], torch.tensor([0.5, 0, 0.5, 0], dtype=torch.float64))
    assert torch.equal(weights.double()[1, 0], torch.tensor([0.5, 0.5, 0, 0], dtype=torch.float64))


@every_score
def test_a_sentence_alone_is_the_same_as_in_a_padded_batch(name):
    attention = Attention(make_score(name, D, D)).double()
    query, states = query_and_states()
    memory = attention.remember(states, ragged([S, 2]))
    context, alignment = attention(query, memory)
    alone = attention.remember(states[1:, :2], ragged([2], 2))
    context_alone, alignment_alone = attention(query[1:], alone)
    assert_close(alignment[1:, :, :2], alignment_alone, rtol=1e-12, atol=1e-12)
    assert_close(context[1:], context_alone, rtol=1e-12, atol=1e-12)
    selected = memory.select(torch.tensor([1]))
    assert all(torch.equal(part, whole[1:]) for part, whole in zip(selected, memory, strict=True))


@every_score
def test_no_gradient_reaches_padding(name):
    attention = Attention(make_score(name, D, D)).double()
    query, states = query_and_states()
    states.requires_grad_()
    context, _ = attention(query, attention.remember(states, ragged([S, 2])))
    context.square().sum().backward()
    assert (states.grad[1, 2:] == 0).all() and (states.grad[1, :2] != 0).any()


@every_score
def test_a_sentence_of_one_token_gets_all_the_weight(name):
    attention = Attention(make_score(name, D, D)).double()
    query, states = query_and_states()
    context, alignment = attention(query, attention.remember(states[:, :1], ragged([1, 1], 1)))
    assert (alignment == 1).all()
    assert torch.equal(context, states[:, :1].expand(-1, N, -1))


def test_the_module_keeps_nothing_of_a_sentence():
    attention = Attention(make_score("bahdanau", D, D)).double()
    query, states = query_and_states()
    before = set(vars(attention))
    memory = attention.remember(states, ragged([S, 2]))
    attention(query, memory)
    assert isinstance(memory, Memory)
    assert memory.values is states
    assert set(vars(attention)) == before and not list(attention.buffers())
