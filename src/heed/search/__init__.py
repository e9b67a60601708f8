"""From encoder states to hypotheses to text."""

from heed.search.beam import Hypothesis, SearchSettings, beam_search
from heed.search.translator import Translation, Translator

__all__ = ["Hypothesis", "SearchSettings", "Translation", "Translator", "beam_search"]
