"""The environment of the demo's processes: nothing that is set on this machine leaks into it.

Somebody who tries the demo may have a Prefect profile, a production server or Validibot's own env
file in the shell. None of it may reach the demo, which purges whatever database it is pointed at.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from demo.ports import LOCALHOST

MARKER = "VALIDIBOT_MAINTENANCE_DEMO"
"""The demo's folder, in the environment of every process that it starts: by it they are known."""

FOREIGN_PREFIXES = (
    "PREFECT_",
    "MAINTENANCE_",
    "POSTGRES_",
    "PG",  # libpq's: PGHOST, PGOPTIONS, PGSERVICE, ...
    "STORAGE_",
    "DATA_STORAGE_",
    "GCS_",
    "AWS_",
)
FOREIGN = (
    "DATABASE_URL",
    "DEPLOYMENT_TARGET",
    "REDACT_INPUT_TRACES",
    "VIRTUAL_ENV",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONWARNINGS",
    "PYTHONDONTWRITEBYTECODE",  # without byte code Prefect takes twice as long to import
)
PROXY = "_proxy"
"""What the names of variables with proxies end with, in small letters or capitals."""
PROJECT = Path(__file__).resolve().parent.parent


def clean_environment(environment: Mapping[str, str], directory: Path) -> dict[str, str]:
    """Return an environment without what is foreign, marked with the demo's folder.

    The folder of this Python comes first on the PATH, because deployments start their runs with
    `python`. Proxies are left out: all requests are made to this machine.
    """
    kept = {
        name: value
        for name, value in environment.items()
        if name not in FOREIGN
        and not name.startswith(FOREIGN_PREFIXES)
        and not name.lower().endswith(PROXY)
    }
    path = environment.get("PATH", "/usr/local/bin:/usr/bin:/bin")
    return kept | {
        MARKER: str(directory),
        "PATH": f"{Path(sys.executable).parent}:{path}",
        "PYTHONPATH": str(PROJECT),
        "PYTHONUNBUFFERED": "1",
        "NO_PROXY": f"{LOCALHOST},localhost",
        "no_proxy": f"{LOCALHOST},localhost",
        "DO_NOT_TRACK": "1",
    }
