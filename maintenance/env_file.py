"""The env file that MAINTENANCE_ENV_FILE names, such as Validibot's own, beside the environment.

An env file that Compose reads puts all its variables into the container's environment, where
`docker inspect` shows them. As a file in the container they are read here.
"""

from collections.abc import MutableMapping

from dotenv import dotenv_values

from maintenance.secret_files import read_file

ENV_FILE = "MAINTENANCE_ENV_FILE"
OF_CLIENTS = ("AWS_", "GOOGLE_")
"""How variables begin that the clients of storage services read from the environment themselves."""


def read_env_file(environment: MutableMapping[str, str]) -> dict[str, str]:
    """Return the variables of the env file that the environment does not have.

    What the clients of storage services read is put into the environment.

    Raises:
        SecretFileError: the file is missing, empty, unreadable or not text.
    """
    if not environment.get(ENV_FILE):
        return {}
    read_file(ENV_FILE, environment)
    given = dotenv_values(environment[ENV_FILE], interpolate=False)
    missing = {name: value for name, value in given.items() if value and not environment.get(name)}
    for name, value in missing.items():
        if name.startswith(OF_CLIENTS):
            environment[name] = value
    return missing
