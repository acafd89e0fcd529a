"""purge-expired-submissions on S3 and on Google Cloud Storage, with the real clients."""

import json
import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import StateType

from flows.purge_expired_submissions import purge_expired_submissions
from flows.reclaim_residue import reclaim_residue
from flows.run.final_state import ItemsFailed
from flows.run.offline import without_server
from maintenance import schema
from maintenance import settings as settings_module
from maintenance.errors import StorageError, TransientStorageError
from maintenance.settings import Settings
from maintenance.storage.marker import MARKER
from maintenance.storage.roots import BUNDLES, PRIVATE, PUBLIC
from maintenance.storage.s3 import ATTEMPTS
from tasks.purge.restores import look_for_restore
from tasks.purge.submissions import purge_submissions
from tasks.residue import bundles
from tests.support import gcs_server, s3_server
from tests.support.gcs_server import GcsServer
from tests.support.markers import marker
from tests.support.residue import CLEARED, PURGED
from tests.support.runs import run
from tests.support.s3_server import S3Server
from tests.support.stores import REGION, BucketPlace, GcsPlace, S3Place, services
from tests.support.validibot import DAY, NOW, Validibot


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[S3Server, GcsServer]]:
    with services() as running:
        yield running


class Cloud:
    """A Validibot whose files are in buckets."""

    def __init__(self, files: BucketPlace, bundles: BucketPlace, runs: str) -> None:
        self.files = files
        self.bundles = bundles
        self.runs = runs
        """What the keys of bundles begin with in their bucket."""

    def held(self) -> set[str]:
        """Every key of both buckets."""
        return self.files.held() | self.bundles.held()


@pytest.fixture(params=["s3", "gcs"])
def cloud(
    request: pytest.FixtureRequest,
    servers: tuple[S3Server, GcsServer],
    environment: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Cloud]:
    s3, gcs = servers
    monkeypatch.setenv("DATA_STORAGE_BACKEND", request.param)
    for one in (purge_submissions, look_for_restore):
        monkeypatch.setattr(one, "retry_delay_seconds", [0, 0, 0])
        monkeypatch.setattr(one, "retry_jitter_factor", None)
    if request.param == "s3":
        bucket = S3Place.make(s3, versioned=True)
        made = Cloud(bucket, bucket, "private/runs")
        monkeypatch.setenv("AWS_S3_ENDPOINT_URL", s3.url)
        monkeypatch.setenv("AWS_S3_REGION_NAME", REGION)
    else:
        made = Cloud(GcsPlace.make(gcs, versioned=True), GcsPlace.make(gcs, versioned=True), "runs")
        monkeypatch.setenv("GCS_VALIDATION_BUCKET", made.bundles.name)
    monkeypatch.setenv("STORAGE_BUCKET", made.files.name)
    settings_module.settings.cache_clear()
    names = {PRIVATE: "private/", PUBLIC: "public/"}
    for name, prefix in names.items():
        roots = (*names, *({BUNDLES} if made.files is not made.bundles else ()))
        content = marker(name, *(roots if name == PRIVATE else ()))
        made.files.put(f"{prefix}{MARKER}", content.decode())
    if made.files is not made.bundles:
        made.bundles.put(MARKER, marker(BUNDLES).decode())
    yield made
    s3.faults.clear()
    gcs.faults.clear()


