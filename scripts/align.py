"""Align the words of given translations by a run's attention: `python scripts/align.py run=runs/… split=test`."""

from heed.cli.align import main

if __name__ == "__main__":
    main()
