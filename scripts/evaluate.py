"""Evaluate a run on a split of its corpus: `python scripts/evaluate.py run=runs/… split=test search=beam`."""

from heed.cli.evaluate import main

if __name__ == "__main__":
    main()
