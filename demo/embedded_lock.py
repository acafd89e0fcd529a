"""Where the library of the embedded PostgreSQL keeps its lock file: one place for each user.

The library chooses the place when it is imported: this user's runtime folder if it exists,
otherwise the folder of temporary files, which all users share. There the file belongs to the first
user, and no other one may open it. So the folder is made before the library is imported.
"""

import warnings
from contextlib import suppress

import platformdirs

FOLDER = "python_PostgresServer"
"""The folder that the library looks for."""


def make_lock_folder() -> None:
    """Make this user's folder; where that is not possible, the library takes the shared one."""
    with warnings.catch_warnings(), suppress(OSError):
        warnings.simplefilter("ignore")  # that there is no runtime folder of this user yet
        platformdirs.user_runtime_path(FOLDER, ensure_exists=True)
