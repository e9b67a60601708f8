"""How good the translations are: BLEU, chrF2 and TER, alignments as numbers and pictures, the report."""
