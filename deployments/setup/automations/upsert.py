"""Creation and update of the automations on the server, by name."""

from functools import partial
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import BlockDocumentCreate
from prefect.events.schemas.automations import Automation, AutomationCore
from prefect.exceptions import ObjectNotFound

from deployments.names import WORK_POOL
from deployments.setup.automations.notifications import EXAMPLES, Example
from deployments.setup.automations.rescue import rescue_automations
from deployments.setup.changes import Changes
from deployments.setup.last_applied import LastApplied
from maintenance.errors import MaintenanceError


class NoSuchBlock(MaintenanceError):
    """The server lacks a block type that every Prefect server has."""


def apply_automations(client: SyncPrefectClient, last: LastApplied, changes: Changes) -> None:
    """Create or update the automations of the crash rescue; create the examples once."""
    for automation in rescue_automations(WORK_POOL):
        _upsert(client, automation, changes)
    for example in EXAMPLES:
        if example.name not in last.applied.examples:
            _make_example(client, example, last, changes)


def _upsert(client: SyncPrefectClient, wanted: AutomationCore, changes: Changes) -> None:
    """Create or update an automation; one that an operator switched off stays off."""
    found = client.read_automations_by_name(wanted.name)
    if not found:
        changes.make(f"automation {wanted.name!r}: made", partial(client.create_automation, wanted))
        return
    first, *others = found
    for other in others:
        changes.make(
            f"automation {wanted.name!r}: a second one of that name deleted",
            partial(client.delete_automation, other.id),
        )
    enabled = all(one.enabled for one in found)
    if not enabled:
        changes.keep(f"automation {wanted.name!r}: an operator switched it off")
    target = wanted.model_copy(update={"enabled": enabled})
    if _comparable(first) != _comparable(target):
        changes.make(
            f"automation {wanted.name!r}: changed",
            partial(client.update_automation, first.id, target),
        )


def _comparable(automation: Automation | AutomationCore) -> dict[str, Any]:
    return automation.model_dump(exclude={"id", "tags", "owner_resource"})


def _make_example(
    client: SyncPrefectClient, example: Example, last: LastApplied, changes: Changes
) -> None:
    def make() -> None:
        if not client.read_automations_by_name(example.name):
            client.create_automation(example.automation(_block(client, example)))
        last.applied.examples.append(example.name)
        last.write()

    changes.make(f"automation {example.name!r}: made, switched off", make)


def _block(client: SyncPrefectClient, example: Example) -> UUID:
    # As plain data: the block's class would load every notification service of Prefect.
    try:
        return client.read_block_document_by_name(example.block_name, example.block_type).id
    except ObjectNotFound:
        kind = client.read_block_type_by_slug(example.block_type).id
        schema = client.get_most_recent_block_schema_for_block_type(kind)
        if schema is None:
            raise NoSuchBlock(f"the server has no schema of block {example.block_type}") from None
        new = BlockDocumentCreate(
            name=example.block_name,
            data=example.block_data,
            block_type_id=kind,
            block_schema_id=schema.id,
        )
        return client.create_block_document(new).id
