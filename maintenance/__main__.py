"""`python -m maintenance`; see maintenance/cli.py."""

import sys

from maintenance.cli import main

if __name__ == "__main__":
    sys.exit(main())
