"""The jobs: one file each, which reads like the job's description."""

import os

from maintenance.secret_files import fill_in

fill_in(os.environ)  # here, because Prefect reads the environment when it is imported
