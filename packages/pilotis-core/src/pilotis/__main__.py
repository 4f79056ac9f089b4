"""`python -m pilotis`: the command line."""

from pilotis.cli import main

if __name__ == "__main__":
    main()
