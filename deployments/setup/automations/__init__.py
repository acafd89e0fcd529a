"""Automations: the server's reactions to events of runs."""

from deployments.setup.automations.upsert import apply_automations

__all__ = ["apply_automations"]
