"""Lists the attention scores in configs/score/ with equation, reference and parameters: `python scripts/scores.py`."""

from argparse import ArgumentParser

if __name__ == "__main__":
    ArgumentParser(description=__doc__).parse_args()  # before torch is imported

    from heed.commands.scores import list_scores
    from heed.signals import ending_with_its_reader

    with ending_with_its_reader():
        list_scores()
