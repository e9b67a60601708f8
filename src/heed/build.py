"""Configuration to model, trainer, and what a run holds."""

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from heed import fast
from heed.component import build_tokenizer_settings, component, own_code
from heed.config import TrainConfig
from heed.data.batches import Batches, Sampling
from heed.data.prepare import Prepared
from heed.device import arithmetic, autocast, pick_device
from heed.linear import Linear
from heed.model import Attention, Bridge, Decoder, Encoder, Seq2Seq
from heed.model.dropout import Dropout
from heed.run import Run
from heed.score import Score
from heed.seals import sha256
from heed.text import TokenizerSettings
from heed.text.pair import Tokenizers, load_pair
from heed.training.checkpoint import check_shapes, load_weights, read_weights, states
from heed.training.trainer import Trainer
from heed.training.validation import Validator

EMBEDDING_STD = 0.1
log = logging.getLogger(__name__)


@contextmanager
def forked(seed: int, name: str) -> Iterator[None]:
    """Random numbers of a component's own, from the seed and its name, whatever else is built and however."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int.from_bytes(digest[:7], "big"))
        yield


def build_model(config: TrainConfig, vocabularies: tuple[int, int], joint: bool) -> Seq2Seq:
    """The model, initialised: two configurations that differ in the score alone give bit-identical other parameters.

    `vocabularies`: sizes of the source's and the target's; `joint`: whether they are one and the same.
    """
    settings, seed = config.model, config.seed
    if settings.tie == "three" and not joint:
        raise ValueError(
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


@torch.no_grad()
def check_energies(score: Score) -> None:
    """`ValueError` unless it compares each query with each key, whatever else is in the batch, padding too.

    Energies of another shape might fit by chance; which sentences and hypotheses stand side by side is chance as well.
    The score's parameters are not what they were: those that begin at zero, which hides what they weigh, are drawn,
    where it gives numbers with them.
    """
    B, N, S = 2, 3, 5
    name = type(score).__name__
    draw = torch.Generator().manual_seed(0)
    queries, states = (
        torch.randn(B, n, dim, generator=draw) for n, dim in ((N, score.query_dim), (S, score.key_dim))
    )
    score.eval()
    keys = score.prepare(states)
    if not isinstance(keys, Tensor) or keys.shape[:2] != (B, S):
        found = tuple(keys.shape) if isinstance(keys, Tensor) else type(keys).__name__
        raise ValueError(
            f"score: prepare of {name} gives {found} for states of shape {tuple(states.shape)}: it must be one tensor "
            f"that begins with {(B, S)}, a key of each state"
        )
    energy = score(queries, keys)
    if not isinstance(energy, Tensor) or not energy.is_floating_point():
        kind = energy.dtype if isinstance(energy, Tensor) else type(energy).__name__
        raise ValueError(
            f"score: {name} gives energies of type {kind}: it must be a tensor of floating-point numbers, for no "
            "others can be -∞, which keeps padding from being attended to"
        )
    shape = tuple(energy.shape)
    if shape != (B, N, S):
        raise ValueError(
            f"score: {name} gives energies of shape {shape} for {B} sentences, {N} queries and {S} keys: it must be "
            f"{(B, N, S)}, an energy of each query with each key"
        )
    if energy.isnan().any():
        raise ValueError(
            f"score: {name} gives energies that are no numbers (NaN) for ordinary queries and keys"
        )
    hidden = [
        parameter for parameter in score.parameters() if parameter.requires_grad and not parameter.any()
    ]
    for parameter in hidden:
        parameter.uniform_(0, 0.1, generator=draw)
    drawn = score(queries, score.prepare(states))
    if drawn.isnan().any():  # they may not be positive
        for parameter in hidden:
            parameter.zero_()
    else:
        energy = drawn
    alone = torch.cat([score(query, score.prepare(states[:1, :-2])) for query in queries[:1].split(1, 1)], 1)
    largest = float(energy.nan_to_num(0, 0, 0).abs().max())
    if not torch.allclose(alone, energy[:1, :, :-2], rtol=1e-3, atol=1e-3 * largest):
        raise ValueError(
            f"score: {name} gives a query and a key another energy where other queries, keys or "
            "sentences stand beside them, which is chance: keys are padded to the longest sentence of a batch. Compute "
            "each from its query, its key and the key's position alone, with no mean, norm or maximum over others"
        )


@torch.no_grad()
def check_decoder(model: Seq2Seq) -> None:
    """`ValueError` unless its decoder says the same of all positions at once, as in training, as step by step."""
    B, S, T = 2, 5, 3
    src, tgt = (torch.arange(B * n).view(B, n) % model.output.out_features for n in (S, T))
    model.eval()
    with fast.switched(True):
        at_once, _ = model(src, torch.tensor([S, S - 2]), tgt)
    with fast.switched(False):
        by_step, _ = model(src, torch.tensor([S, S - 2]), tgt)
    if at_once.shape != by_step.shape or not torch.allclose(
        at_once, by_step, rtol=1e-2, atol=1e-3, equal_nan=True
    ):
        raise ValueError(
            f"decoder: {type(model.decoder).__name__} reads out other numbers by forward, which trains, than by step, "
            "which searches: where one is overridden, so must be the other"
        )


def _embedding(num: int, dim: int) -> nn.Embedding:
    embedding = nn.Embedding(num, dim)
    nn.init.normal_(embedding.weight, std=EMBEDDING_STD)
    return embedding


@torch.no_grad()
def load_vectors(model: Seq2Seq, settings: TokenizerSettings, tokenizers: Tokenizers) -> None:
    """Overwrites the embeddings of the words for which `tokenizer.vectors` names pretrained ones."""
    for embedding, tokenizer in zip((model.src_embedding, model.tgt_embedding), tokenizers, strict=True):
        found = settings.pretrained(tokenizer, embedding.embedding_dim)
        if found is not None:
            ids, vectors = found
            embedding.weight[ids] = vectors


def build_trainer(config: TrainConfig, prepared: Prepared, run: Run) -> Trainer:
    """The training loop of a run over a prepared corpus, at the run's last checkpoint if it has one."""
    device = pick_device(config.device)
    precision = autocast(config.training.precision, device)
    tokenizers, budget = prepared.tokenizers, config.training.batch_tokens
    model = build_model(config, (len(tokenizers.src), len(tokenizers.tgt)), tokenizers.joint)
    validator = Validator(
        Batches(prepared.pairs("val"), 4 * budget, config.seed, shuffle=False),
        prepared.text("val"),
        tokenizers,
        config.metrics.protocol,
        config.training.num_samples,
        device,
        precision,
    )
    alpha = config.training.subword_sampling
    sampling = None if alpha is None else Sampling(tokenizers, prepared.text("train"), alpha)
    batches = Batches(prepared.pairs("train"), budget, config.seed, sampling=sampling)
    if not states(run.checkpoints):
        load_vectors(model, build_tokenizer_settings(config.tokenizer), tokenizers)
        made_of = facts(model, batches, (prepared.directory / "prepare.json").read_bytes())
        run.record(finished=False, **made_of)
    trainer = Trainer(model, batches, validator, config.training, run, config.seed, device, precision)
    if not trainer.finished:
        run.record(
            code={group: sha256(file) for group, file in own_code(config).items()},
            arithmetic=arithmetic(config.training.precision, device),
        )
    return trainer


