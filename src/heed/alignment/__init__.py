"""Alignments between pieces and between words: as links, numbers and pictures."""
