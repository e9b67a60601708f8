"""Build a model from a configuration."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn

from heed.config.components import component
from heed.config.schema import TrainConfig
from heed.errors import UserError
from heed.model import Attention, Bridge, Decoder, Encoder, Seq2Seq
from heed.model.dropout import Dropout
from heed.ops.linear import Linear
from heed.score import Score
from heed.text import TokenizerSettings
from heed.text.pair import Tokenizers

EMBEDDING_STD = 0.1


@contextmanager
def forked(seed: int, name: str) -> Iterator[None]:
    """Seed torch's random numbers by the seed and a component's name inside the block.

    A component's weights then do not depend on which other components are built, nor in which order.
    """
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int.from_bytes(digest[:7], "big"))
        yield


def build_model(config: TrainConfig, vocabularies: tuple[int, int], joint: bool) -> Seq2Seq:
    """Return the initialised model.

    Two configurations that differ in the score alone give bit-identical parameters outside the score.

    Args:
        config: of the run.
        vocabularies: the sizes of the source vocabulary and the target vocabulary.
        joint: True if both sides share one vocabulary.

    Raises:
        UserError: `model.tie=three` without a joint vocabulary, or a mistake in `score` or `decoder` (see `component`).
    """
    settings, seed = config.model, config.seed
    if settings.tie == "three" and not joint:
        raise UserError(
            "model.tie=three shares one embedding between source and target, so both need one vocabulary: "
            "set tokenizer.joint=true or model.tie=two"
        )
    dropout = partial(Dropout, settings.dropout, settings.locked_dropout)
    with forked(seed, "encoder"):
        encoder = Encoder(
            settings.cell,
            settings.embedding_dim,
            settings.encoder_dim,
            settings.encoder_layers,
            settings.bidirectional,
            dropout(),
            settings.embedding_skip,
        )
    with forked(seed, "score"):
        score = component(
            *("score", config.score, Score),  # type: ignore[type-abstract]
            query_dim=settings.decoder_dim,
            key_dim=encoder.state_dim,
        )
    with forked(seed, "decoder"):
        decoder = component(
            "decoder",
            config.decoder,
            Decoder,  # type: ignore[type-abstract]
            attention=Attention(score),
            embedding_dim=settings.embedding_dim,
            hidden_dim=settings.decoder_dim,
            dropout=dropout(),
            cell=settings.cell,
            num_layers=settings.decoder_layers,
        )
    with forked(seed, "bridge"):
        bridge = Bridge(encoder.state_dim, decoder.state_dims)
    with forked(seed, "src_embedding"):
        src_embedding = _embedding(vocabularies[0], settings.embedding_dim)
    with forked(seed, "tgt_embedding"):
        tgt_embedding = _embedding(vocabularies[1], settings.embedding_dim)
    with forked(seed, "output"):
        output = Linear(settings.embedding_dim, vocabularies[1])
        nn.init.normal_(output.weight, std=EMBEDDING_STD)
        nn.init.zeros_(output.bias)
    if settings.tie == "three":
        src_embedding = tgt_embedding
    if settings.tie in ("two", "three"):
        output.weight = tgt_embedding.weight
    return Seq2Seq(
        *(src_embedding, tgt_embedding, encoder, bridge, decoder, output),
        dropout(),
        settings.word_dropout,
    )


def _embedding(num: int, dim: int) -> nn.Embedding:
    embedding = nn.Embedding(num, dim)
    nn.init.normal_(embedding.weight, std=EMBEDDING_STD)
    return embedding


@torch.no_grad()
def load_vectors(model: Seq2Seq, settings: TokenizerSettings, tokenizers: Tokenizers) -> None:
    """Overwrite the embeddings of the words that have a pretrained vector in the files of `tokenizer.vectors`."""
    for embedding, tokenizer in zip((model.src_embedding, model.tgt_embedding), tokenizers, strict=True):
        found = settings.pretrained(tokenizer, embedding.embedding_dim)
        if found is not None:
            ids, vectors = found
            embedding.weight[ids] = vectors


def num_parameters(module: nn.Module) -> int:
    """Return the number of learned parameters. Shared parameters count once."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
