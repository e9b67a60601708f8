"""The typed schema of a configuration: an unknown key, a wrong type, an impossible value is an error that says so."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from heed.checks import require_between, require_one_of
from heed.search.settings import SearchSettings

T = TypeVar("T")
CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@dataclass
class ModelSettings:
    """Sizes and kinds of the model, apart from score and wiring (`configs/model/`)."""

    cell: str
    embedding_dim: int
    encoder_dim: int
    encoder_layers: int
    bidirectional: bool
    decoder_dim: int
    decoder_layers: int
    dropout: float
    tie: str
    word_dropout: float = 0.0  # runs that were made before these were there have no values for them
    locked_dropout: bool = False
    embedding_skip: bool = False

    def __post_init__(self) -> None:
        """Checks the values."""
        require_one_of("model.cell", self.cell, ("gru", "lstm"))
        require_one_of("model.tie", self.tie, ("none", "two", "three"))
        require_between("model.dropout", self.dropout, 0, 1)
        require_between("model.word_dropout", self.word_dropout, 0, 1)
        for key in ("embedding_dim", "encoder_dim", "decoder_dim"):
            require_between(f"model.{key}", getattr(self, key), 1)
        for key in ("encoder_layers", "decoder_layers"):
            # Each layer costs memory before its weights are looked for.
            require_between(f"model.{key}", getattr(self, key), 1, 101)


@dataclass
class TrainingSettings:
    """The training loop (`configs/training/`)."""

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
    # Runs that were made before these were there have no values for them.
    compile: bool = False
    subword_sampling: float | None = None
    r_drop: float = 0.0

    def __post_init__(self) -> None:
        """Checks the values."""
        require_one_of("training.optimizer", self.optimizer, ("adam", "adamw"))
        require_one_of("training.schedule", self.schedule, ("constant", "inverse_sqrt", "cosine", "plateau"))
        require_one_of("training.precision", self.precision, ("auto", "fp32", "bf16"))
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(
                f"training.betas is {self.betas}: it must be two numbers from 0 to 1, such as [0.9, 0.98]"
            )
        require_one_of("training.monitor", self.monitor, ("bleu", "loss"))
        require_between("training.label_smoothing", self.label_smoothing, 0, 1)
        require_between("training.ema_decay", self.ema_decay, 0, 1)
        require_between("training.clip_norm", self.clip_norm, 1e-9)
        require_between("training.learning_rate", self.learning_rate, 0)
        at_least_1 = ("max_epochs", "batch_tokens", "accumulate", "log_every", "max_bad_steps")
        for key in (*at_least_1, "max_steps", "validate_every", "save_every", "patience"):
            require_between(f"training.{key}", getattr(self, key), 1)
        if self.subword_sampling is not None and not 0 < self.subword_sampling <= 1:
            raise ValueError(
                f"training.subword_sampling is {self.subword_sampling}: it must be above 0 and up to 1, or null: never"
            )
        for key in ("warmup_steps", "weight_decay", "r_drop", "keep", "num_samples"):
            require_between(f"training.{key}", getattr(self, key), 0)


@dataclass
class MetricSettings:
    """How hypotheses are compared with references; see sacrebleu's documentation."""

    tokenize: str | None  # None in an evaluation: as in training
    lowercase: bool | None
    bootstrap: int | None

    def __post_init__(self) -> None:
        """Checks the values."""
        require_between("metrics.bootstrap", self.bootstrap, 0, 1_000_000)

    @property
    def protocol(self) -> dict[str, Any]:
        """What decides a score: sacrebleu's tokenizer, and whether case counts."""
        return {"tokenize": self.tokenize, "lowercase": self.lowercase}

    def over(self, others: "MetricSettings") -> "MetricSettings":
        """These, and those of the others where there is none."""
        own = {key: value for key, value in asdict(self).items() if value is not None}
        return replace(others, **own)


@dataclass
class Subwords:
    """What `tokenizer=sentencepiece` refers to; with any other tokenizer it has no effect."""

    model_type: str
    vocab_size: int


