"""The database's address in every form that Validibot's own `DATABASE_URL` may have.

Django's packages for such addresses (django-environ, dj-database-url) accept more than libpq does:
a socket's folder in place of the host, and options that are Django's own. No error and no log line
holds a part of the address, which may be a password.
"""

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote

from psycopg.pq import Conninfo
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

SCHEMES = ("postgres", "postgresql", "psql", "pgsql", "postgresql+psycopg")

IGNORED = frozenset(
    {
        *("conn_max_age", "conn_health_checks", "disable_server_side_cursors"),
        *("atomic_requests", "autocommit", "pool", "server_side_binding", "isolation_level"),
    }
)
"""Options of Django's connections, which mean nothing here."""
SSL_REQUIRE = "ssl_require"
"""Django's option for `sslmode=require`."""
TRUE = frozenset({"true", "1", "yes", "on"})

SOCKET = re.compile(
    r"(?P<start>[a-z+]+://(?:[^@/?#]*@)?)"
    r"(?:/(?P<plain>/[^?#]*)/|(?P<quoted>%2[Ff][^/?#]*?)(?::(?P<port>[0-9]+))?/)(?P<rest>.*)",
    re.DOTALL,
)
"""`//cloudsql/project:region:instance/name`, or `%2Fcloudsql%2Fproject:region:instance/name`."""


def parse_address(text: str) -> URL:
    """Return the address without Django's options, and with a socket's folder as option `host`.

    Raises:
        ValueError: it is not an address of a PostgreSQL database.
    """
    socket = SOCKET.fullmatch(text)
    try:
        url = make_url(f"{socket['start']}/{socket['rest']}" if socket else text)
    except (ArgumentError, ValueError):
        raise ValueError(
            "not an address; expected postgresql://user:password@host:5432/name"
        ) from None
    if url.drivername not in SCHEMES:
        raise ValueError(f"must begin with one of {', '.join(SCHEMES)}")
    if "@" in f"{url.host}{url.database}":
        # The rest of the password would be parsed as the host, and quoted in connection errors.
        raise ValueError("an @ in the user's name or password must be written as %40")
    options = _options(url)
    if socket:
        options["host"] = unquote(socket["plain"] or socket["quoted"])
        if socket["port"]:
            options["port"] = socket["port"]
    return url.set(query=options)


def ignored_options(text: str) -> list[str]:
    """Return the names of the options in an address that are ignored."""
    given = {name.lower() for name, _ in parse_qsl(text.rpartition("?")[2])}
    return sorted(given & IGNORED)


def _options(url: URL) -> dict[str, str | tuple[str, ...]]:
    known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    kept: dict[str, str | tuple[str, ...]] = {}
    given: Mapping[str, str | tuple[str, ...]] = url.query
    for name, value in given.items():
        if name in known:
            kept[name] = value
        elif name.lower() == SSL_REQUIRE:
            if str(value).lower() in TRUE:
                kept.setdefault("sslmode", "require")
        elif name.lower() not in IGNORED:
            raise ValueError(
                "an option after the ? is not known; allowed are those of PostgreSQL's connections,"
                " such as sslmode, and Django's conn_max_age and the like, which are ignored"
            )
    return kept
