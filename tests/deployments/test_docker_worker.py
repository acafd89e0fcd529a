"""How the worker of a docker work pool sees the end of containers, and removes them.

The whole way, from a flow run to its rescue, is tested in tests/stack.
"""

from datetime import timedelta

import pytest

from deployments.docker_worker import KILLED, end_of, remove_left_behind
from deployments.names import RUN_LABEL
from tests.support.docker_engine import EXIT, SESSION, TESTS_LABEL, Containers

pytestmark = pytest.mark.docker


def ended_run(containers: Containers) -> str:
    labels = {RUN_LABEL: "true", TESTS_LABEL: SESSION}
    host = containers.client.create_host_config(network_mode="none")
    made = containers.client.create_container(
        containers.engine.image, [EXIT], labels=labels, host_config=host
    )
    containers.client.start(made["Id"])
    containers.wait_for(made["Id"], "exited")
    return str(made["Id"])


def test_the_status_is_that_of_the_end_and_the_container_is_removed(
    containers: Containers,
) -> None:
    well, killed = containers.make("exited"), containers.make("running")
    containers.client.kill(killed)
    assert (end_of(well), end_of(killed)) == (0, KILLED)
    assert containers.ids() == set()


def test_a_container_that_was_removed_by_force_counts_as_killed(containers: Containers) -> None:
    gone = containers.make("running")
    containers.client.remove_container(gone, force=True)
    assert end_of(gone) == KILLED


def test_only_runs_that_ended_a_while_ago_are_removed_at_the_start(
    containers: Containers,
) -> None:
    run, other = ended_run(containers), containers.make("exited")
    remove_left_behind()
    assert containers.ids() == {run, other}
    remove_left_behind(timedelta(0))
    assert containers.ids() == {other}
