"""A user's lines, translated."""

import sys

from heed.config import TranslateConfig
from heed.loading import make_translator


def translate(config: TranslateConfig) -> None:
    """Standard input to standard output, one line for each; on a terminal, a prompt that also draws the alignment."""
    if sys.stdin is None:
        raise ValueError("standard input is closed: give it lines to translate")
    if sys.stdout is None:
        raise ValueError("standard output is closed: there is nowhere to translate to")
    translator, _ = make_translator(config)
    from heed.interaction import pipe, prompt
    from heed.linear import unchanging_weights

    with unchanging_weights():
        if sys.stdin.isatty() and sys.stdout.isatty():
            prompt(translator, config.scores)
        else:
            pipe(translator, config.buffer, config.scores)
