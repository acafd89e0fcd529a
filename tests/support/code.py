"""`python -m tests.support.code CODE ...` does what `python -c CODE ...` does."""

import sys

if __name__ == "__main__":
    given = sys.argv[1]
    sys.argv[:2] = ["-c"]
    exec(given, {"__name__": "__main__"})  # noqa: S102 - the code of a test
