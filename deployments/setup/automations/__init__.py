"""Automations: the server's reactions to what happens to runs."""

from deployments.setup.automations.upsert import apply_automations

__all__ = ["apply_automations"]
