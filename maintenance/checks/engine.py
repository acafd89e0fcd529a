"""Preflight of the container engine."""

from maintenance.checks.finding import Check, Finding, error, ok
from maintenance.containers.engine import open_engine
from maintenance.errors import ContainerError, EngineNotConfigured
from maintenance.settings import Settings

ENGINE = "container engine"
ENGINE_SECONDS = 5.0


def engine_check(settings: Settings) -> Check:
    """Return the check: the container engine answers, or none is configured."""
    bounded = settings.model_copy(update={"docker_timeout_seconds": ENGINE_SECONDS})
    return Check((ENGINE,), lambda: [_find(bounded)])


def _find(settings: Settings) -> Finding:
    try:
        with open_engine(settings) as engine:
            engine.ping()
            number = len(engine.managed())
    except EngineNotConfigured as reason:
        return ok(ENGINE, f"not configured: {reason}")
    except ContainerError as problem:
        return error(
            ENGINE,
            str(problem),
            "start it, and check DOCKER_HOST and that this user may use it",
        )
    return ok(ENGINE, f"answers; {number} of Validibot's containers")
