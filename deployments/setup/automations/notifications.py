"""Examples of notifications: by e-mail, on Slack, and as a call of a webhook.

They are created once, switched off, each with a block that holds a placeholder address. To use one,
write your address into its block and switch the automation on, both in the UI. Applying again
never changes them and never creates them again.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect.events.actions import ActionTypes, CallWebhook, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

EVENTS = {
    "validibot-maintenance.items-failed",
    "validibot-maintenance.retry-alert",
    "validibot-maintenance.throttled",
    "validibot-maintenance.not-run",
    "validibot-maintenance.approval-needed",
}
"""The events that need an operator."""

SUBJECT = "Validibot Maintenance: {{ event.event }}"
# Payloads hold file names: escaped for HTML, which e-mail is sent as, and for the markup of Slack.
BODY = (
    "{{ event.event }} at {{ event.occurred }}\n\n"
    "{{ event.resource | string | e }}\n\n{{ event.payload | string | e }}"
)
PAYLOAD = '{"event": {{ event.event | tojson }}, "details": {{ event.payload | tojson }}}'
PLACEHOLDER = "replace-me"
WEBHOOK = "webhook"


@dataclass(frozen=True)
class Example:
    """An automation with the block that holds its address."""

    name: str
    block_type: str
    """The slug of Prefect's block type."""
    block_name: str
    block_data: dict[str, Any]

    def automation(self, block: UUID) -> AutomationCore:
        """Return the automation, switched off, for the block with this identifier."""
        action: ActionTypes = SendNotification(block_document_id=block, subject=SUBJECT, body=BODY)
        if self.block_type == WEBHOOK:
            action = CallWebhook(block_document_id=block, payload=PAYLOAD)
        return AutomationCore(
            name=self.name,
            description=f"Write your address into block {self.block_name}, then switch this on.",
            enabled=False,
            trigger=EventTrigger(
                expect=set(EVENTS),
                posture=Posture.Reactive,
                threshold=1,
                within=timedelta(0),
            ),
            actions=[action],
        )


EXAMPLES = (
    Example(
        "Maintenance: e-mail (example)",
        "sendgrid-email",
        "validibot-maintenance-email",
        {
            "api_key": PLACEHOLDER,
            "sender_email": "maintenance@example.org",
            "to_emails": ["operator@example.org"],
        },
    ),
    Example(
        "Maintenance: Slack (example)",
        "slack-webhook",
        "validibot-maintenance-slack",
        {"url": "https://hooks.slack.com/services/T00000000/B00000000/" + "x" * 24},
    ),
    Example(
        "Maintenance: webhook (example)",
        WEBHOOK,
        "validibot-maintenance-webhook",
        {
            "method": "POST",
            "url": f"https://example.org/{PLACEHOLDER}",
            "headers": {"Content-Type": "application/json"},
        },
    ),
)
