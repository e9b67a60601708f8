"""Compares finished runs: `python scripts/compare.py 'runs=runs/grammar/luong/*/*'`."""

from omegaconf import DictConfig

from heed.cli import script


@script("compare")
def main(composed: DictConfig) -> None:
    """Composed configuration to `compare.md` and `compare.json`."""
    from heed.app import compare
    from heed.config import CompareConfig, typed

    compare(typed(CompareConfig, composed))


if __name__ == "__main__":
    main()
