"""From encoder states to hypotheses to text."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from heed.search.settings import SearchSettings

if TYPE_CHECKING:
    from heed.search.beam import Hypothesis, beam_search
    from heed.search.translator import Translation, Translator

__all__ = ["Hypothesis", "SearchSettings", "Translation", "Translator", "beam_search"]


def __getattr__(name: str) -> Any:
    """Imports what needs torch when it is asked for: a configuration asks for SearchSettings alone."""
    if name in __all__:
        module = "translator" if name in ("Translation", "Translator") else "beam"
        return getattr(import_module(f"heed.search.{module}"), name)
    raise AttributeError(f"module 'heed.search' has no attribute {name!r}")
