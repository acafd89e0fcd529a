"""What a value must be, in an operator's words instead of the validation library's (SPEC 8, 9)."""

from pydantic_core import ErrorDetails

REQUIREMENTS = {
    "greater_than_equal": "must be at least {ge:,}",
    "greater_than": "must be above {gt:,}",
    "less_than_equal": "must be at most {le:,}",
    "less_than": "must be below {lt:,}",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
}
"""By the type of the error; filled with what the bounds are."""
KINDS = {
    "int_": "must be a whole number",
    "float_": "must be a number",
    "finite_number": "must be a number",
    "bool_": "must be true or false",
    "date": "must be a time, such as 2026-11-15 or 2026-11-15T12:00:00Z",
    "timezone": "must be a time, such as 2026-11-15T12:00:00Z",
    "missing": "is missing",
    "path_": "must be a path",
    "uuid_": "must be an identifier",
    "string_": "must be a text",
}
"""By the beginning of the type of the error."""
OUR_OWN = "Value error, "
"""What the library puts before the texts of our own validators."""


def requirement(problem: ErrorDetails) -> str:
    """Return what a value must be that did not pass validation, without the value."""
    kind = problem["type"]
    if kind in REQUIREMENTS:
        bounds = {
            name: int(bound) if isinstance(bound, float) and bound.is_integer() else bound
            for name, bound in problem.get("ctx", {}).items()
        }
        return REQUIREMENTS[kind].format(**bounds)
    known = next((text for start, text in KINDS.items() if kind.startswith(start)), None)
    return known or problem["msg"].removeprefix(OUR_OWN)
