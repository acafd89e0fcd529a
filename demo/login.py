"""`python -m demo.login FILE`: make the login of the demo's Prefect server, and say what it is.

The first call makes it and writes it to the file; later ones only print it. Without a login each
web page that a browser has open could start jobs.
"""

import argparse
import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

USER = "demo"
PASSWORD_BYTES = 16
ADDRESS = "http://127.0.0.1:4200"


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the login unless it is there, and print it with the address; return the exit status."""
    options = _parse(arguments)
    path: Path = options.file
    if not path.exists():
        draft = path.with_name(f"{path.name}.draft")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(new_login())
        draft.rename(path)
    sys.stdout.write(f"Prefect's UI: {options.address} (log in with {path.read_text()})\n")
    return 0


def new_login() -> str:
    """Return a new login, as user:password."""
    return f"{USER}:{secrets.token_hex(PASSWORD_BYTES)}"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo.login", description=__doc__)
    parser.add_argument("file", type=Path, help="where the login is kept")
    parser.add_argument(
        "--address", default=ADDRESS, help="of the UI, to be printed (default: %(default)s)"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
