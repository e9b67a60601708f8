"""Alignments: between pieces and words, as links, numbers and pictures."""
