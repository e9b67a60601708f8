"""The typed schema of a configuration. Unknown keys, wrong types and impossible values raise `UserError`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from heed.errors import UserError, require_between, require_one_of
from heed.search.settings import SearchSettings

T = TypeVar("T")


@dataclass
class ModelSettings:
    """Sizes and kinds of the model's parts, except score and decoder (`configs/model/`)."""

    cell: str
    embedding_dim: int
    encoder_dim: int
    encoder_layers: int
    bidirectional: bool
    decoder_dim: int
    decoder_layers: int
    dropout: float
    tie: str
    word_dropout: float
    locked_dropout: bool
    embedding_skip: bool

    def __post_init__(self) -> None:
        """Check the values."""
        require_one_of("model.cell", self.cell, ("gru", "lstm"))
        require_one_of("model.tie", self.tie, ("none", "two", "three"))
        require_between("model.dropout", self.dropout, 0, 1)
        require_between("model.word_dropout", self.word_dropout, 0, 1)
        for key in ("embedding_dim", "encoder_dim", "decoder_dim"):
            require_between(f"model.{key}", getattr(self, key), 1)
        for key in ("encoder_layers", "decoder_layers"):
            # A run's configuration may be untrusted, and each layer takes memory before its weights are read.
            require_between(f"model.{key}", getattr(self, key), 1, 101)


@dataclass
class TrainingSettings:
    """Settings of the training loop (`configs/training/`)."""

    max_epochs: int
    max_steps: int | None
    batch_tokens: int
    accumulate: int
    label_smoothing: float
    optimizer: str
    learning_rate: float
    betas: list[float]
    weight_decay: float
    schedule: str
    warmup_steps: int
    clip_norm: float
    ema_decay: float
    precision: str
    validate_every: int | None
    save_every: int | None
    keep: int
    log_every: int
    monitor: str
    patience: int | None
    max_bad_steps: int
    num_samples: int
    compile: bool
    subword_sampling: float | None
    r_drop: float
    strict_resume: bool

    def __post_init__(self) -> None:
        """Check the values."""
        require_one_of("training.optimizer", self.optimizer, ("adam", "adamw"))
        require_one_of("training.schedule", self.schedule, ("constant", "inverse_sqrt", "cosine", "plateau"))
        require_one_of("training.precision", self.precision, ("auto", "fp32", "bf16"))
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(f"training.betas is {self.betas}: it must be two numbers from 0 to 1, such as [0.9, 0.98]")
        require_one_of("training.monitor", self.monitor, ("bleu", "loss"))
        require_between("training.label_smoothing", self.label_smoothing, 0, 1)
        require_between("training.ema_decay", self.ema_decay, 0, 1)
        require_between("training.clip_norm", self.clip_norm, 1e-9)
        require_between("training.learning_rate", self.learning_rate, 0)
        at_least_1 = ("max_epochs", "batch_tokens", "accumulate", "log_every", "max_bad_steps")
        for key in (*at_least_1, "max_steps", "validate_every", "save_every", "patience"):
            require_between(f"training.{key}", getattr(self, key), 1)
        if self.subword_sampling is not None and not 0 < self.subword_sampling <= 1:
            raise UserError(
                f"training.subword_sampling is {self.subword_sampling}: it must be above 0 and at most 1, or null"
            )
        for key in ("warmup_steps", "weight_decay", "r_drop", "keep", "num_samples"):
            require_between(f"training.{key}", getattr(self, key), 0)


@dataclass
class MetricSettings:
    """Settings of BLEU, chrF and TER (see sacrebleu's documentation). None in an evaluation: as in training."""

    tokenize: str | None
    lowercase: bool | None
    bootstrap: int | None

    def __post_init__(self) -> None:
        """Check the values."""
        require_between("metrics.bootstrap", self.bootstrap, 0, 1_000_000)

    @property
    def protocol(self) -> dict[str, Any]:
        """Return the settings that change a metric's value: sacrebleu's tokenizer and `lowercase`."""
        return {"tokenize": self.tokenize, "lowercase": self.lowercase}

    def over(self, others: "MetricSettings") -> "MetricSettings":
        """Return these settings, with the others' values for those that are None."""
        own = {key: value for key, value in asdict(self).items() if value is not None}
        return replace(others, **own)


@dataclass
class Subwords:
    """Settings that `tokenizer=sentencepiece` refers to. Other tokenizers ignore them."""

    model_type: str
    vocab_size: int


