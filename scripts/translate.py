"""Translate standard input line by line: `python scripts/translate.py run=runs/… < de.txt > en.txt`."""

from heed.cli.translate import main

if __name__ == "__main__":
    main()
