"""docs/migration.md can be followed to the letter; test_compose.py does it, with an engine."""

import ast
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.stack.guide import MIGRATION, Block, blocks
from tests.stack.shell import Reader, shell

PAGE = blocks(MIGRATION)
FOLLOWING = Path(__file__).with_name("test_compose.py")
FOLDER = "/home/me/my validibot"


class Typed:
    """Runs nothing, and remembers what was to be run."""

    def __init__(self) -> None:
        self.texts: list[tuple[str, str]] = []

    def run(self, text: str, answer: str = "") -> str:
        self.texts.append((text, answer))
        return "done\n"


def reader(typed: Typed, *page: Block) -> Reader:
    return Reader(page, typed, FOLDER, {"restore": "yes\n"})


def test_every_block_of_the_page_is_followed_by_the_test_with_an_engine() -> None:
    called = [
        node
        for node in ast.walk(ast.parse(FOLLOWING.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "page.follow"
    ]
    called.sort(key=lambda node: node.lineno)
    followed = [ast.literal_eval(title) for node in called for title in node.args]
    assert followed == list(dict.fromkeys(block.title for block in PAGE))


def test_every_fence_of_the_page_is_a_block_of_a_language_that_is_run() -> None:
    assert len(re.findall(r"^\s*(?:```|~~~)", MIGRATION, re.MULTILINE)) == 2 * len(PAGE)
    assert {block.language for block in PAGE} == {"sh", "crontab"}


@pytest.mark.parametrize("block", PAGE, ids=lambda block: block.title)
def test_a_posix_shell_can_read_each_block(block: Block) -> None:
    if block.language == "sh":
        child = subprocess.run(
            ["/bin/sh", "-n"], input=block.text, text=True, capture_output=True, check=False
        )
        assert child.stderr == ""


def test_a_block_stands_under_the_step_or_heading_above_it() -> None:
    page = """
## Main *part*

1. **Do it**, soon. Not **this**:

   ```sh
   # no heading
   one
   ```
   then
   ```sh
   two
   ```

## Other

```crontab
* * * * * three
```
"""
    assert blocks(page) == [
        Block("Do it", "sh", "# no heading\none\n"),
        Block("Do it", "sh", "two\n"),
        Block("Other", "crontab", "* * * * * three\n"),
    ]


def test_blocks_are_run_in_the_order_of_the_page_with_answers() -> None:
    typed = Typed()
    page = reader(typed, Block("A", "sh", "a"), Block("A", "sh", "restore"), Block("B", "sh", "b"))
    assert page.follow("A", "B") == "done\n" * 3
    page.end()
    assert typed.texts == [("a", ""), ("restore", "yes\n"), ("b", "")]


def test_a_block_that_is_left_out_is_an_error() -> None:
    typed = Typed()
    page = reader(typed, Block("A", "sh", "a"), Block("B", "sh", "b"))
    with pytest.raises(AssertionError, match="left out before 'B'"):
        page.follow("B")
    page.follow("A")
    with pytest.raises(AssertionError):
        page.end()
    page.follow("B")
    with pytest.raises(AssertionError, match="the page ends before 'C'"):
        page.follow("C")
    assert [text for text, _ in typed.texts] == ["a", "b"]


def test_lines_of_a_crontab_are_run_as_cron_does_in_validibots_folder() -> None:
    typed = Typed()
    line = "*/5 * * * 1 cd /srv/validibot && touch 'x y'\n"
    reader(typed, Block("A", "crontab", line * 2)).follow("A")
    command = f"cd '{FOLDER}' && touch 'x y'"
    wanted = f"sh -c {shlex.quote(command)} < /dev/null"
    assert [text for text, _ in typed.texts] == [wanted, wanted]
    with pytest.raises(AssertionError, match="cron takes it"):
        reader(typed, Block("A", "crontab", "* * * * * date +%s")).follow("A")


def test_a_shell_keeps_what_was_set_answers_and_ends_at_the_first_failure(tmp_path: Path) -> None:
    with shell(["docker", "compose"], tmp_path, GIVEN="given") as operator:
        assert operator.run("twice() {\n    echo $1 $1\n}\nread -r answer", "yes\n").strip() == ""
        assert operator.run('twice "$answer" | cat\necho "$GIVEN"').split() == [
            "yes",
            "yes",
            "given",
        ]
        assert "just" in operator.run("command -v just")
        with pytest.raises(AssertionError, match=r"(?s)failed:.*before.*No such file"):
            operator.run("echo before\nls /absent | cat\necho after")


def test_a_block_of_another_language_is_an_error() -> None:
    typed = Typed()
    with pytest.raises(AssertionError, match="no language that is run"):
        reader(typed, Block("A", "console", "a")).follow("A")
    assert typed.texts == []
