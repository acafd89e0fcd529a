"""That nothing which is kept of a container shows a secret."""

import base64
import json
from collections.abc import Iterable

from tests.stack.project import Project


def shown(project: Project, secrets: Iterable[str]) -> list[str]:
    """Where `docker inspect`, Compose's own view and the logs of a project show one of them."""
    texts = {name: json.dumps(one) for name, one in project.containers().items()}
    texts |= {"configuration": project.compose("config"), "logs": project.logs()}
    all_secrets = list(secrets)
    return sorted(name for name, text in texts.items() if readable_in(text, all_secrets))


def readable_in(text: str, secrets: Iterable[str]) -> bool:
    """Return whether a text contains one of them, as it is or as a login is sent."""
    return any(
        secret in text or base64.b64encode(secret.encode()).decode() in text for secret in secrets
    )
