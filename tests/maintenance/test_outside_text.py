"""Text from outside cannot control a terminal, a log line or a page."""

import re
import unicodedata
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maintenance.errors import StorageError
from maintenance.outside_text import ELLIPSIS, as_markdown, one_line, visible
from maintenance.report import BatchResult

ODD = st.text(
    st.one_of(
        st.characters(),  # with surrogates: names that are no UTF-8
        st.sampled_from("\x00\x1b\x07\x9b\r\n\t\u202e\u2066\u200b\ufeff\u2028\udcff\ufe0f\u3164"),
        st.sampled_from("[]()!<>&|`*_~\\@:/.#-+=1w "),
    )
)


@given(ODD)
def test_visible_text_holds_no_control_format_surrogate_or_odd_space(text: str) -> None:
    shown = visible(text)
    for character in shown.replace("\n", ""):
        assert unicodedata.category(character)[0] != "C"
        assert character == " " or unicodedata.category(character)[0] != "Z"
    assert visible(shown) == shown


@given(ODD, st.integers(1, 40))
def test_a_line_is_one_line_within_its_bound_and_no_escape_is_cut(text: str, most: int) -> None:
    line = one_line(text, most)
    assert len(line) <= most
    assert "\n" not in line
    assert one_line(line, most) == line
    whole = one_line(text, 1_000_000)
    if line != whole:
        assert line.endswith(ELLIPSIS)
        kept = len(line) - 1
        # Where the line was cut, the whole text has the end of a character or of an escape.
        ends = {0}
        for character in " ".join(text.split()):
            ends.add(max(ends) + len(visible(character)))
        assert kept in ends
        assert whole.startswith(line[:-1])


@given(ODD)
def test_plain_text_is_not_changed_but_for_its_white_space(text: str) -> None:
    plain = "".join(re.findall(r"[a-zA-Z0-9äß漢 ]", text))
    assert one_line(plain) == " ".join(plain.split())
    assert as_markdown(plain) == one_line(plain)


@given(ODD)
def test_markdown_has_no_live_character(text: str) -> None:
    markdown = as_markdown(text)
    bare = re.sub(r"\\[!-/:-@\[-`{-~]", "", markdown)  # without what is escaped
    assert not set("[]<|~`*@\\") & set(bare)
    assert "://" not in bare
    assert not re.search(r"www\.", bare, re.IGNORECASE)
    assert not re.match(r"[-+#=>]|\d{1,9}[.)]( |$)", markdown)
    assert not re.search(r"&(?!amp;|lt;)", bare)


@pytest.mark.parametrize(
    ("text", "shown", "markdown"),
    [
        ("a\x1b[31mb", "a\\x1b[31mb", "a\\\\x1b\\[31mb"),
        ("gnp.\u202eexe", "gnp.\\u202eexe", "gnp.\\\\u202eexe"),
        ("caf\udce9", "caf\\udce9", "caf\\\\udce9"),
        ("a\nb\r\n c", "a b c", "a b c"),
        ("[x](javascript:a)", "[x](javascript:a)", "\\[x\\](javascript:a)"),
        ("http://x.example", "http://x.example", "http:\\//x.example"),
        ("WWW.x.example", "WWW.x.example", "WWW\\.x.example"),
        ("<img src=x>", "<img src=x>", "&lt;img src=x>"),
        ("django_session _x_", "django_session _x_", "django_session \\_x\\_"),
        ("# a", "# a", "\\# a"),
        ("1. a", "1. a", "1\\. a"),
        ("2026-11-15: 1.5 s", "2026-11-15: 1.5 s", "2026-11-15: 1.5 s"),
        ("\U000e0041", "\\U000e0041", "\\\\U000e0041"),
    ],
)
def test_what_is_shown_for_a_text(text: str, shown: str, markdown: str) -> None:
    assert (one_line(text), as_markdown(text)) == (shown, markdown)


def test_an_error_of_ours_escapes_the_names_in_its_text_and_keeps_its_lines() -> None:
    assert str(StorageError("x\x1b[2J\u202e: no\nsecond")) == "x\\x1b[2J\\u202e: no\nsecond"


def test_a_failure_is_recorded_as_one_safe_line() -> None:
    result = BatchResult()
    result.fail("run \x1b1", "a\nb\udcff" + "x" * 5_000)
    (failure,) = result.failures
    assert failure.item == "run \\x1b1"
    assert failure.cause.startswith("a b\\udcffxxx")
    assert len(failure.cause) == 2_000
    assert result.failed_items == {failure.item: failure.cause}


def test_the_json_of_a_report_escapes_texts_and_names_of_counts() -> None:
    result = BatchResult(
        warnings=["w\x1b\n\udcff"],
        throttled_because=["t\u202e"],
        unknown_policies=Counter({"P\x1b\n": 1}),
    )
    shown = result.model_dump(mode="json")
    assert shown["warnings"] == ["w\\x1b \\udcff"]
    assert shown["throttled_because"] == ["t\\u202e"]
    assert shown["unknown_policies"] == {"P\\x1b": 1}
    assert result.model_dump_json()
