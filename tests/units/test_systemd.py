"""The units, installed on a bare Debian by the commands of docs/systemd.md, and started there."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from docker import APIClient
from docker.errors import DockerException
from docker.utils import kwargs_from_env

from tests.support.docker_engine import not_tested
from tests.units.machine import Machine, booted, why_not

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "systemd.md"
UNITS = sorted((ROOT / "deployments" / "systemd").glob("validibot-maintenance*"))
SERVICES = [unit.stem for unit in UNITS if unit.suffix == ".service"]
LONG_RUNNING = sorted(set(SERVICES) - {"validibot-maintenance-apply"})
RUN = "/opt/validibot-maintenance/bin/validibot-maintenance"
SETTINGS = "/etc/validibot-maintenance"
CALL_SECONDS = 400
SEEN_SECONDS = 60
AGAIN_SECONDS = 60
EXPOSURE = 30
"""Of 100, by `systemd-analyze security`."""

VALIDIBOT = """
runuser -u postgres -- psql --quiet --set ON_ERROR_STOP=1 \
  --command "CREATE ROLE validibot LOGIN PASSWORD 'owner'" \
  --command "CREATE ROLE validibot_maintenance LOGIN PASSWORD 'PASSWORD'" \
  --command "CREATE DATABASE validibot OWNER validibot"
cd /
DATABASE_URL=postgresql://validibot:owner@127.0.0.1/validibot STORAGE_ROOT=/srv/validibot/storage \
  /opt/validibot-maintenance/venv/bin/python -m demo.sample --submissions 200
chown -R 1234:1234 /srv/validibot/storage/private
runuser -u postgres -- psql --quiet --set ON_ERROR_STOP=1 validibot \
  --file /opt/validibot-maintenance/docs/database-role.sql
"""
"""A Validibot on the same machine, whose files belong to another user."""


def commands() -> list[str]:
    """The commands of the page's first start."""
    (block,) = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return [line for line in block.splitlines() if line and not line.startswith("#")]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    reason = why_not()
    if reason:
        not_tested(reason)
    try:
        found = APIClient(timeout=CALL_SECONDS, **kwargs_from_env())
    except DockerException as error:
        not_tested(f"no container engine answers: {error}")
        raise
    with closing(found) as client, booted(client, tmp_path) as machine:
        yield machine


def test_the_first_start_has_ten_commands_or_fewer() -> None:
    assert 5 <= len(commands()) <= 10


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze")
def test_the_units_are_valid(tmp_path: Path) -> None:
    """With a Python that exists here; the test in a container takes them as they are."""
    for unit in UNITS:
        text = unit.read_text().replace("/opt/validibot-maintenance/venv/bin/python", "/bin/sh")
        (tmp_path / unit.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", *sorted(tmp_path.iterdir())],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_commands_of_the_page_start_everything_on_a_bare_debian(machine: Machine) -> None:
    said = {}
    for command in commands():
        if command.endswith(" check"):  # the worker is seen a few seconds after its start
            no_error = f"if {command} >/dev/null; then echo none; fi"
            machine.wait_for(no_error, "none", SEEN_SECONDS)
        said[command] = machine.run(command)
        if command.startswith("make install"):
            machine.run(VALIDIBOT)
    for unit in SERVICES:
        assert machine.active(unit), machine.run(f"journalctl -u {unit} | tail -n 50")

    # The check of the page: nothing is an error, or it would have ended with another status.
    (checked,) = (text for command, text in said.items() if command.endswith(" check"))
    for name in ("server's login", "worker", "crash rescue", "storage private rights"):
        assert re.search(rf"^ok +{name} ", checked, re.MULTILINE), checked

    # The server answers only with the login that the page prints.
    (login,) = (text for command, text in said.items() if command.endswith("login.env"))
    assert re.search(r"^PREFECT_API_AUTH_STRING=operator:[0-9a-f]{48}$", login, re.MULTILINE)
    asked = """
import base64, os, sys, urllib.error, urllib.request
login = dict(line.split("=", 1) for line in open("/etc/validibot-maintenance/login.env"))
given = base64.b64encode(login["PREFECT_API_AUTH_STRING"].strip().encode()).decode()
for headers in ({}, {"Authorization": "Basic " + given}):
    request = urllib.request.Request("http://127.0.0.1:4200/api/admin/version", headers=headers)
    try:
        print(urllib.request.urlopen(request).status)
    except urllib.error.HTTPError as error:
        print(error.code)
"""
    assert machine.run(f"python3 -c '{asked}'").split() == ["401", "200"]

    # A run deletes files of another user.
    count = "find /srv/validibot/storage/private -user 1234 -type f | wc -l"
    before = int(machine.run(count))
    run = f"{RUN} -m prefect deployment run purge-expired-submissions/default --watch"
    assert "Completed" in machine.run(run)
    assert int(machine.run(count)) < before

    # An installation does not replace what runs.
    (install,) = (command for command in commands() if command.startswith("make install"))
    refused = machine.run(f"! {install} 2>&1")
    assert "it runs: systemctl stop validibot-maintenance.target" in refused

    # The units are as systemd wants them, and have few rights and no secrets.
    assert machine.run("systemd-analyze verify /etc/systemd/system/validibot-maintenance*") == ""
    for unit in SERVICES:
        machine.run(f"systemd-analyze security --threshold={EXPOSURE} {unit} >/dev/null")
    shown = machine.run(f"systemctl show {' '.join(SERVICES)}")
    assert "PASSWORD@" not in shown
    assert "operator:" not in shown
    assert machine.run(f"stat -c %a {SETTINGS} {SETTINGS}/*.env").split() == ["700", *["600"] * 3]

    # What is killed comes back, and what is stopped stays so.
    for unit in LONG_RUNNING:
        machine.run(f"systemctl kill --signal=KILL {unit}")
    for unit in LONG_RUNNING:
        again = f"[ $(systemctl show --value --property=NRestarts {unit}) -ge 1 ]"
        machine.wait_for(f"{again} && systemctl is-active {unit}", "active", AGAIN_SECONDS)
    machine.run("systemctl stop validibot-maintenance.target")
    for unit in SERVICES:
        machine.wait_for(f"systemctl is-active {unit}", "inactive", AGAIN_SECONDS)

    # A second installation keeps the settings, and the login.
    kept = machine.run(f"cat {SETTINGS}/*.env")
    machine.run(install)
    assert machine.run(f"cat {SETTINGS}/*.env") == kept
