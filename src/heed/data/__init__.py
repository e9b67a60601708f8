"""Corpora, the binary store of their ids, and batches (`heed.data.batches`, which needs torch)."""

from heed.data.corpus import Corpus
from heed.data.files import Files
from heed.data.grammar import Grammar
from heed.data.multi30k import Multi30k
from heed.data.tsv import Tsv

__all__ = ["Corpus", "Files", "Grammar", "Multi30k", "Tsv"]
