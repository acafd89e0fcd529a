"""Telling lost files from a storage that is not there (SPEC 10.1).

A file that is absent counts as deleted. When all files of a run are absent, something is wrong: a
directory below the root may be a volume of its own that is not mounted, or a restored storage may
be incomplete. The markers cannot tell.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import Engine

from maintenance.database import transaction
from maintenance.errors import StorageError
from maintenance.storage.named_files import MANY, sample_named_files
from maintenance.storage.store import Deletion, Store


@dataclass(eq=False)
class FileCount:
    """The files that the rows of a run name, and how many of them were found.

    Attributes:
        accepted: whether it is accepted that none was found.
        named: files that rows named.
        found: of these, those that were in the storage.
        folders: the first components of the keys.
    """

    accepted: bool = False
    named: int = 0
    found: int = 0
    folders: set[str] = field(default_factory=set)

    def add(self, keys: Sequence[str], outcomes: Sequence[Deletion]) -> None:
        """Count files that were deleted or measured; a failed one was not absent."""
        self.named += len(keys)
        self.found += sum(bool(one.files or one.error) for one in outcomes)
        self.folders.update(_folder(key) for key in keys)

    @property
    def suspicious(self) -> bool:
        """Whether many files were named, and none was found."""
        return not self.accepted and self.named >= MANY and self.found == 0

    def check(self, engine: Engine, store: Store) -> None:
        """Check that other files of each of the same folders exist, if none of the run was found.

        After a crash between the deletion of files and the commit, all files of the next batch are
        absent; but those of other rows are not (docs/decisions/0008).

        Raises:
            StorageError: in one of the folders none of a sample of the files that rows name exists.
            DatabaseError: a statement failed.
        """
        if not self.suspicious:
            return
        with transaction(engine, read_only=True) as connection:
            files = sample_named_files(connection).files.values()
        others = [key for keys in files for key in keys if _folder(key) in self.folders]
        exist = zip(others, store.exist(others), strict=True)
        empty = sorted(self.folders - {_folder(key) for key, exists in exist if exists})
        if not empty:
            return
        message = (
            f"{store.place}: not one of the {self.named} files that rows of this run name was"
            f" found, nor any of a sample that other rows name in {', '.join(empty)}/; nothing was"
            " stamped."
            " Is all of the storage mounted, or restored? If these files are lost, run the job once"
            " with accept_missing_files"
        )
        raise StorageError(message)


def _folder(key: str) -> str:
    return key.strip("/").partition("/")[0]
