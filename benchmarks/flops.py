"""The floating-point operations (FLOP) of one training step, by formula."""

from math import prod

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from heed.data.batches import Batch
from heed.model import Seq2Seq
from heed.ops import switch
from heed.score import Bahdanau, Content, Dot, General, ScaledDot, Score


def training_flops(model: Seq2Seq, batch: Batch) -> int:
    """Return the FLOP of loss and gradients for one batch. A multiplication and an addition are two FLOP.

    The formula counts matrix products alone, at real positions. A product with a weight matrix takes two FLOP for each
    weight and position. Encoder and `prepare` have a position for each source token, decoder and output layer for each
    target token, and the bridge for each sentence. Energies and contexts take products for each pair of a target token
    and a source token. The backward pass takes twice as much as the forward pass: one product for the gradient of each
    factor.

    The formula counts what a good implementation needs. It leaves out products on padding and repeated computations,
    which therefore lower the share of the peak. It also leaves out everything but matrix products: embeddings, biases,
    gates, softmax, dropout, the sum and tanh of the additive score, and the optimiser. Products with the initial zero
    states are counted, although an implementation could save them.
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
    """Return the number of products in a score's forward pass: for a key (`prepare`), for a query, and for a pair.

    For heed's scores the numbers are known. Another score is run with one key and with two, and its matrix products are
    counted. Elementwise operations do not count.
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
    """Return the number of products in `prepare`, and in `forward` with one query."""
    like = next(score.parameters(), torch.zeros(0))
    states, query = like.new_zeros(1, num_keys, score.key_dim), like.new_zeros(1, 1, score.query_dim)
    # torch's counter does not know the product of a matrix and a vector.
    products = {torch.ops.aten.mv: lambda matrix, *_, **__: 2 * prod(matrix)}
    with switch.reference(), FlopCounterMode(display=False, custom_mapping=products) as preparing:
        keys = score.prepare(states)
    with switch.reference(), FlopCounterMode(display=False, custom_mapping=products) as comparing:
        score(query, keys)
    return preparing.get_total_flops() // 2, comparing.get_total_flops() // 2


def _weights(module: nn.Module) -> int:
    """Return the number of weights in matrices."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.dim() == 2)
