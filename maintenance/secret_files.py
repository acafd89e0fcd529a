"""Secrets from files, and nowhere else: `NAME_FILE` names the file that holds the value of `NAME`.

What stands in a container's environment is shown by `docker inspect`; a file is not. An error names
the variable and never its value: a password that was put there by mistake must not be shown.

Only the standard library is imported, because this runs before Prefect is imported (see
flows/engine.py).
"""

import os
from collections.abc import Iterable, Mapping, MutableMapping
from pathlib import Path

SUFFIX = "_FILE"
OF_PREFECT = (
    "PREFECT_API_AUTH_STRING",
    "PREFECT_SERVER_API_AUTH_STRING",
    "PREFECT_SERVER_DATABASE_PASSWORD",
)
"""Prefect reads these from the environment when it is imported."""


class SecretFileError(ValueError):
    """A file of a secret cannot be used; the text names the variable, and never its value."""


def read_secrets(names: Iterable[str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return the values of the variables whose files are named; an empty variable counts as unset.

    Raises:
        SecretFileError: a file is missing, empty, unreadable or not one line of text, or a variable
            is set together with the variable of its file. All that is wrong is named.
    """
    found, problems = {}, []
    for name in names:
        variable = f"{name}{SUFFIX}"
        if not environment.get(variable):
            continue
        if environment.get(name):
            problems.append(f"{name} and {variable} are both set; set one of them")
            continue
        try:
            found[name] = _one_line(variable, read_file(variable, environment))
        except SecretFileError as error:
            problems.append(str(error))
    if problems:
        raise SecretFileError("; ".join(problems))
    return found


def read_file(variable: str, environment: Mapping[str, str]) -> str:
    """Return the text of the file that a variable names.

    Raises:
        SecretFileError: it is missing, empty, unreadable or not text.
    """
    try:
        text = Path(environment[variable]).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        problem = "there is no such file"
    except IsADirectoryError:
        problem = "is a directory; Docker makes one where the file is missing"
    except PermissionError:
        problem = f"user {os.geteuid()} may not read the file"
    except UnicodeDecodeError:
        problem = "the file is not text"
    except (OSError, ValueError):
        problem = "the file cannot be read"
    else:
        if text.strip():
            return text
        problem = "the file is empty"
    message = f"{variable}: {problem}"
    raise SecretFileError(message)


def fill_in(environment: MutableMapping[str, str]) -> None:
    """Put Prefect's secrets from files into this process's environment, in place of their names.

    Processes that are started inherit the values. To be called before Prefect is imported. The
    process ends with one line on standard error if a file cannot be used.
    """
    try:
        found = read_secrets(OF_PREFECT, environment)
    except SecretFileError as error:
        message = f"Wrong settings: {error}"
        raise SystemExit(message) from None
    for name, value in found.items():
        environment[name] = value
        del environment[f"{name}{SUFFIX}"]


def _one_line(variable: str, text: str) -> str:
    value = text.rstrip("\r\n")
    if "\n" in value or "\0" in value:
        message = f"{variable}: the file has more than one line"
        raise SecretFileError(message)
    return value
