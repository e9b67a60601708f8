"""The embedded corpus and the grammar that makes it: words, phrases, clauses, what they say, whole sentences."""

from heed.data.grammar.corpus import Grammar

__all__ = ["Grammar"]
