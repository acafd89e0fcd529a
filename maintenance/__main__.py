"""`python -m maintenance`; see maintenance/cli.py."""

from maintenance.cli import main
from maintenance.command_line import run_command

if __name__ == "__main__":
    run_command(main)
