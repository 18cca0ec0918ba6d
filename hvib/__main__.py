"""The command line: `python -m hvib run | sweep | verify | bench`, each with `--help`."""

from hvib.book.commands import main

if __name__ == "__main__":
    main()
