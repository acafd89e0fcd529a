import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from maintenance.errors import UnsafeKey
from maintenance.storage.keys import split_file_key, split_key


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        ("a.json", ("a.json",)),
        ("submissions/2026/a.json", ("submissions", "2026", "a.json")),
        ("a//b/./c/", ("a", "b", "c")),
        ("..a/b../...", ("..a", "b..", "...")),
        ("ordner/übung 1/日本.json", ("ordner", "übung 1", "日本.json")),
        ("~/a", ("~", "a")),
        ("my-evidence/a", ("my-evidence", "a")),
        ("evidence.json", ("evidence.json",)),
        ("runs/evidence/a", ("runs", "evidence", "a")),
    ],
)
def test_a_key_is_split_into_its_components(key: str, parts: tuple[str, ...]) -> None:
    assert split_key(key) == parts
    assert split_file_key(key) == parts


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("", "names no file"),
        (".", "names no file"),
        ("./.", "names no file"),
        ("/", "is absolute"),
        ("/etc/passwd", "is absolute"),
        ("//a", "is absolute"),
        ("..", "climbs out of its root"),
        ("../a", "climbs out of its root"),
        ("a/../b", "climbs out of its root"),
        ("a/b/..", "climbs out of its root"),
        ("a\0b", "holds a character"),
        ("\0", "holds a character"),
        ("a\\b", "holds a character"),
        ("..\\a", "holds a character"),
    ],
)
def test_a_name_that_could_leave_its_root_is_refused(key: str, why: str) -> None:
    for split in (split_key, split_file_key):
        with pytest.raises(UnsafeKey, match=why) as caught:
            split(key)
        assert str(caught.value).startswith("refused: ")
        assert "\0" not in str(caught.value)


@pytest.mark.parametrize("key", ["evidence", "evidence/1/2/manifest.json", "./evidence//x"])
def test_an_evidence_manifest_is_refused_as_a_file(key: str) -> None:
    with pytest.raises(UnsafeKey, match="is an evidence manifest, which is never deleted"):
        split_file_key(key)
    assert split_key(key)[0] == "evidence"


@profile(max_examples=500, deadline=None, derandomize=True)
@given(st.text(alphabet=st.sampled_from("a./\\\0e"), max_size=12))
def test_whatever_the_key_its_components_stay_below_the_root(key: str) -> None:
    try:
        parts = split_key(key)
    except UnsafeKey:
        assert (
            key.startswith("/")
            or ".." in key.split("/")
            or set(key) <= {".", "/"}
            or {"\0", "\\"} & set(key)
        )
        return
    assert parts
    assert not {"", ".", ".."} & set(parts)
    assert not any({"/", "\\", "\0"} & set(part) for part in parts)
    assert "/".join(parts) == "/".join(p for p in key.split("/") if p not in ("", "."))
