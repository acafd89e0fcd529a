"""Causal ordering of events with a short wait; runs in the Prefect server.

The server's setting PREFECT_SERVER_EVENTS_CAUSAL_ORDERING names this module. A state event names
the event that it follows. If the server has not seen that one, because it was restarted in between,
Prefect's own ordering holds the state event back for up to 15 minutes, and no automation reacts to
it. Events of a run arrive within a second of each other, so a wait of a few seconds is enough.
"""

from datetime import UTC, datetime, timedelta

from prefect.server.events.ordering.memory import CausalOrdering as MemoryOrdering
from prefect.server.events.schemas.events import ReceivedEvent

LOOK_BACK = timedelta(seconds=5)


class CausalOrdering(MemoryOrdering):
    """Prefect's ordering in memory, with a shorter wait for a missing event."""

    async def wait_for_leader(self, event: ReceivedEvent) -> None:
        """Wait for the event that this one follows, unless it has waited long enough."""
        if datetime.now(UTC) - event.received < LOOK_BACK:
            await super().wait_for_leader(event)

    async def get_lost_followers(self) -> list[ReceivedEvent]:
        """Return and forget the events that have waited long enough."""
        latest = datetime.now(UTC) - LOOK_BACK
        async with self._lock:
            waiting = [
                self._events[identifier]
                for identifier, received in self._waitlist.items()
                if received <= latest and identifier in self._events
            ]
        for event in waiting:
            await self.forget_follower(event)
        return sorted(waiting, key=lambda event: event.occurred)