def submission(validibot: Validibot, cloud: Cloud, number: int) -> tuple[UUID, set[str]]:
    """An expired submission with files in every place; return it and the keys that must stay."""
    cloud.files.put(f"private/submissions/{number}.json")
    cloud.files.put(f"private/ports/{number}/weather.epw")
    identifier = validibot.submission(input_file=f"submissions/{number}.json")
    validibot.port_file(identifier, input_file=f"ports/{number}/weather.epw")
    run_id = validibot.run(identifier)
    prefix = f"{cloud.runs}/{validibot.org_id}/{run_id}"
    uri = f"{cloud.bundles.url}{prefix}/named"
    step_id = validibot.step_run(run_id)
    attempt_id = validibot.attempt(step_id, output_envelope_uri=f"{uri}/envelope.json")
    validibot.insert(
        schema.artifacts,
        org_id=validibot.org_id,
        validation_run_id=run_id,
        storage_uri=f"{uri}/artifact.bin",
        manifest_uri=f"{uri}/manifest.json",
    )
    kept = {"output.json", f"attempts/{attempt_id}/output/a.json", "named/envelope.json"}
    kept |= {"named/artifact.bin", "named/manifest.json"}
    for name in kept | {"input.json", f"attempts/{attempt_id}/input/a.json", "named/other.json"}:
        cloud.bundles.put(f"{prefix}/{name}")
    older = f"public/files/runs/{validibot.org_id}/{run_id}"
    for name in ("input.json", "output.json"):
        cloud.files.put(f"{older}/{name}")
    return identifier, {f"{prefix}/{name}" for name in kept} | {f"{older}/output.json"}


def test_bytes_go_rows_are_stamped_and_outputs_stay(validibot: Validibot, cloud: Cloud) -> None:
    cloud.files.put("private/evidence/1/2/manifest.json")
    first, kept_of_first = submission(validibot, cloud, 1)
    second, kept_of_second = submission(validibot, cloud, 2)
    before = cloud.held()
    forecast = run(purge_expired_submissions, as_of=NOW, dry_run=True)
    assert cloud.held() == before
    report = run(purge_expired_submissions, as_of=NOW)
    assert cloud.held() == {
        "private/evidence/1/2/manifest.json",
        *kept_of_first,
        *kept_of_second,
    }
    assert validibot.purged() == {first, second}
    assert (report.done, report.failed, report.files) == (2, 0, 12)
    assert (forecast.files, forecast.bytes) == (report.files, report.bytes)


def test_one_key_that_fails_is_one_items_failure_with_a_queued_retry(
    validibot: Validibot, cloud: Cloud
) -> None:
    failing, _ = submission(validibot, cloud, 1)
    done, _ = submission(validibot, cloud, 2)
    key = "private/submissions/1.json"
    if isinstance(cloud.files, S3Place):
        resource = f"arn:aws:s3:::{cloud.files.name}/{key}"
        denied = {"Effect": "Deny", "Principal": "*", "Action": "s3:DeleteObject"}
        policy = json.dumps({"Statement": [{**denied, "Resource": resource}]})
        cloud.files.client.put_bucket_policy(Bucket=cloud.files.name, Policy=policy)
    else:
        cloud.files.server.faults.answer(
            lambda request: request.method == "DELETE" and request.path.endswith(f"/o/{key}"),
            gcs_server.failure(403, "forbidden"),
        )
    with without_server():
        state: Any = purge_expired_submissions.fn(as_of=NOW)
    assert (state.type, state.name) == (StateType.FAILED, "Failed")
    assert isinstance(state.data, ItemsFailed)
    (failure,) = state.data.report.failures
    assert failure.item == f"submission {failing}"
    assert re.match(r"storage (s3|gs)://bucket-\d+/private/: submissions/1\.json: ", failure.cause)
    assert validibot.purged() == {done}
    (queued,) = validibot.rows(schema.purge_retries).values()
    assert (queued["submission_id"], queued["attempt_count"]) == (failing, 1)
    assert queued["last_error"] == failure.cause
    assert key in cloud.held()


