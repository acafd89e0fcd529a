"""Sets of identifiers as one bound array, so that a statement's text does not depend on them."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import BigInteger, CollectionAggregate, Text, any_, cast, literal
from sqlalchemy import Uuid as UuidType
from sqlalchemy.dialects.postgresql import ARRAY


def any_uuid(ids: Sequence[UUID]) -> CollectionAggregate[bool]:
    """Return `ANY(ids)` for a uuid column."""
    return any_(cast(literal(list(ids), ARRAY(UuidType)), ARRAY(UuidType)))


def any_bigint(ids: Sequence[int]) -> CollectionAggregate[bool]:
    """Return `ANY(ids)` for a bigint column."""
    return any_(cast(literal(list(ids), ARRAY(BigInteger)), ARRAY(BigInteger)))


def uuid_array(ids: Sequence[UUID | None]):  # type: ignore[no-untyped-def]  # noqa: ANN201
    """Return the identifiers as an array, for `unnest`."""
    return cast(literal(list(ids), ARRAY(UuidType)), ARRAY(UuidType))


def text_array(texts: Sequence[str]):  # type: ignore[no-untyped-def]  # noqa: ANN201
    """Return the texts as an array, for `unnest`."""
    return cast(literal(list(texts), ARRAY(Text)), ARRAY(Text))
