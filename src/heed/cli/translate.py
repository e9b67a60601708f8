"""Translate the user's lines."""

import sys

from omegaconf import DictConfig

from heed.cli.command import command
from heed.config.schema import TranslateConfig, typed
from heed.errors import UserError


@command("translate")
def main(composed: DictConfig) -> None:
    """Translate standard input, or on a terminal, lines at a prompt."""
    translate(typed(TranslateConfig, composed))


def translate(config: TranslateConfig) -> None:
    """Write a line for each line of standard input. On a terminal, prompt for lines and draw the alignments too."""
    if sys.stdin is None:
        raise UserError("standard input is closed: give it lines to translate")
    if sys.stdout is None:
        raise UserError("standard output is closed: translations have nowhere to go")
    from heed.cli.interactive import pipe, prompt
    from heed.ops.linear import packed_weights
    from heed.run.loading import load_translator

    translator, _ = load_translator(config)
    with packed_weights():
        if sys.stdin.isatty() and sys.stdout.isatty():
            prompt(translator, config.log_probs)
        else:
            pipe(translator, config.buffer, config.log_probs)
