"""What prefect.yaml is called, and what is called what in it."""

from pathlib import Path

PREFECT_FILE = Path(__file__).resolve().parent.parent / "prefect.yaml"
"""Beside the packages, as it is in a checkout, in an editable install and in the image; where only
the packages were installed, its path has to be given."""

WORK_POOL = "maintenance"
DEPLOYMENT = "default"
"""The name of every job's deployment: purge-expired-submissions/default."""
