"""Prepare a corpus as training would: `python scripts/prepare.py data=multi30k`."""

from heed.cli.prepare import main

if __name__ == "__main__":
    main()
