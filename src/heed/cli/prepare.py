"""Prepare a corpus for training."""

from pathlib import Path

from omegaconf import DictConfig

from heed.cli.command import choices, command
from heed.config.components import build_corpus, build_tokenizer_settings
from heed.config.schema import TrainConfig, train_config
from heed.data.prepare import Prepared
from heed.data.prepare import prepare as prepare_corpus


@command("train")
def main(composed: DictConfig) -> None:
    """Prepare the corpus of a composed configuration, as training would."""
    prepare(train_config(composed, choices(composed)))


def prepare(config: TrainConfig) -> Prepared:
    """Find or make the prepared corpus. Prints its directory and its numbers of pairs."""
    settings = build_tokenizer_settings(config.tokenizer)
    prepared = prepare_corpus(build_corpus(config.data), settings, Path(config.data_dir), config.max_length)
    print(f"{prepared.directory}: " + ", ".join(f"{s} {n['kept']:,}" for s, n in prepared.stats.items()))
    return prepared
