"""Prepares a corpus as `scripts/train.py` would: `python scripts/prepare.py data=multi30k`."""

from omegaconf import DictConfig

from heed.cli import choices, script


@script("train")
def main(composed: DictConfig) -> None:
    """Composed configuration to a prepared corpus; prints where it is and what it holds."""
    from heed.commands.prepare import prepare
    from heed.config import train_config

    prepare(train_config(composed, choices(composed)))


if __name__ == "__main__":
    main()
