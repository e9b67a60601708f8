"""Aligns the words of given translations by a run's attention: `python scripts/align.py run=runs/… split=test`."""

from omegaconf import DictConfig

from heed.cli import script


@script("align")
def main(composed: DictConfig) -> None:
    """Composed configuration to `align/<split>/` in the run's directory."""
    from heed.commands.align import align
    from heed.config import AlignConfig, typed

    align(typed(AlignConfig, composed))


if __name__ == "__main__":
    main()
