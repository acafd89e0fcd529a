"""Bad parameters of a deployment are refused, and nothing is touched (SPEC 2.10)."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from demo.environment import clean_environment
from demo.runs import run_deployment
from demo.servers import PrefectServer, start_worker
from deployments.names import DEPLOYMENT
from maintenance import schema
from maintenance.settings import Settings
from tests.support.validibot import DAY, NOW, Validibot

RECEIPTS = f"cleanup-callback-receipts/{DEPLOYMENT}"
STOP_SECONDS = 10.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.parametrize("refused", [{"days": -1}, {"days": "many"}, {"batch_size": 0}])
def test_what_the_form_does_not_allow_makes_no_run(
    deployed_server: PrefectServer, refused: dict[str, Any]
) -> None:
    with pytest.raises(httpx.HTTPStatusError) as caught:
        deployed_server.api.start_run(RECEIPTS, refused)
    assert caught.value.response.status_code in {409, 422}
    (name,) = refused
    assert name in caught.value.response.text


def test_what_only_the_job_can_judge_fails_the_run_before_anything_is_touched(
    quiet_server: PrefectServer,
    environment: Settings,
    validibot: Validibot,
    tmp_path: Path,
) -> None:
    validibot.receipt(NOW - 400 * DAY, validibot.run(None))
    before = validibot.snapshot()
    variables = clean_environment(os.environ, tmp_path) | quiet_server.client_settings
    variables |= {name: os.environ[name] for name in ("DATABASE_URL", "STORAGE_ROOT")}
    worker = start_worker(tmp_path, variables)
    future = (datetime.now(UTC) + DAY).isoformat()
    try:
        bad: dict[str, Any]
        for bad, said in (
            ({"days": 0}, "must be at least 1, or 0 with allow_recent"),
            ({"as_of": future}, "lies in the future"),
            # Prefect cannot even call the flow: a crash to it, with the reason in the log.
            ({"no_such": 1}, "status code: 1"),
        ):
            ended = run_deployment(quiet_server.api, RECEIPTS, bad, [worker], lambda _: None)
            assert ended.state.type == ("CRASHED" if "no_such" in bad else "FAILED")
            assert said in ended.state.message
            assert validibot.snapshot() == before
        allowed = {"days": 0, "allow_recent": True, "as_of": NOW.isoformat()}
        ended = run_deployment(quiet_server.api, RECEIPTS, allowed, [worker], lambda _: None)
        assert (ended.state.type, ended.state.message) == ("COMPLETED", "1 of 1 done")
        assert validibot.rows(schema.callback_receipts) == {}
    finally:
        worker.stop(STOP_SECONDS)
