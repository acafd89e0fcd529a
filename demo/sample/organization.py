"""The parents: organizations, their users and projects, and workflows with steps and validators."""

from dataclasses import dataclass

from demo.sample.chunk import Chunk
from demo.sample.drawing import DAY
from maintenance.schema import (
    organizations,
    projects,
    users,
    validators,
    workflow_steps,
    workflows,
)

ORGANIZATIONS = ("Northwind Energy", "Harbour City Council", "Civil Works Laboratory")
FOUNDED = -400 * DAY
UNUSABLE_PASSWORD = "!"

VALIDATORS = (
    ("json-schema", "JSON Schema", "JSON_SCHEMA", 1),
    ("energyplus", "EnergyPlus simulation", "ENERGYPLUS", 3),
    ("report-rules", "Report rules", "CUSTOM", 2),
)
STEPS = (
    ("schema_check", "Check the structure"),
    ("simulation", "Simulate the building"),
    ("report_check", "Check the report"),
)
# Name, slug, version, number of steps.
WORKFLOWS = (
    ("Building permit", "building-permit", 1, 3),
    ("Energy certificate", "energy-certificate", 4, 2),
)


@dataclass(frozen=True, slots=True)
class Step:
    """A workflow step, with the columns that step runs and manifests repeat."""

    id: int
    order: int
    key: str
    name: str
    validator: str
    validator_type: str
    validator_version: int


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow that submissions are checked by, with its owners."""

    id: int
    org_id: int
    project_id: int
    user_ids: tuple[int, ...]
    slug: str
    version: int
    steps: tuple[Step, ...]


def add_application(chunk: Chunk) -> tuple[Workflow, ...]:
    """Add all parent rows and return the workflows."""
    validator_ids = [
        _add_validator(chunk, order, *validator) for order, validator in enumerate(VALIDATORS, 1)
    ]
    found: list[Workflow] = []
    for name in ORGANIZATIONS:
        org_id = _add_organization(chunk, name)
        user_ids = tuple(_add_user(chunk, org_id, name) for name in ("ada", "ben", "cleo"))
        project_id = _add_project(chunk, org_id)
        found += [
            _add_workflow(chunk, workflow, (org_id, project_id, user_ids), validator_ids)
            for workflow in WORKFLOWS
        ]
    return tuple(found)


def _add_organization(chunk: Chunk, name: str) -> int:
    slug = name.lower().replace(" ", "-")
    return chunk.add_numbered(
        organizations,
        created=chunk.moments.at(FOUNDED),
        name=name,
        slug=slug,
        allow_authors_to_adjust_access=True,
        mcp_allowed=True,
        workflow_visibility_cap="PUBLIC",
    )


def _add_user(chunk: Chunk, org_id: int, name: str) -> int:
    login = f"{name}{org_id}"
    return chunk.add_numbered(
        users,
        password=UNUSABLE_PASSWORD,
        username=login,
        email=f"{login}@example.org",
        is_active=True,
        date_joined=chunk.moments.at(FOUNDED),
        name=name.title(),
        job_title="Engineer",
        timezone="UTC",
        current_org_id=org_id,
    )


def _add_project(chunk: Chunk, org_id: int) -> int:
    return chunk.add_numbered(
        projects,
        created=chunk.moments.at(FOUNDED),
        name="General",
        slug="general",
        is_default=True,
        is_active=True,
        color="#3366CC",
        org_id=org_id,
    )


def _add_validator(chunk: Chunk, order: int, slug: str, name: str, kind: str, version: int) -> int:
    return chunk.add_numbered(
        validators,
        created=chunk.moments.at(FOUNDED),
        slug=slug,
        short_description=name,
        name=name,
        validation_type=kind,
        version=version,
        has_processor=True,
        order=order,
        is_system=True,
        release_state="PUBLISHED",
        supported_data_formats="{json}",
        supported_file_types="{json,text}",
        is_enabled=True,
        compute_tier="MEDIUM",
        compute_weight=1,
        supports_assertions=True,
        availability_state="AVAILABLE",
        semantic_digest=chunk.draw.hexadecimal(64),
        trust_tier="TIER_1",
        execution_backend_slug=slug,
        execution_runtime_contract="v1",
    )


def _add_workflow(
    chunk: Chunk,
    workflow: tuple[str, str, int, int],
    owner: tuple[int, int, tuple[int, ...]],
    validator_ids: list[int],
) -> Workflow:
    name, slug, version, step_count = workflow
    org_id, project_id, user_ids = owner
    number = chunk.add_numbered(
        workflows,
        created=chunk.moments.at(FOUNDED),
        name=name,
        uuid=chunk.draw.identifier(),
        slug=slug,
        allow_submission_name=True,
        allow_submission_meta_data=True,
        allow_submission_short_description=True,
        version=version,
        is_active=True,
        allowed_file_types="{json,text}",
        output_retention="STORE_30_DAYS",
        org_id=org_id,
        project_id=project_id,
        user_id=user_ids[0],
        agent_billing_mode="NONE",
        history_policy="KEEP",
        input_retention="STORE_7_DAYS",
        input_schema_source_mode="NONE",
        workflow_visibility="PRIVATE",
    )
    steps = tuple(
        _add_step(chunk, number, place, validator_ids[place]) for place in range(step_count)
    )
    return Workflow(number, org_id, project_id, user_ids, slug, version, steps)


def _add_step(chunk: Chunk, workflow_id: int, place: int, validator_id: int) -> Step:
    key, name = STEPS[place]
    slug, _, kind, version = VALIDATORS[place]
    order = 10 * (place + 1)
    number = chunk.add_numbered(
        workflow_steps,
        created=chunk.moments.at(FOUNDED),
        order=order,
        name=name,
        show_success_messages=True,
        validator_id=validator_id,
        workflow_id=workflow_id,
        step_key=key,
    )
    return Step(number, order, key, name, slug, kind, version)