@dataclass
class TrainConfig:
    """The configuration of a run: `scripts/train.py` and `scripts/prepare.py`."""

    data: dict[str, Any]
    tokenizer: dict[str, Any]
    max_length: int
    data_dir: str
    score: dict[str, Any]
    decoder: dict[str, Any]
    model: ModelSettings
    training: TrainingSettings
    search: SearchSettings  # for the evaluation after training; validation is greedy
    metrics: MetricSettings
    test_split: str
    device: str
    seed: int
    names: dict[str, str] = field(default_factory=dict)  # the YAML that each group came from, for reports

    def __post_init__(self) -> None:
        """Check the values."""
        require_between("max_length", self.max_length, 1)
        require_between("seed", self.seed, 0, 2**31)
        if missing := [f"metrics.{key}" for key, value in asdict(self.metrics).items() if value is None]:
            raise UserError(f"null is not allowed: give a value for {', '.join(missing)}")


@dataclass
class TranslateConfig:
    """The configuration of `scripts/translate.py`."""

    run: Any  # a run directory, or a list of them: an ensemble
    checkpoint: str
    search: dict[str, Any]  # null: as in training
    device: str
    buffer: int
    log_probs: bool

    def __post_init__(self) -> None:
        """Check the values."""
        require_between("buffer", self.buffer, 1)


@dataclass
class EvaluateConfig:
    """The configuration of `scripts/evaluate.py`."""

    run: Any
    checkpoint: str
    split: str | None  # null: as in training
    search: dict[str, Any]  # null: as in training
    metrics: MetricSettings
    device: str


@dataclass
class AlignConfig:
    """The configuration of `scripts/align.py`."""

    run: Any
    checkpoint: str
    split: str | None  # null: as in training
    source: str | None
    target: str | None
    gold: str | None
    gold_first: int
    gold_reverse: bool
    device: str

    def __post_init__(self) -> None:
        """Check the values."""
        if (self.source is None) != (self.target is None):
            raise UserError("source and target go together: give two files whose lines are translations of each other")
        if self.source is not None and self.split is not None:
            raise UserError(
                "split names a part of the run's corpus, source and target name files: give split or the files"
            )
        if self.gold is None and (self.gold_first or self.gold_reverse):
            raise UserError("gold_first and gold_reverse need a file of gold links: give gold=FILE")
        require_between("gold_first", self.gold_first, 0, 2)


@dataclass
class CompareConfig:
    """The configuration of `scripts/compare.py`."""

    runs: Any  # run directories, or patterns that match them
    split: str | None  # null: as in training
    search: dict[str, Any]  # null: as in training
    device: str
    samples: int | None
    trials: int | None
    out: str | None

    def __post_init__(self) -> None:
        """Check the values."""
        for key in ("samples", "trials"):
            require_between(key, getattr(self, key), 100, 1_000_000)


def train_config(composed: DictConfig, names: dict[str, str]) -> TrainConfig:
    """Return the composed `configs/train.yaml` as a `TrainConfig`, with the names of the chosen YAMLs.

    The keys `run` and `fast` do not change what a run becomes, and are left out. So is `subwords`, which only other
    keys refer to.
    """
    plain: Any = OmegaConf.to_container(composed, resolve=True)
    typed(Subwords, plain.pop("subwords"), "subwords")
    for key in ("run", "fast"):
        plain.pop(key, None)
    if "names" in plain:
        raise UserError("configuration key names: heed fills it in. Remove it")
    return typed(TrainConfig, {**plain, "names": names})


def search_over(given: Mapping[str, Any], others: SearchSettings) -> SearchSettings:
    """Return search settings with the given values, and the others' values for those that are None.

    Raises `UserError` as `typed` does.
    """
    own = {key: value for key, value in given.items() if value is not None}
    return typed(SearchSettings, {**asdict(others), **own}, "search")


def typed(schema: type[T], config: DictConfig | dict[str, Any], group: str = "") -> T:
    """Return a configuration, or the part of it that is called `group`, as an instance of the dataclass `schema`.

    Raises `UserError` for an unknown key, a missing key, and a value of the wrong type.
    """
    try:
        merged = OmegaConf.merge(OmegaConf.structured(schema), config)
        missing = OmegaConf.missing_keys(merged)
        if missing:
            raise UserError(f"missing: give a value for {', '.join(sorted(missing))}")
        return OmegaConf.to_object(merged)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        key = ".".join(filter(None, (group, getattr(error, "full_key", None))))
        known = ""
        if isinstance(error, ConfigKeyError) and is_dataclass(error.object_type):
            known = "; it has " + ", ".join(one.name for one in fields(error.object_type) if one.name != "names")
        message = str(error).splitlines()[0]
        if message.endswith("is not a ListConfig, list or tuple."):
            message = f"it takes a list. Write one value in brackets too: {key}=[...]"
        raise UserError(f"configuration key {key}: {message}{known}") from None
