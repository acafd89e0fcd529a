"""The base job template of a work pool of type kubernetes.

It passes a strict validation. Prefect's own template does not: it has `parallelism` and
`completions` in the pod, where Kubernetes does not know them. Prefect's worker misses them there
unless the job itself has them (`tests/deployments/test_kubernetes.py`).
"""

from deployments.setup.pools.variables import (
    COMMAND,
    STORAGE_ROOT,
    WRITABLE,
    Template,
    flag,
    number,
    of_runs,
    placeholder,
    text,
    texts,
)

STOP_SECONDS = 60
"""A run that is deleted finishes its batch: its longest statement takes 30 seconds."""

RIGHTS = {
    "runAsUser": 0,
    "runAsGroup": 0,
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"], "add": ["CHOWN", "DAC_OVERRIDE", "FOWNER"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""Those of the worker in compose.yaml: a run deletes files of Validibot and of its validators."""

# Where a job is put, how large it may be, and what it is given. Its command and image are fixed.
_VARIABLES = {
    "name": text("Name", None),
    "image_pull_policy": text("Image pull policy", "IfNotPresent")
    | {"enum": ["IfNotPresent", "Always", "Never"]},
    "namespace": text("Namespace", "validibot"),
    "service_account_name": text("Service account", "validibot-maintenance-job"),
    "secret": text("Secret with the jobs' environment", "validibot-maintenance"),
    "storage_claim": text("Claim of the volume with Validibot's files", "validibot-storage"),
    "cpu_request": text("Processors that are reserved", "250m"),
    "memory_request": text("Memory that is reserved", "256Mi"),
    "memory_limit": text("Memory above which a run is killed", "1Gi"),
    "env": texts("Environment", {"STORAGE_ROOT": STORAGE_ROOT, **WRITABLE} | of_runs()),
    "labels": texts("Labels", {}),
    "finished_job_ttl": number("Seconds until an ended job is deleted", 600),
    "job_watch_timeout_seconds": number("Seconds that a job may take", None),
    "pod_watch_timeout_seconds": number("Seconds until its pod must be running", 120),
    "stream_output": flag("Show the pod's output in the worker's", default=True),
}

_OF_WORKER = {
    "name",
    "namespace",
    "env",
    "labels",
    "job_watch_timeout_seconds",
    "pod_watch_timeout_seconds",
    "stream_output",
}
"""The variables that Prefect's worker reads by name; the others are in the manifest alone."""


def kubernetes_template(image: str) -> Template:
    """Return the template; its jobs run this image."""
    return {
        "job_configuration": {name: placeholder(name) for name in _VARIABLES if name in _OF_WORKER}
        | {"command": COMMAND, "job_manifest": _job(image)},
        "variables": {"type": "object", "properties": _VARIABLES},
    }


def _job(image: str) -> Template:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "labels": placeholder("labels"),
            "namespace": placeholder("namespace"),
            "generateName": f"{placeholder('name')}-",
        },
        "spec": {
            "parallelism": 1,
            "completions": 1,
            # A crashed run is started again by the server's automation, which has a rerun limit.
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": placeholder("finished_job_ttl"),
            "template": {"spec": _pod(image)},
        },
    }


def _pod(image: str) -> Template:
    container = {
        "name": "prefect-job",
        "image": image,
        "imagePullPolicy": placeholder("image_pull_policy"),
        "args": COMMAND.split(),
        "env": placeholder("env"),
        "envFrom": [{"secretRef": {"name": placeholder("secret")}}],
        "securityContext": RIGHTS,
        "resources": {
            "requests": {
                "cpu": placeholder("cpu_request"),
                "memory": placeholder("memory_request"),
            },
            "limits": {"memory": placeholder("memory_limit")},
        },
        "volumeMounts": [
            {"name": "storage", "mountPath": STORAGE_ROOT},
            {"name": "tmp", "mountPath": WRITABLE["HOME"]},
        ],
    }
    claim = {"claimName": placeholder("storage_claim")}
    return {
        "restartPolicy": "Never",
        "serviceAccountName": placeholder("service_account_name"),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": STOP_SECONDS,
        "containers": [container],
        "volumes": [
            {"name": "storage", "persistentVolumeClaim": claim},
            {"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}},
        ],
    }