@pytest.mark.parametrize("cloud", ["s3"], indirect=True)
def test_a_service_that_is_broken_fails_the_run_after_four_attempts_and_no_item(
    validibot: Validibot, cloud: Cloud
) -> None:
    """Only on S3: the client of Google Cloud Storage retries for longer."""
    identifier, _ = submission(validibot, cloud, 1)
    before = cloud.held()
    server = cloud.files.server
    server.faults.clear()
    server.faults.answer(lambda _request: True, s3_server.failure(503, "SlowDown"))
    with pytest.raises(TransientStorageError, match="SlowDown: no luck"):
        run(purge_expired_submissions, as_of=NOW)
    assert len(server.faults.requests) == 4 * ATTEMPTS
    server.faults.clear()
    assert cloud.held() == before
    assert validibot.purged() == set()
    assert validibot.rows(schema.purge_retries) == {}
    assert run(purge_expired_submissions, as_of=NOW).done == 1
    assert validibot.purged() == {identifier}


@pytest.mark.parametrize("requests", [1, 5])
def test_a_run_has_as_many_requests_in_flight_as_the_setting_says(
    validibot: Validibot, cloud: Cloud, monkeypatch: pytest.MonkeyPatch, requests: int
) -> None:
    gone = {submission(validibot, cloud, number)[0] for number in range(7)}
    monkeypatch.setenv("MAINTENANCE_STORAGE_REQUESTS", str(requests))
    settings_module.settings.cache_clear()
    gate = cloud.files.server.gate
    gate.close_for(requests, lambda request: "submissions%2F" in request.query)
    run(purge_expired_submissions, as_of=NOW)
    seen = (gate.met, gate.most)
    gate.close_for(0, lambda _request: False)
    assert seen == (True, requests)
    assert validibot.purged() == gone


def test_a_bucket_that_is_not_there_fails_the_run_at_once(
    validibot: Validibot, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    submission(validibot, cloud, 1)
    monkeypatch.setenv("STORAGE_BUCKET", "absent-bucket")
    settings_module.settings.cache_clear()
    with pytest.raises(StorageError, match="absent-bucket/private/ cannot be listed"):
        run(purge_expired_submissions, as_of=NOW)
    assert validibot.purged() == set()


def test_10_1_an_empty_bucket_with_a_wrong_name_is_not_the_storage(
    validibot: Validibot, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    submission(validibot, cloud, 1)
    before = cloud.held()
    make = S3Place.make if isinstance(cloud.files, S3Place) else GcsPlace.make
    other = make(cloud.files.server)  # type: ignore[arg-type]
    monkeypatch.setenv("STORAGE_BUCKET", other.name)
    settings_module.settings.cache_clear()
    with pytest.raises(StorageError, match=f"{other.name}/private/ has no marker"):
        run(purge_expired_submissions, as_of=NOW)
    assert validibot.purged() == set()
    assert cloud.held() == before


def test_10_12_residue_goes_and_what_rows_name_as_outputs_stays(
    validibot: Validibot, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    identifier, kept = submission(validibot, cloud, 1)
    with validibot.engine.begin() as connection:
        connection.execute(
            schema.submissions.update()
            .where(schema.submissions.c.id == identifier)
            .values(**CLEARED, content_purged_at=PURGED, expires_at=None)
        )
    purged = validibot.run(None, output_purged_at=PURGED)
    for name in ("input.json", "output.json"):
        cloud.bundles.put(f"{cloud.runs}/{validibot.org_id}/{purged}/{name}")
    cloud.bundles.hide(f"{cloud.runs}/{validibot.org_id}/{purged}/input.json")
    ownerless = {f"{cloud.runs}/{validibot.org_id}/{uuid4()}/input.json" for _ in range(3)}
    for key in ownerless:
        cloud.bundles.put(key)
    upload = "private/submissions/1.json"  # which no row names any more
    forecast = run(reclaim_residue, dry_run=True)
    report = run(reclaim_residue)
    assert cloud.held() == kept | ownerless | {upload}
    assert (report.failed, report.done) == (0, report.selected)
    assert forecast.reclaimed == report.reclaimed

    monkeypatch.setattr(bundles, "OLD", -DAY)  # they are a moment old
    assert run(reclaim_residue).done == 3
    assert cloud.held() == kept | {upload}
