"""What the stack's images are made of is kept, and made anew when that changes."""

import os
from pathlib import Path

import pytest

from tests.stack.cache import UNUSED_SECONDS, Kept, cache_folder


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TEST_CACHE", str(tmp_path / "cache"))
    return cache_folder()


def keep(name: str, *inputs: str) -> Path:
    made = Kept(name, *inputs)
    made.draft.write_text("made")
    made.keep()
    return made.path


def test_the_same_inputs_find_it_and_others_do_not() -> None:
    path = keep("image.tar", "bookworm", "python3")
    assert Kept("image.tar", "bookworm", "python3").exists()
    assert Kept("image.tar", "bookworm", "python3").path.read_text() == "made"
    assert not Kept("image.tar", "trixie", "python3").exists()
    assert not Kept("image.tar", "bookworm", "python3", "more").exists()
    path.unlink()
    assert not Kept("image.tar", "bookworm", "python3").exists()


def test_a_draft_is_not_taken_for_the_whole_and_leaves_nothing_when_it_is_given_up(
    folder: Path,
) -> None:
    made = Kept("packages", "1")
    made.draft.mkdir()
    (made.draft / "half").touch()
    assert not Kept("packages", "1").exists()
    made.give_up()
    assert list(folder.iterdir()) == []


def test_of_two_that_make_the_same_the_first_one_counts(folder: Path) -> None:
    first, second = Kept("packages", "1"), Kept("packages", "1")
    for made in (first, second):
        made.draft.mkdir()
        (made.draft / made.draft.name).touch()
        made.keep()
    assert [path.name for path in first.path.iterdir()] == [first.draft.name]
    assert list(folder.iterdir()) == [first.path]


def test_what_was_not_used_for_long_is_deleted_and_what_is_used_stays() -> None:
    old, used = keep("old", "1"), keep("used", "1")
    for path in (old, used):
        os.utime(path, (0, path.stat().st_mtime - UNUSED_SECONDS + 60))
    Kept("used", "1")
    os.utime(old, (0, old.stat().st_mtime - 120))
    Kept("other", "1")
    assert used.exists()
    assert not old.exists()


def test_a_use_counts_from_its_own_moment() -> None:
    used = keep("used", "1")
    long_ago = used.stat().st_mtime - UNUSED_SECONDS + 60
    os.utime(used, (0, long_ago))
    Kept("used", "1")
    assert used.stat().st_mtime > long_ago
