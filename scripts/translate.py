"""Translates standard input, one line for each line: `python scripts/translate.py run=runs/… < de.txt > en.txt`."""

from omegaconf import DictConfig

from heed.cli import script


@script("translate")
def main(composed: DictConfig) -> None:
    """Composed configuration to translations on standard output."""
    from heed.commands.translate import translate
    from heed.config import TranslateConfig, typed

    translate(typed(TranslateConfig, composed))


if __name__ == "__main__":
    main()
