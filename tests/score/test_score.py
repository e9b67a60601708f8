"""Scores: each against its published equation in plain Python, and the contract that every score keeps."""

import inspect
from math import sqrt, tanh

import pytest
import torch
from helpers.models import SCORES, joins_any_sizes, make_score, score_config
from hydra.utils import get_class
from torch import Tensor
from torch.autograd import gradcheck
from torch.testing import assert_close

from heed.score import Bahdanau, Content, Dot, ScaledDot, Score

B, N, S, Q, K, A = 2, 3, 5, 7, 11, 13
EQUAL = 7  # Q and K of the scores that want them equal
every_score = pytest.mark.parametrize("name", SCORES)


def key_dim(name: str) -> int:
    return K if joins_any_sizes(name) else EQUAL


def with_dim(name: str) -> dict[str, int]:
    return {"dim": A} if "dim" in score_config(name) else {}


def double(name: str, **overrides: object) -> Score:
    return make_score(name, Q, key_dim(name), **with_dim(name), **overrides).double()


def query_and_states(name: str, seed: int = 3) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return (
        torch.randn(B, N, Q, dtype=torch.float64, generator=random),
        torch.randn(B, S, key_dim(name), dtype=torch.float64, generator=random),
    )


def energies(score: Score, query: Tensor, states: Tensor) -> Tensor:
    return score(query, score.prepare(states))


# --- the published equations, a query s and a key h at a time, in plain Python ---


def inner(x: list[float], y: list[float]) -> float:
    return sum(a * b for a, b in zip(x, y, strict=True))


def product(matrix: list[list[float]], x: list[float]) -> list[float]:
    return [inner(row, x) for row in matrix]


def graves(score, s, h):  # beta K[s, h], 1410.5401 equations 5 and 6
    return score.beta.item() * inner(s, h) / (sqrt(inner(s, s)) * sqrt(inner(h, h)))


def bahdanau(score, s, h):  # v^T tanh(W s + U h), 1409.0473 appendix A.1.2
    Ws, Uh = product(score.W_a.weight.tolist(), s), product(score.U_a.weight.tolist(), h)
    return sum(v * tanh(a + b) for v, a, b in zip(score.v_a.tolist(), Ws, Uh, strict=True))


def luong_general(score, s, h):  # h^T W s, 1508.04025 §3.1
    return inner(h, product(score.W_a.tolist(), s))


def luong_dot(score, s, h):  # h^T s, 1508.04025 §3.1
    return inner(h, s)


def vaswani(score, s, h):  # s^T h / sqrt(n), 1706.03762 equation 1
    return inner(s, h) / sqrt(len(h))


def distance(score, s, h):  # examples/custom_score
    difference = [a - b for a, b in zip(product(score.W_a.weight.tolist(), s), h, strict=True)]
    return -score.sharpness * inner(difference, difference) / sqrt(len(h))


EQUATIONS = {
    "content": graves,
    "bahdanau": bahdanau,
    "general": luong_general,
    "dot": luong_dot,
    "scaled_dot": vaswani,
    "mine": distance,
}


@every_score
def test_energies_are_those_of_the_published_equation(name):
    score = double(name)
    query, states = query_and_states(name)
    expected = [
        [[EQUATIONS[name](score, s, h) for h in hs] for s in ss]
        for ss, hs in zip(query.tolist(), states.tolist(), strict=True)
    ]
    assert_close(energies(score, query, states), torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12)


def test_concat_is_bahdanau_under_luongs_name():
    assert score_config("concat") == score_config("bahdanau")
    score = Bahdanau(Q, K, A).double()
    query, states = query_and_states("bahdanau")
    W = torch.cat([score.W_a.weight, score.U_a.weight], 1)  # A × (Q + K): v^T tanh(W [s; h]), 1508.04025 §3.1
    pairs = torch.cat([query[:, :, None].expand(-1, -1, S, -1), states[:, None].expand(-1, N, -1, -1)], -1)
    assert_close(energies(score, query, states), (pairs @ W.T).tanh() @ score.v_a, rtol=1e-12, atol=1e-12)


@every_score
def test_gradients(name):
    score = double(name)
    inputs = [x.requires_grad_() for x in query_and_states(name)]
    # gradcheck moves the parameters in place, so that the score sees them move
    assert gradcheck(lambda q, h, *_: energies(score, q, h), (*inputs, *score.parameters()))
    energies(score, *inputs).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in score.parameters())


# --- content ---


def test_a_zero_vectors_cosine_is_zero_and_its_gradient_finite():
    for dtype in (torch.float32, torch.float64):
        score = Content(EQUAL, EQUAL).to(dtype)
        query, states = (x.to(dtype) for x in query_and_states("content"))
        query[0, 1] = 0
        states[1, 2] = 0
        query.requires_grad_()
        states.requires_grad_()
        result = energies(score, query, states)
        assert (result[0, 1] == 0).all() and (result[1, :, 2] == 0).all()
        assert (result[0, 0] != 0).all()
        result.sum().backward()
        assert query.grad.isfinite().all() and states.grad.isfinite().all()
        assert score.log_beta.grad.isfinite()


