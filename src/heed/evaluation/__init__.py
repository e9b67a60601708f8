"""Evaluate the translations of one run: BLEU, chrF2 and TER, alignments, and a report."""
