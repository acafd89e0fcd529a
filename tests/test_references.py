"""References lead somewhere: to a rule of the specification, to a file, to a heading."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SPECIFICATION = ROOT / "docs" / "specification.md"
FOLDERS = (
    *("flows", "tasks", "maintenance", "deployments", "demo"),
    *("benchmarks", "website", "tests", "docs"),
)
KINDS = {".py", ".md", ".sql", ".yaml", ".yml", ".toml"}

NUMBER = r"\d+(?:\.\d+)*"
SPACE = r"[\s#]+"
"""A reference may be broken by a line's end, also in a comment."""

REFERENCE = re.compile(
    rf"\b(?:SPEC|[Ss]pecification){SPACE}({NUMBER}(?:(?:,{SPACE}|{SPACE}and{SPACE}){NUMBER})*)"
)
MADE_UP = "99.9"
"""No rule has this number."""

TEST_NAME = re.compile(r"\btest_(\d+)(?:_(\d+))?_")

RULE = re.compile(rf'^(?:##|###) ({NUMBER})\.? .*<a id="spec-({NUMBER})"></a>$', re.MULTILINE)
RULES_OF_SECTION = {1: 0, 2: 12, 3: 0, 4: 0, 5: 4, 6: 5, 7: 0, 8: 0, 9: 0, 10: 16}
"""So many numbered rules each section has."""

PATH = re.compile(rf"`((?:{'|'.join(FOLDERS)}|\.ci)/[\w./-]*)`")
LINK = re.compile(r"\]\((?![a-z]+:)([^)\s]+)\)")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def sources() -> list[Path]:
    """Every file of the project that may refer to the specification."""
    found = [path for path in ROOT.iterdir() if path.is_file()]
    for folder in FOLDERS:
        found += (ROOT / folder).rglob("*")
    return sorted(path for path in found if path.suffix in KINDS)


def references(text: str) -> Iterator[str]:
    """The numbers of the rules that a text refers to, in words and in names of tests."""
    for match in REFERENCE.finditer(text):
        yield from re.findall(NUMBER, match.group(1))
    for section, rule in TEST_NAME.findall(text):
        yield f"{section}.{rule}" if rule else section


def rules() -> set[str]:
    """The numbers of the rules that can be referred to."""
    return {number for number, _ in RULE.findall(SPECIFICATION.read_text())}


def anchors(document: Path) -> set[str]:
    """What a link into a document may name: its headings, as GitHub names them, and its anchors."""
    text = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    found = set(re.findall(r'<a id="([^"]+)">', text))
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        plain = re.sub(r"<[^>]+>|[`*]|\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return found


def broken_links(document: Path) -> list[str]:
    """The relative links of a document that lead to no file, or to no heading of one."""
    broken = []
    for link in LINK.findall(document.read_text()):
        name, _, fragment = link.partition("#")
        target = document.parent / name if name else document
        if not target.exists() or (fragment and fragment not in anchors(target)):
            broken.append(link)
    return broken


def test_the_specification_has_every_rule_once_with_its_anchor() -> None:
    expected = [
        number
        for section, count in RULES_OF_SECTION.items()
        for number in (str(section), *(f"{section}.{rule}" for rule in range(1, count + 1)))
    ]
    found = RULE.findall(SPECIFICATION.read_text())
    assert [number for number, _ in found] == expected
    assert [anchor for _, anchor in found] == expected


def test_every_reference_leads_to_a_rule() -> None:
    known = rules()
    unknown = {
        f"{path.relative_to(ROOT)}: {number}"
        for path in sources()
        for number in references(path.read_text())
        if number not in known
    }
    assert unknown == set()


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("(SPEC {}).", [MADE_UP]),
        ("SPEC 2.5, {}", ["2.5", MADE_UP]),
        ("as SPEC 5.1 and {} say", ["5.1", MADE_UP]),
        ("    # the time-outs (SPEC\n    # {})", [MADE_UP]),
        ("specification {}", [MADE_UP]),
    ],
)
def test_a_made_up_reference_is_found_and_unknown(text: str, numbers: list[str]) -> None:
    assert list(references(text.format(MADE_UP))) == numbers
    assert not set(numbers[-1:]) & rules()


def test_a_made_up_rule_in_a_tests_name_is_found_and_unknown() -> None:
    assert list(references(f"def test_{MADE_UP.replace('.', '_')}_nothing_is_lost()")) == [MADE_UP]
    assert list(references(f"def test_{MADE_UP[:2]}_orphans()")) == [MADE_UP[:2]]
    assert not {MADE_UP, MADE_UP[:2]} & rules()


def test_references_are_found_in_code_tests_and_documents() -> None:
    referring = {
        path.relative_to(ROOT).parts[0] for path in sources() if list(references(path.read_text()))
    }
    assert {"flows", "tasks", "maintenance", "deployments", "tests", "docs"} <= referring


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_relative_links_lead_to_a_file_and_a_heading(document: Path) -> None:
    assert broken_links(document) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text(
        "# One heading\n[a](#one-heading) [b](#two) [c](gone.md) [d](page.md#two)\n"
    )
    assert broken_links(document) == ["#two", "gone.md", "page.md#two"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_paths_that_a_document_names_exist(document: Path) -> None:
    text = document.read_text()
    created = set(re.findall(r"^Create `([^`]+)`:$", text, re.MULTILINE))
    named = [path for path in PATH.findall(text) if path not in created]
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("name", ["architecture.md", "glossary.md"])
def test_the_maps_of_the_code_name_paths_in_every_package(name: str) -> None:
    named = {path.partition("/")[0] for path in PATH.findall((ROOT / "docs" / name).read_text())}
    assert {"flows", "tasks", "maintenance", "deployments"} <= named


def test_the_glossary_says_each_term_once_in_order() -> None:
    terms = re.findall(r"^\| \*\*(.+?)\*\*", (ROOT / "docs/glossary.md").read_text(), re.MULTILINE)
    assert terms == sorted(set(terms), key=lambda term: term.replace("'", "").casefold())
    assert len(terms) > 40
