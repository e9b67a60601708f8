"""Compares finished runs: `python scripts/compare.py 'runs=runs/grammar/luong/*/*'`."""

from omegaconf import DictConfig

from heed.cli import script, search_name


@script("compare")
def main(composed: DictConfig) -> None:
    """Composed configuration to `compare.md`, `compare.json` and `compare.html`."""
    from heed.commands.compare import compare
    from heed.config import CompareConfig, typed

    compare(typed(CompareConfig, composed), search_name(composed))


if __name__ == "__main__":
    main()
