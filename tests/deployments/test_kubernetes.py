"""What a cluster is given: valid by its own schemas, with few rights, and in agreement with itself.

No cluster is started.
"""

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import kubernetes_validate
import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration
from ruamel.yaml import YAML

from deployments.settings import DeploymentSettings
from deployments.setup.pools.kubernetes import RIGHTS
from deployments.setup.pools.templates import base_job_template
from deployments.setup.pools.variables import COMMAND

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deployments" / "kubernetes"
MANIFESTS = sorted(set(FOLDER.glob("*.yaml")) - {FOLDER / "kustomization.yaml"})
OLDEST, NEWEST = "1.28", "1.37"
"""The versions of Kubernetes whose schemas are compared."""
IMAGE = DeploymentSettings().image


def documents() -> Iterator[dict[str, Any]]:
    for path in MANIFESTS:
        yield from YAML(typ="safe").load_all(path.read_text())


def named(kind: str) -> set[str]:
    return {one["metadata"]["name"] for one in documents() if one["kind"] == kind}


def pods() -> dict[str, dict[str, Any]]:
    """The pods of worker, watch and deployer."""
    return {
        one["metadata"]["name"]: one["spec"]["template"]["spec"]
        for one in documents()
        if one["kind"] in ("Deployment", "Job")
    }


def validate(manifest: dict[str, Any], version: str = NEWEST) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


def kubernetes_template() -> dict[str, Any]:
    return base_job_template("kubernetes", DeploymentSettings())


def job_of(template: dict[str, Any]) -> dict[str, Any]:
    """The job that Prefect's worker makes of a template for a run."""
    with temporary_settings({PREFECT_API_URL: "http://server.example/api"}):
        return asyncio.run(_job_of(template))


async def _job_of(template: dict[str, Any]) -> dict[str, Any]:
    made = await KubernetesWorkerJobConfiguration.from_template_and_values(template, {})
    made.prepare_for_flow_run(FlowRun(id=uuid4(), name="a-run", flow_id=uuid4()))
    manifest: dict[str, Any] = made.job_manifest
    return manifest


@pytest.fixture
def job() -> dict[str, Any]:
    return job_of(kubernetes_template())


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_manifest_is_valid_strictly(version: str) -> None:
    kinds = []
    for one in documents():
        validate(one, version)
        kinds.append(one["kind"])
    assert {"Deployment", "Job", "Role", "RoleBinding", "Secret", "ServiceAccount"} == set(kinds)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_the_job_that_prefects_worker_makes_for_a_run_is_valid_strictly(
    job: dict[str, Any], version: str
) -> None:
    validate(job, version)
    job["spec"]["template"]["spec"]["parallelism"] = 1
    with pytest.raises(kubernetes_validate.ValidationError, match="parallelism"):
        validate(job, version)


def test_the_job_of_a_run_has_the_image_the_command_and_limits(job: dict[str, Any]) -> None:
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert (container["image"], container["args"]) == (IMAGE, COMMAND.split())
    assert container["securityContext"] == RIGHTS
    assert container["resources"]["limits"] == {"memory": "1Gi"}
    assert set(container["resources"]["requests"]) == {"cpu", "memory"}
    assert job["spec"]["template"]["spec"]["automountServiceAccountToken"] is False
    variables = {one["name"]: one["value"] for one in container["env"]}
    assert variables["PREFECT_API_URL"] == "http://server.example/api"
    assert variables["STORAGE_ROOT"] == "/app/storage"
    assert job["metadata"]["namespace"] == "validibot"


def test_worker_watch_and_deployer_have_no_rights_and_have_limits() -> None:
    assert {name.rpartition("-")[2] for name in pods()} == {"worker", "watch", "deploy"}
    for name, pod in pods().items():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["enableServiceLinks"] is False, "a service's variables look like settings"
        assert pod.get("automountServiceAccountToken", True) is name.endswith("-worker")
        (container,) = pod["containers"]
        assert container["image"] == IMAGE
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "memory" in container["resources"]["limits"]
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}


def test_what_the_manifests_and_the_template_refer_to_exists(job: dict[str, Any]) -> None:
    of_job = job["spec"]["template"]["spec"]
    for pod in (*pods().values(), of_job):
        assert pod["serviceAccountName"] in named("ServiceAccount")
        (container,) = pod["containers"]
        wanted = {one["secretRef"]["name"] for one in container["envFrom"]}
        assert wanted <= named("Secret")
        mounted = {one["name"] for one in container["volumeMounts"]}
        assert mounted == {one["name"] for one in pod["volumes"]}
    assert {one["metadata"]["namespace"] for one in documents()} == {job["metadata"]["namespace"]}
    (binding,) = (one for one in documents() if one["kind"] == "RoleBinding")
    assert binding["roleRef"]["name"] in named("Role")
    assert {one["name"] for one in binding["subjects"]} == {"validibot-maintenance-worker"}


def test_the_worker_gives_its_login_to_the_jobs_by_reference() -> None:
    (container,) = pods()["validibot-maintenance-worker"]["containers"]
    given = {one["name"]: one["value"] for one in container["env"]}
    prefix = "PREFECT_INTEGRATIONS_KUBERNETES_WORKER_API_AUTH_STRING_SECRET"
    secrets = {one["metadata"]["name"]: one for one in documents() if one["kind"] == "Secret"}
    assert given[f"{prefix}_KEY"] in secrets[given[f"{prefix}_NAME"]]["stringData"]
    # The worker itself does not get what the jobs know of Validibot.
    assert {one["secretRef"]["name"] for one in container["envFrom"]} == {given[f"{prefix}_NAME"]}


@pytest.mark.skipif(not shutil.which("kubectl"), reason="there is no kubectl")
def test_the_image_is_chosen_in_one_place(tmp_path: Path) -> None:
    folder = shutil.copytree(FOLDER, tmp_path / "kubernetes")
    path = folder / "kustomization.yaml"
    path.write_text(
        path.read_text().replace("newTag: 0.1.0", "newName: r.example/i\n    newTag: t")
    )
    built = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, check=True)
    text = built.stdout.decode()
    assert text.count("image: r.example/i:t\n") == 3
    assert text.count("value: r.example/i:t\n") == 1
    assert IMAGE not in text
