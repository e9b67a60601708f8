"""The floating-point operations that one training step of a model needs, by formula."""

from math import prod

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from heed.data.batches import Batch
from heed.model import Seq2Seq
from heed.ops import switch
from heed.score import Bahdanau, Content, Dot, General, ScaledDot, Score


def training_flops(model: Seq2Seq, batch: Batch) -> int:
    """FLOP of loss and gradients for one batch: matrix products alone, a multiplication and an addition counted as two.

    A product with a matrix of weights takes two per weight and position, at real positions only: once per source token
    in the encoder and the score's `prepare`, once per target token in the decoder and the output layer, once per
    sentence in the bridge. Energies and context are products per pair of a target and a source token. Backward takes
    twice as much as forward: one product for the gradient of each factor.

    It is what a good implementation needs, whatever this one does: products on padding, and what is computed again,
    are left out, so they lower a share of peak. Left out too is all that is no matrix product, forward and backward:
    embedding look-ups, biases, gates, softmax, dropout, the sum and tanh in the additive score, the optimiser. The few
    products that the zero states at the beginning would save are counted.
    """
    score = model.decoder.attention.score
    key, query, pair = score_products(score)
    per_source = _weights(model.encoder) + key
    per_target = _weights(model.decoder) - _weights(score) + query + _weights(model.output)
    per_pair = pair + score.key_dim
    products = (
        len(batch.src) * _weights(model.bridge)
        + int(batch.src_lengths.sum()) * per_source
        + int(batch.tgt_lengths.sum()) * per_target
        + int((batch.src_lengths * batch.tgt_lengths).sum()) * per_pair
    )
    return 3 * 2 * products


def score_products(score: Score) -> tuple[int, int, int]:
    """The products of a score's forward pass: for a key (`prepare`), for a query, for a pair of both.

    The shipped scores' are stated. Any other's are counted as it runs with one key and with two; what it does element
    by element is no product.
    """
    if type(score) is Bahdanau:
        return score.U_a.weight.numel(), score.W_a.weight.numel(), len(score.v_a)
    if type(score) is General:
        return score.key_dim * score.query_dim, 0, score.query_dim
    if type(score) in (Dot, ScaledDot, Content):
        return 0, 0, score.key_dim
    key, one = _counted(score, 1)
    _, two = _counted(score, 2)
    return key, 2 * one - two, two - one


@torch.no_grad()
def _counted(score: Score, num_keys: int) -> tuple[int, int]:
    """The products of `prepare` and of `forward` with one query."""
    like = next(score.parameters(), torch.zeros(0))
    states, query = like.new_zeros(1, num_keys, score.key_dim), like.new_zeros(1, 1, score.query_dim)
    # The counter by itself does not know the product of a matrix with a vector.
    products = {torch.ops.aten.mv: lambda matrix, *_, **__: 2 * prod(matrix)}
    with switch.reference(), FlopCounterMode(display=False, custom_mapping=products) as preparing:
        keys = score.prepare(states)
    with switch.reference(), FlopCounterMode(display=False, custom_mapping=products) as comparing:
        score(query, keys)
    return preparing.get_total_flops() // 2, comparing.get_total_flops() // 2


def _weights(module: nn.Module) -> int:
    """The weights that multiply: all but biases and vectors."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.dim() == 2)