def test_key_strength_starts_as_told_and_can_be_fixed():
    assert_close(Content(3, 3).beta.item(), 10.0)
    assert_close(Content(3, 3, beta=2.5).beta.item(), 2.5)
    assert Content(3, 3).log_beta.requires_grad
    fixed = make_score("content", 3, 3, beta=4.0, learn_beta=False)
    assert not any(p.requires_grad for p in fixed.parameters())
    assert "log_beta" in fixed.state_dict()  # saved all the same
    with pytest.raises(ValueError, match=r"beta is 0.*positive"):
        Content(3, 3, beta=0)


def test_cosine_knows_no_length():
    score = Content(EQUAL, EQUAL).double()
    query, states = query_and_states("content")
    assert_close(energies(score, 5 * query, states / 3), energies(score, query, states))


@pytest.mark.parametrize("cls", [Content, Dot, ScaledDot])
def test_unequal_sizes_are_refused_with_both_and_a_remedy(cls):
    with pytest.raises(ValueError, match=rf"{cls.__name__}.*\b7\b.*\b11\b.*score=general"):
        cls(7, 11)


# --- the contract, over every YAML ---


@every_score
def test_yaml_names_a_score_and_no_sizes(name):
    cls = get_class(score_config(name)["_target_"])
    assert issubclass(cls, Score)
    first, second, *others = inspect.signature(cls).parameters.values()
    assert (first.name, second.name) == ("query_dim", "key_dim")
    assert all(parameter.default is not parameter.empty for parameter in others)
    assert set(score_config(name)) == {"_target_", *(parameter.name for parameter in others)}
    assert cls.equation and cls.reference


@every_score
def test_many_queries_at_once_are_the_same_as_one_at_a_time(name):
    score = double(name)
    query, states = query_and_states(name)
    keys = score.prepare(states)
    assert score(query, keys).shape == (B, N, S)
    one_by_one = torch.cat([score(query[:, n : n + 1], keys) for n in range(N)], 1)
    assert_close(score(query, keys), one_by_one, rtol=1e-12, atol=1e-12)


@every_score
def test_energies_are_unaffected_by_batch_mates_and_by_other_keys(name):
    score = double(name)
    query, states = query_and_states(name)
    others = states.clone()
    others[1:] = 1e3 * torch.randn_like(states[1:])
    assert torch.equal(energies(score, query, others)[0], energies(score, query, states)[0])
    assert_close(energies(score, query[:1], states[:1]), energies(score, query, states)[:1])
    assert_close(energies(score, query, states[:, :2]), energies(score, query, states)[..., :2])


@every_score
def test_prepared_keys_are_the_same_as_fresh_ones_and_nothing_is_remembered(name):
    score = double(name)
    query, states = query_and_states(name)
    attributes, weights = set(vars(score)), {key: x.clone() for key, x in score.state_dict().items()}
    keys = score.prepare(states)
    kept = keys.clone()
    first = score(query, keys)
    energies(score, *query_and_states(name, seed=5))  # another sentence in between
    assert torch.equal(keys, kept)
    assert torch.equal(score(query, keys), first)
    assert torch.equal(energies(score, query, states), first)
    assert_close(score.prepare(states[1:2]), keys[1:2])
    assert set(vars(score)) == attributes
    for module in score.modules():
        assert not any(isinstance(value, Tensor) for value in vars(module).values())
    assert score.state_dict().keys() == weights.keys()
    assert all(torch.equal(x, weights[key]) for key, x in score.state_dict().items())


@every_score
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.1), (torch.float16, 0.02), (torch.float32, 1e-5)])
def test_works_in_every_dtype_and_under_autocast(name, dtype, tolerance):
    score, (query, states) = double(name), query_and_states(name)
    exact = energies(score, query, states)
    tolerances = {"rtol": tolerance, "atol": tolerance * exact.abs().max().item()}
    result = energies(score.to(dtype), query.to(dtype), states.to(dtype))
    assert result.dtype == dtype
    assert_close(result.double(), exact, **tolerances)
    if dtype != torch.float32:
        query, states = query.float().requires_grad_(), states.float().requires_grad_()
        score.float()
        with torch.autocast("cpu", dtype):
            result = energies(score, query, states)
        assert_close(result.double(), exact, **tolerances)
        result.float().sum().backward()
        for x in (query, states, *score.parameters()):
            assert x.grad is not None and x.grad.dtype == torch.float32 and x.grad.isfinite().all()


@every_score
def test_one_seed_makes_one_score(name):
    one, same, other = (make_score(name, EQUAL, EQUAL, seed=seed, **with_dim(name)).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[key], same[key]) for key in one)
    drawn = [key for key in one if key != "log_beta"]
    assert not any(torch.equal(one[key], other[key]) for key in drawn)
