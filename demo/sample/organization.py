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
    """A workflow's step, with what its runs and manifests say of it."""

    id: int
    order: int
    key: str
    name: str
    validator: str
    validator_type: str
    validator_version: int


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow that documents are submitted to, and whose they are."""

    id: int
    org_id: int
    project_id: int
    user_ids: tuple[int, ...]
    slug: str
    version: int
    steps: tuple[Step, ...]


def add_application(chunk: Chunk) -> tuple[Workflow, ...]:
    """Add all parents, and return the workflows that can be submitted to."""
    validator_ids = [_add_validator(chunk, *validator) for validator in VALIDATORS]
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
    number = chunk.number(organizations)
    then = chunk.moments.at(FOUNDED)
    slug = name.lower().replace(" ", "-")
    chunk.add(
        organizations,
        id=number,
        created=then,
        modified=then,
        name=name,
        slug=slug,
        is_personal=False,
        trial_duration_days=None,
        trial_ends_at=None,
        allow_authors_to_adjust_access=True,
        mcp_allowed=True,
        workflow_visibility_cap="PUBLIC",
        x402_allowed=False,
    )
    return number


def _add_user(chunk: Chunk, org_id: int, name: str) -> int:
    number = chunk.number(users)
    then = chunk.moments.at(FOUNDED)
    login = f"{name}{org_id}"
    chunk.add(
        users,
        id=number,
        password=UNUSABLE_PASSWORD,
        last_login=None,
        is_superuser=False,
        username=login,
        email=f"{login}@example.org",
        is_staff=False,
        is_active=True,
        date_joined=then,
        name=name.title(),
        avatar=None,
        job_title="Engineer",
        company="",
        location="",
        timezone="UTC",
        bio="",
        current_org_id=org_id,
    )
    return number


def _add_project(chunk: Chunk, org_id: int) -> int:
    number = chunk.number(projects)
    then = chunk.moments.at(FOUNDED)
    chunk.add(
        projects,
        id=number,
        created=then,
        modified=then,
        name="General",
        description="",
        slug="general",
        is_default=True,
        is_active=True,
        deleted_at=None,
        color="#3366CC",
        org_id=org_id,
    )
    return number


def _add_validator(chunk: Chunk, slug: str, name: str, kind: str, version: int) -> int:
    number = chunk.number(validators)
    then = chunk.moments.at(FOUNDED)
    chunk.add(
        validators,
        id=number,
        created=then,
        modified=then,
        slug=slug,
        short_description=name,
        description="",
        name=name,
        validation_type=kind,
        version=version,
        processor_name="",
        has_processor=True,
        order=number,
        is_system=True,
        release_state="PUBLISHED",
        allow_custom_assertion_targets=False,
        supported_data_formats="{json}",
        supported_file_types="{json,text}",
        default_ruleset_id=None,
        fmu_model_id=None,
        org_id=None,
        is_enabled=True,
        compute_tier="MEDIUM",
        compute_weight=1,
        supports_assertions=True,
        availability_message="",
        availability_state="AVAILABLE",
        config_provider="",
        semantic_digest=chunk.draw.hexadecimal(64),
        trust_tier="TIER_1",
        execution_backend_slug=slug,
        execution_runtime_contract="v1",
    )
    return number


def _add_workflow(
    chunk: Chunk,
    workflow: tuple[str, str, int, int],
    owner: tuple[int, int, tuple[int, ...]],
    validator_ids: list[int],
) -> Workflow:
    name, slug, version, step_count = workflow
    org_id, project_id, user_ids = owner
    number = chunk.number(workflows)
    then = chunk.moments.at(FOUNDED)
    chunk.add(
        workflows,
        id=number,
        created=then,
        modified=then,
        featured_image=None,
        name=name,
        uuid=chunk.draw.identifier(),
        slug=slug,
        allow_submission_name=True,
        allow_submission_meta_data=True,
        allow_submission_short_description=True,
        version=version,
        is_locked=False,
        is_active=True,
        is_archived=False,
        make_info_page_public=False,
        allowed_file_types="{json,text}",
        output_retention="STORE_30_DAYS",
        success_message="",
        org_id=org_id,
        project_id=project_id,
        user_id=user_ids[0],
        agent_billing_mode="NONE",
        agent_max_launches_per_hour=None,
        agent_price_cents=None,
        description="",
        history_policy="KEEP",
        input_retention="STORE_7_DAYS",
        input_schema=None,
        input_schema_source_mode="NONE",
        input_schema_source_text="",
        is_tombstoned=False,
        mcp_enabled=False,
        tombstone_reason="",
        tombstone_workflow_definition_hash="",
        tombstoned_at=None,
        tombstoned_by_id=None,
        workflow_visibility="PRIVATE",
        x402_enabled=False,
    )
    steps = tuple(
        _add_step(chunk, number, place, validator_ids[place]) for place in range(step_count)
    )
    return Workflow(number, org_id, project_id, user_ids, slug, version, steps)


def _add_step(chunk: Chunk, workflow_id: int, place: int, validator_id: int) -> Step:
    number = chunk.number(workflow_steps)
    then = chunk.moments.at(FOUNDED)
    key, name = STEPS[place]
    slug, _, kind, version = VALIDATORS[place]
    order = 10 * (place + 1)
    chunk.add(
        workflow_steps,
        id=number,
        created=then,
        modified=then,
        order=order,
        name=name,
        description="",
        notes="",
        display_schema=False,
        show_success_messages=True,
        config="{}",
        action_id=None,
        ruleset_id=None,
        validator_id=validator_id,
        workflow_id=workflow_id,
        display_settings="{}",
        step_key=key,
    )
    return Step(number, order, key, name, slug, kind, version)
