"""A run that is killed again and again is restarted a limited number of times."""

from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.flow_engine import run_flow
from prefect.settings import PREFECT_LOGGING_TO_API_ENABLED, temporary_settings
from prefect.states import Crashed, Running, Scheduled

from demo.servers import PrefectServer
from flows.run.rerun_limit import MAX_RERUNS, refuse_endless_reruns
from tests.support.prefect_server import settings_of


@flow
def tries() -> None:
    refuse_endless_reruns()


def killed(client: SyncPrefectClient, times: int) -> State[Any]:
    """Run the flow after it was killed `times` times; return its final state."""
    run = client.create_flow_run(tries)
    for _ in range(times):
        states: tuple[State[Any], ...] = (Running(), Crashed(), Scheduled())
        for state in states:
            client.set_flow_run_state(run.id, state, force=True)
    ended = run_flow(tries, flow_run=client.read_flow_run(run.id), return_type="state")
    assert client.read_flow_run(run.id).run_count == times + 1
    assert isinstance(ended, State)
    return ended


@pytest.mark.slow
def test_a_run_is_restarted_a_limited_number_of_times(prefect_server: PrefectServer) -> None:
    settings = {
        **settings_of(prefect_server),
        PREFECT_LOGGING_TO_API_ENABLED: False,
    }
    with temporary_settings(settings), get_client(sync_client=True) as client:
        assert killed(client, 0).is_completed()
        assert killed(client, MAX_RERUNS).is_completed()
        ended = killed(client, MAX_RERUNS + 1)
        assert ended.is_failed()  # not Crashed, which an automation would restart
        assert f"started again {MAX_RERUNS} times" in str(ended.message)


def test_outside_a_prefect_run_it_does_nothing() -> None:
    refuse_endless_reruns()
