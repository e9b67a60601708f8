"""A corpus, made ready for training."""

from pathlib import Path

from heed.component import build_corpus, build_tokenizer_settings
from heed.config import TrainConfig
from heed.data.prepare import Prepared
from heed.data.prepare import prepare as prepare_corpus


def prepare(config: TrainConfig) -> Prepared:
    """Makes or finds the prepared corpus, prints where it is and how many pairs it holds."""
    settings = build_tokenizer_settings(config.tokenizer)
    prepared = prepare_corpus(build_corpus(config.data), settings, Path(config.data_dir), config.max_length)
    print(f"{prepared.directory}: " + ", ".join(f"{s} {n['kept']:,}" for s, n in prepared.stats.items()))
    return prepared