@dataclass
class TrainConfig:
    """`scripts/train.py` and `scripts/prepare.py`: everything that decides what a run becomes."""

    data: dict[str, Any]
    tokenizer: dict[str, Any]
    max_length: int
    data_dir: str
    score: dict[str, Any]
    decoder: dict[str, Any]
    model: ModelSettings
    training: TrainingSettings
    search: SearchSettings  # of the evaluation after training; validation is greedy
    metrics: MetricSettings
    test_split: str
    device: str
    seed: int
    names: dict[str, str] = field(default_factory=dict)  # which YAML each group came from, for reports

    def __post_init__(self) -> None:
        """Checks the values."""
        require_between("max_length", self.max_length, 1)
        require_between("seed", self.seed, 0, 2**31)
        if missing := [f"metrics.{key}" for key, value in asdict(self.metrics).items() if value is None]:
            raise ValueError(f"null: give a value for {', '.join(missing)}")


@dataclass
class TranslateConfig:
    """`scripts/translate.py`."""

    run: Any  # a run directory, or a list of them: an ensemble
    checkpoint: str
    search: dict[str, Any]  # null: as in training
    device: str
    buffer: int
    scores: bool

    def __post_init__(self) -> None:
        """Checks the values."""
        require_between("buffer", self.buffer, 1)


@dataclass
class EvaluateConfig:
    """`scripts/evaluate.py`."""

    run: Any
    checkpoint: str
    split: str | None  # null: as in training
    search: dict[str, Any]  # null: as in training
    metrics: MetricSettings
    device: str


@dataclass
class AlignConfig:
    """`scripts/align.py`."""

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
        """Checks the values."""
        if (self.source is None) != (self.target is None):
            raise ValueError(
                "source and target go together: two files, line by line translations of each other"
            )
        if self.source is not None and self.split is not None:
            raise ValueError(
                "split is of the run's corpus, source and target are files: give the one or the others"
            )
        if self.gold is None and (self.gold_first or self.gold_reverse):
            raise ValueError("gold_first and gold_reverse are about a file of gold links: give it, gold=FILE")
        require_between("gold_first", self.gold_first, 0, 2)


@dataclass
class CompareConfig:
    """`scripts/compare.py`."""

    runs: Any  # run directories, or patterns of them
    split: str | None  # null: as in training
    search: dict[str, Any]  # null: as in training
    device: str
    samples: int | None
    trials: int | None
    out: str | None

    def __post_init__(self) -> None:
        """Checks the values."""
        for key in ("samples", "trials"):
            require_between(key, getattr(self, key), 100, 1_000_000)


def train_config(composed: DictConfig, names: dict[str, str]) -> TrainConfig:
    """The composed `configs/train.yaml`, less what only other keys refer to, plus the names of the chosen YAMLs."""
    plain: Any = OmegaConf.to_container(composed, resolve=True)
    typed(Subwords, plain.pop("subwords"), "subwords")
    for key in ("run", "fast"):
        plain.pop(key, None)
    if "names" in plain:
        raise ValueError("configuration key names: heed fills it, it cannot be given")
    return typed(TrainConfig, {**plain, "names": names})


def search_over(given: Mapping[str, Any], others: SearchSettings) -> SearchSettings:
    """The search with what is given, and with the others' values where that is null. `ValueError` as in `typed`."""
    own = {key: value for key, value in given.items() if value is not None}
    return typed(SearchSettings, {**asdict(others), **own}, "search")


def typed(schema: type[T], config: DictConfig | dict[str, Any], group: str = "") -> T:
    """The configuration (of `group`) as a `schema`. `ValueError` names an unknown, missing or ill-typed key."""
    try:
        merged = OmegaConf.merge(OmegaConf.structured(schema), config)
        missing = OmegaConf.missing_keys(merged)
        if missing:
            raise ValueError(f"missing: give a value for {', '.join(sorted(missing))}")
        return OmegaConf.to_object(merged)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        key = ".".join(filter(None, (group, getattr(error, "full_key", None))))
        known = ""
        if isinstance(error, ConfigKeyError) and is_dataclass(error.object_type):
            known = "; it has " + ", ".join(
                one.name for one in fields(error.object_type) if one.name != "names"
            )
        told = str(error).splitlines()[0]
        if told.endswith("is not a ListConfig, list or tuple."):
            told = f"one value, where a list is wanted: write it in brackets, {key}=[...]"
        raise ValueError(f"configuration key {key}: {told}{known}") from None
