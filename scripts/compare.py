"""Compare finished runs: `python scripts/compare.py 'runs=runs/grammar/luong/*/*'`."""

from heed.cli.compare import main

if __name__ == "__main__":
    main()
