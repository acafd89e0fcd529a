"""The order of events, with a short look-back: for the Prefect server, not for us.

Named in the server's PREFECT_SERVER_EVENTS_CAUSAL_ORDERING. A state event names the event that it
follows. A server that has not seen that one, because it was restarted in between, parks the state
event for up to 15 minutes, and no automation hears of it meanwhile. Events of a run arrive within
a second of each other, so a few seconds are enough.
"""

from datetime import UTC, datetime, timedelta

from prefect.server.events.ordering.memory import CausalOrdering as MemoryOrdering
from prefect.server.events.schemas.events import ReceivedEvent

LOOK_BACK = timedelta(seconds=5)


class CausalOrdering(MemoryOrdering):
    """Prefect's own ordering in memory, which gives up on a missing event sooner."""

    async def wait_for_leader(self, event: ReceivedEvent) -> None:
        """Let an event pass that has waited long enough; otherwise do as Prefect does."""
        if datetime.now(UTC) - event.received < LOOK_BACK:
            await super().wait_for_leader(event)

    async def get_lost_followers(self) -> list[ReceivedEvent]:
        """Return, and forget, the events that have waited long enough."""
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
