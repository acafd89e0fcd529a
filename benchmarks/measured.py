"""Runs a job as `python -m flows` does, and says on standard error how much memory it had."""

import sys

from benchmarks.memory import peak_kib
from flows.__main__ import main

if __name__ == "__main__":
    status = main(sys.argv[1:])
    print(f"peak_kib={peak_kib()}", file=sys.stderr)
    sys.exit(status)
