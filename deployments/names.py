"""The path of prefect.yaml, and the names in it."""

from pathlib import Path

PREFECT_FILE = Path(__file__).resolve().parent.parent / "prefect.yaml"
"""Beside the packages: in a checkout, an editable install and the image. Where only the packages
are installed, pass --prefect-file."""

WORK_POOL = "maintenance"
DEPLOYMENT = "default"
"""The name of every job's deployment: purge-expired-submissions/default."""

RUN_LABEL = "validibot-maintenance.run"
"""On every container that a docker work pool starts."""
