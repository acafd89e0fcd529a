"""Preflight of the rights: what other users have made in a root can be deleted.

Validibot's user and the containers of its validators are different users, and neither can delete
what the other has made. A user of the jobs who is none of them needs three capabilities.
"""

import os
from pathlib import Path

from maintenance.checks.finding import Check, Finding, Severity, error, not_checked, ok, warning
from maintenance.errors import StorageError
from maintenance.settings import CONTAINER_TARGETS, Settings
from maintenance.storage.capabilities import (
    CHOWN,
    DAC_OVERRIDE,
    FOWNER,
    NUMBERS,
    held_capabilities,
)
from maintenance.storage.local_root import open_root
from maintenance.storage.owners import foreign_owners
from maintenance.storage.probe import Probed, probe, remove_leftovers

EFFECTS = {
    CHOWN: "what the jobs write does not get the owner of its folder",
    DAC_OVERRIDE: "folders of other users cannot be changed",
    FOWNER: "files of other users in sticky folders cannot be deleted",
}
GIVE = (
    "give the worker the capabilities CHOWN, DAC_OVERRIDE and FOWNER: docs/installation.md,"
    " Users and rights"
)
NO_EFFECT = (
    "rootless: run this stack on the container engine on which Validibot runs; NFS: export it with"
    " no_root_squash"
)
MAX_USERS = 5


def rights_check(name: str, root: Path, settings: Settings, *, required: bool = True) -> Check:
    """Return the check of one root."""
    containers = settings.deployment_target in CONTAINER_TARGETS
    names = (f"{name} rights",)
    return Check(names, lambda: [check_rights(names[0], root, containers, required=required)])


def check_rights(name: str, root: Path, containers: bool, *, required: bool = True) -> Finding:
    """Return whether files of other users in a root can be deleted, by trying it on a probe.

    Args:
        name: the finding's.
        root: the directory.
        containers: whether validators run as containers, which make files as another user.
        required: whether an absent root is an error.
    """
    try:
        directory = open_root(root, required=required)
    except StorageError as problem:
        return not_checked([name], str(problem))[0]
    if directory is None:
        return ok(name, f"{root} is absent")
    try:
        stay = remove_leftovers(directory)
        found = _rights(name, root, _probed(directory), directory, containers=containers)
    except OSError as problem:
        return not_checked([name], f"{root}: {problem.strerror}")[0]
    finally:
        os.close(directory)
    return _with_leftover(found, stay[0]) if stay else found


def _probed(directory: int) -> Probed:
    try:
        return probe(directory)
    except PermissionError:  # Nothing can be made in the root.
        return Probed(frozenset({DAC_OVERRIDE}))


def _with_leftover(found: Finding, left: str) -> Finding:
    text = f"{found.text}; an earlier check was killed and left {left}"
    action = "; ".join(filter(None, (found.action, f"remove {left} as root")))
    if found.level is Severity.ERROR:
        return error(found.name, text, action)
    return warning(found.name, text, action)


def _rights(name: str, root: Path, probed: Probed, directory: int, *, containers: bool) -> Finding:
    if probed.problem is not None:
        return error(name, f"{root}: {probed.problem}", GIVE)
    if not probed.refused:
        return ok(name, f"{root}: files of all users can be deleted")
    missing = _missing(probed.refused)
    return _refused(name, root, missing, directory, containers=containers)


def _missing(refused: frozenset[str]) -> list[str]:
    """Return the capabilities that are missing: those that were refused or are not held."""
    held = held_capabilities()
    return [one for one in NUMBERS if one in refused or one not in held]


def _refused(
    name: str, root: Path, missing: list[str], directory: int, *, containers: bool
) -> Finding:
    user = f"user {os.geteuid()}"
    held = sorted(held_capabilities().intersection(missing))
    if held:
        text = (
            f"{root}: {user} holds {', '.join(held)}, which has no effect on files of other users"
        )
        return error(name, text, NO_EFFECT)
    text = (
        f"{root}: {user} lacks {', '.join(missing)}: {'; '.join(EFFECTS[one] for one in missing)}"
    )
    others = sorted(foreign_owners(directory))
    if others:
        seen = ", ".join(map(str, others[:MAX_USERS]))
        return error(name, f"{text}; there are files of user {seen}", GIVE)
    if containers:
        return warning(name, f"{text}; no such files were seen yet", GIVE)
    return ok(name, f"{root}: files of {user} can be deleted, and no others were seen")
