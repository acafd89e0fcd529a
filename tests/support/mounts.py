"""Running Python in a mount namespace of its own, where volumes are mounted for real."""

import ctypes
import json
import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import CODE, run_command

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
"""Of Linux; Python 3.12 has them."""

PRELUDE = """
import json, subprocess, sys
from tests.support.mounts import enter_namespace
enter_namespace()
from flows.jobs import JOBS
from maintenance.database import dispose_engines
from tests.support.hooks import at_statement
from tests.support.runs import run
from tests.support.validibot import NOW

def mount(source, target, *options):
    subprocess.run(["mount", *options, str(source), str(target)], check=True)

def bind(source, target):
    mount(source, target, "--bind")

def unmount(target):
    subprocess.run(["umount", "--lazy", str(target)], check=True)

def attempt(job, **parameters):
    try:
        report = run(JOBS[job].flow, **parameters)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    finally:
        dispose_engines()
    return json.loads(report.model_dump_json())
"""


@cache
def _namespace() -> tuple[str, ...]:
    """Return the command before another one, or nothing where namespaces are not allowed."""
    command = ["unshare", "--mount", "--propagation", "private"]
    if os.geteuid() != 0:
        command.insert(1, "--map-root-user")
    probe = ["sh", "-c", "mount -t tmpfs none /mnt"]
    try:
        tried = subprocess.run([*command, *probe], capture_output=True, check=False)
    except FileNotFoundError:
        return ()
    return tuple(command) if tried.returncode == 0 else ()


def namespace_or_skip() -> tuple[str, ...]:
    """Return the command that runs another one in a mount namespace; without it, skip."""
    command = _namespace()
    if not command:
        reason = "this machine allows no mounts in a namespace"
        if os.environ.get("CI") == "true" and os.geteuid() == 0:
            pytest.fail(reason)
        pytest.skip(reason)
    return command


def enter_namespace() -> None:
    """Move this process, which has one thread, to a namespace like that of the command."""
    user, group = os.geteuid(), os.getegid()
    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(CLONE_NEWNS | (CLONE_NEWUSER if user else 0)):
        raise OSError(ctypes.get_errno(), "unshare")
    if user:
        own = Path("/proc/self")
        (own / "setgroups").write_text("deny")
        (own / "uid_map").write_text(f"0 {user} 1")
        (own / "gid_map").write_text(f"0 {group} 1")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)


def printed_in_namespace(code: str, *arguments: object) -> Any:
    """Run code in a namespace, with the arguments in `sys.argv`; return the JSON that it printed.

    The code may call `mount`, `bind`, `unmount` and `attempt`, which runs a job.
    """
    namespace_or_skip()
    child = run_command(CODE, PRELUDE + code, *map(str, arguments), timeout=120)
    assert child.returncode == 0, child.stderr
    return json.loads(child.stdout.strip().splitlines()[-1])