def facts(model: Seq2Seq, batches: Batches, corpus: bytes) -> dict[str, Any]:
    """What a comparison wants to be the same in all runs, as digests, and the numbers of parameters."""
    weights, order = hashlib.sha256(), hashlib.sha256(corpus)
    score = set(model.decoder.attention.score.parameters())
    for name, parameter in model.named_parameters():
        if parameter not in score:
            weights.update(name.encode() + parameter.detach().numpy().tobytes())
    if batches.sampling:
        order.update(f"sampled with {batches.sampling.alpha}".encode())
    for indices in batches.plan(0):
        order.update(indices.tobytes() + b"/")
    return {
        "score_parameters": num_parameters(model.decoder.attention.score),
        "parameters": num_parameters(model),
        "initial_weights": weights.hexdigest(),  # of all but the score
        "batches": order.hexdigest(),  # of the first epoch, and of the corpus
    }


def num_parameters(module: nn.Module) -> int:
    """How many numbers it learns; shared ones count once."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def load_run(path: str | Path, checkpoint: str) -> tuple[Seq2Seq, Tokenizers, TrainConfig]:
    """A run's model with the weights of a checkpoint (see `read_weights`), its tokenizers and configuration."""
    run = Run(path)
    config = run.config()
    run.check_corpus()
    for changed in run.changed_code(config):
        log.warning("%s: %s is no longer what was trained", path, changed)
    tokenizers = load_pair(build_tokenizer_settings(config.tokenizer), run.path)
    sizes = (len(tokenizers.src), len(tokenizers.tgt))
    weights, file = read_weights(run.checkpoints, checkpoint)
    # A configuration may ask for any size: none of it is made but what the file holds. A score of the user's own that
    # looks at its numbers cannot be made without any (`TypeError`: by NumPy).
    with suppress(RuntimeError, TypeError), torch.device("meta"):
        check_shapes(build_model(config, sizes, tokenizers.joint), weights, file)
    model = build_model(config, sizes, tokenizers.joint)
    load_weights(model, weights, file)
    return model, tokenizers, config
