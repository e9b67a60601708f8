"""Prepares a corpus: `python scripts/prepare.py data=multi30k`. Training does it by itself."""

from omegaconf import DictConfig

from heed.cli import script


@script("prepare")
def main(composed: DictConfig) -> None:
    """Composed configuration to a prepared corpus; prints where it is and what it holds."""
    from heed.app import prepare
    from heed.config import PrepareConfig, typed

    prepare(typed(PrepareConfig, composed))


if __name__ == "__main__":
    main()
