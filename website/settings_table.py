"""The table of all settings in docs/settings.md, made from the classes that read them.

`python -m website.settings_table` renews it. The text after a field of a class is its meaning.
"""

import ast
import inspect
import itertools
import re
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import AliasChoices
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from deployments.settings import DeploymentSettings
from maintenance.env_file import ENV_FILE
from maintenance.settings import Settings

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
BEGIN, END = "<!-- begin of the generated table -->", "<!-- end of the generated table -->"
TABLE = re.compile(f"{BEGIN}\n.*?{END}", re.DOTALL)

READERS: dict[type[BaseSettings], str] = {
    Settings: "jobs",
    DeploymentSettings: "`python -m deployments`",
}
"""What each class is read by."""
OF_THE_ENV_FILE = (
    f"| `{ENV_FILE}` | | | An env file, such as Validibot's own:"
    " [secrets from files](#secrets-from-files) | jobs |"
)


def main() -> None:
    """Renew the table in the page."""
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def with_table(page: str) -> str:
    """Return a page with the table in place of the one between its markers.

    Raises:
        ValueError: the markers are missing.
    """
    if not TABLE.search(page):
        raise ValueError(f"the page has no line {BEGIN}")
    return TABLE.sub(lambda _: "\n".join((BEGIN, "", *rows(), "", END)), page)


def rows() -> Iterator[str]:
    """Yield the lines of the table: one for each variable, in the order of the classes."""
    yield "| variable | default | allowed | meaning | read by |"
    yield "|---|---|---|---|---|"
    for settings, reader in READERS.items():
        meanings = described(settings)
        for name, field in settings.model_fields.items():
            cells = (variable(field), default(field), allowed(field), meanings[name], reader)
            yield f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |")
    yield OF_THE_ENV_FILE


def described(settings: type[BaseSettings]) -> dict[str, str]:
    """Return the text that follows each field of a class, in one line.

    Raises:
        ValueError: a field has none.
    """
    module = ast.parse(textwrap.dedent(inspect.getsource(settings)))
    body = [line for tree in module.body if isinstance(tree, ast.ClassDef) for line in tree.body]
    found: dict[str, str] = {}
    for field, after in itertools.pairwise(body):
        match field, after:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[name] = " ".join(text.split()).removesuffix(".")
    missing = settings.model_fields.keys() - found.keys()
    if missing:
        raise ValueError(f"{settings.__name__}: no text after {', '.join(sorted(missing))}")
    return found


def variable(field: FieldInfo) -> str:
    """Return the variable that a field is read from, and its other name."""
    alias = field.validation_alias
    names = [str(one) for one in alias.choices] if isinstance(alias, AliasChoices) else [str(alias)]
    return " or ".join(f"`{name}`" for name in names)


def default(field: FieldInfo) -> str:
    """Return the default as it would be set; empty if there is none."""
    value = field.default
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else number_or_code(value)


def number_or_code(value: object) -> str:
    """Return a number as it is, and everything else as code."""
    return str(value) if isinstance(value, int) else f"`{value}`"


def allowed(field: FieldInfo) -> str:
    """Return what a value may be: the choices, or the bounds of a number; empty for any text."""
    choices = [one for kind in kinds(field.annotation) for one in choices_of(kind)]
    if choices:
        return ", ".join(f"`{one}`" for one in choices)
    if bool in kinds(field.annotation):
        return "true, false"
    return bounds([*field.metadata, *metadata_within(field.annotation)])


def kinds(annotation: Any) -> list[Any]:  # noqa: ANN401 - any type's expression
    """Return the types of a union, without the metadata of each."""
    parts = get_args(annotation) if is_union(annotation) else [annotation]
    return [get_args(one)[0] if hasattr(one, "__metadata__") else one for one in parts]


def metadata_within(annotation: Any) -> list[Any]:  # noqa: ANN401 - any type's expression
    """Return the metadata of the types in a union."""
    found: list[Any] = []
    for one in get_args(annotation) if is_union(annotation) else []:
        for constraint in getattr(one, "__metadata__", ()):
            found += constraint.metadata if isinstance(constraint, FieldInfo) else [constraint]
    return found


def is_union(annotation: Any) -> bool:  # noqa: ANN401 - any type's expression
    """Return whether a type's expression is a union."""
    return get_origin(annotation) in (Union, types.UnionType)


def choices_of(kind: Any) -> tuple[Any, ...]:  # noqa: ANN401 - any type's expression
    """Return the values of a literal type; none for another type."""
    return get_args(kind) if get_origin(kind) is Literal else ()


def bounds(constraints: list[Any]) -> str:
    """Return the bounds in words, such as `1 to 50,000`."""
    low = next((one.ge for one in constraints if isinstance(one, Ge)), None)
    above = next((one.gt for one in constraints if isinstance(one, Gt)), None)
    high = next((one.le for one in constraints if isinstance(one, Le)), None)
    least = f"{low:,}" if low is not None else f"above {above:,}" if above is not None else ""
    return f"{least} to {high:,}" if least and high is not None else least


if __name__ == "__main__":
    main()
