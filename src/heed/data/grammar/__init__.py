"""The embedded corpus and its grammar: words, phrases, clauses, contents, sentences."""

from heed.data.grammar.corpus import Grammar

__all__ = ["Grammar"]
