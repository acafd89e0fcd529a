"""The marker of a storage root: a small file that names the application of the root (SPEC 10.1).

"What is absent is deleted" holds only in the storage of the application whose rows are purged. A
bare mount point, another application's volume and an empty bucket answer "absent", too; but none of
them holds the marker.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any, Self

MARKER = ".validibot-maintenance.json"
"""The name of the marker, directly below its root."""

MAX_MARKER_BYTES = 4_096


@dataclass(frozen=True)
class Marker:
    """What a marker says.

    Attributes:
        application: the identity of the application; see `application_id`.
        root: which root of the application this is: `private`, `public` or `bundles`.
        roots: in the marker of the private root, all roots that are adopted, in alphabetical order;
            elsewhere empty. So a root that is no longer there, or no longer in the settings, is
            noticed.
        database: in the marker of the private root, what the last runs saw of the database, as JSON
            (`maintenance/restore.py`); None before the first run.
    """

    application: str
    root: str
    roots: tuple[str, ...] = ()
    database: dict[str, Any] | None = None

    def content(self) -> bytes:
        """Return the bytes of the file."""
        held = {"made_by": "validibot-maintenance", **asdict(self)}
        if self.database is None:
            del held["database"]
        return json.dumps(held, indent=1).encode()

    @classmethod
    def parse(cls, content: bytes) -> Self | None:
        """Return the marker with these bytes, None when they are not those of a marker."""
        try:
            held = json.loads(content)
            values = {name: held[name] for name in ("application", "root", "roots")}
            database = held.get("database")
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        names = values["roots"]
        if not isinstance(names, list):
            return None
        if not all(isinstance(one, str) for one in (values["application"], values["root"], *names)):
            return None
        values["roots"] = tuple(names)
        return cls(**values, database=database if isinstance(database, dict) else None)
