"""Set-up, worker and monitoring of the jobs on a Prefect server."""

import os

from maintenance.secret_files import fill_in

fill_in(os.environ)  # here, because Prefect reads the environment when it is imported
