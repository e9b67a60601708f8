"""Train a run or continue it, then evaluate it: `python scripts/train.py score=bahdanau data=grammar seed=1`.

With `--multirun score=dot,general seed=1,2,3`, train all combinations, then compare them.
"""

from heed.cli.train import main

if __name__ == "__main__":
    main()
