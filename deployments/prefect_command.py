"""`python -m deployments.prefect_command ARGUMENTS...`: Prefect's command line.

It does what `prefect` does, and knows the secrets from files (`PREFECT_API_AUTH_STRING_FILE` and
others, see maintenance/secret_files.py), which are read when this package is imported. In the image
`prefect` is this command.
"""

import runpy
import sys

if __name__ == "__main__":
    sys.argv[0] = "prefect"
    runpy.run_module("prefect", run_name="__main__")
