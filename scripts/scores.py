"""List the attention scores with equation, reference and parameters: `python scripts/scores.py`."""

from heed.cli.scores import main

if __name__ == "__main__":
    main()
