"""Sessions and idempotency keys: in the order of their expiry, as time has left them."""

from collections.abc import Iterator

from demo.sample.chunk import Chunk
from demo.sample.drawing import DAY
from demo.sample.organization import Workflow
from demo.sample.spec import SampleSpec
from maintenance.schema import idempotency_keys, sessions
from maintenance.schema.vocabulary import IdempotencyKeyStatus

SESSION_LIFE = 14 * DAY
OLDEST_SESSION = 45 * DAY
KEY_LIFE = DAY
OLDEST_KEY = 14 * DAY
PROCESSING_SHARE = 0.02
KEY_RESPONSE = '{"state": "accepted"}'
KEY_HEADERS = '{"Content-Type": "application/json"}'
SESSION_BODY = (
    ".eJxVjDsOwjAQBe_iGlkbf5KYkp4zWGvvGgeQLcVJhbg7iZQC2jcz7y08bmvxW-PFzySuwojL7xYwPrke" * 2
)


def session_expiries(spec: SampleSpec) -> Iterator[int]:
    """Yield when each session expires."""
    return _expiries(spec.session_count, spec.stale_share, OLDEST_SESSION, SESSION_LIFE)


def key_expiries(spec: SampleSpec) -> Iterator[int]:
    """Yield when each idempotency key expires."""
    return _expiries(spec.idempotency_key_count, spec.stale_share, OLDEST_KEY, KEY_LIFE)


def _expiries(total: int, stale_share: float, oldest: int, furthest: int) -> Iterator[int]:
    """Spread times evenly, ascending: the stale ones before the moment, the rest at it or later."""
    stale = round(total * stale_share)
    for place in range(stale):
        yield oldest * place // stale - oldest
    live = total - stale
    for place in range(live):
        yield furthest * place // live


def add_session(chunk: Chunk, expires: int) -> None:
    """Add a session."""
    chunk.tally["sessions_expired" if expires < 0 else "sessions_live"] += 1
    key = chunk.draw.hexadecimal(32)
    chunk.add(
        sessions,
        session_key=key,
        session_data=f"{SESSION_BODY}:{key}",
        expire_date=chunk.moments.at(expires),
    )


def add_idempotency_key(chunk: Chunk, workflow: Workflow, expires: int) -> None:
    """Add the key of an API request that was made a day before it expires."""
    draw = chunk.draw
    chunk.tally["idempotency_keys_expired" if expires < 0 else "idempotency_keys_live"] += 1
    created = chunk.moments.at(expires - KEY_LIFE)
    processing = draw.happens(PROCESSING_SHARE)
    status = IdempotencyKeyStatus.PROCESSING if processing else IdempotencyKeyStatus.COMPLETED
    chunk.add(
        idempotency_keys,
        created=created,
        id=draw.identifier(),
        key=draw.hexadecimal(32),
        endpoint="workflow-runs",
        request_hash=draw.hexadecimal(64),
        status=status,
        response_status=None if processing else 201,
        response_body=None if processing else KEY_RESPONSE,
        response_headers=KEY_HEADERS,
        expires_at=chunk.moments.at(expires),
        request_ip="203.0.113.7",
        user_agent="validibot-cli/0.14",
        org_id=workflow.org_id,
    )
