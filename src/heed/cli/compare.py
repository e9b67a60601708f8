"""Compare finished runs."""

from omegaconf import DictConfig

from heed.cli.command import command, search_choice
from heed.config.schema import CompareConfig, typed


@command("compare")
def main(composed: DictConfig) -> None:
    """Write `compare.md`, `compare.json` and `compare.html`."""
    from heed.comparison.compare import compare

    name, overridden = search_choice(composed)
    compare(typed(CompareConfig, composed), name, overridden)
