"""Lists the attention scores in configs/score/ with equation, reference and parameters: `python scripts/scores.py`."""

from heed.app import list_scores

if __name__ == "__main__":
    list_scores()
