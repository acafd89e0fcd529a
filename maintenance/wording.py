"""Numbers, sizes and ages as people write them: for reports, messages and tables."""

SINGULAR = {
    "batches": "batch",
    "bundles": "bundle",
    "containers": "container",
    "deadlines": "deadline",
    "files": "file",
    "items": "item",
    "purges": "purge",
    "rows": "row",
    "runs": "run",
    "schedules": "schedule",
    "submissions": "submission",
    "times": "time",
}
UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))


def number_of(count: int, things: str) -> str:
    """Return a number with the name of what is counted, in the singular when it is one.

    Args:
        count: how many.
        things: the name in the plural, such as `files` or `runs finished`.
    """
    if count == 1:
        things = " ".join(SINGULAR.get(word, word) for word in things.split())
    return f"{count:,} {things}"


def human_bytes(size: int) -> str:
    """Return a size in bytes with a unit, in powers of 1024."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:  # noqa: PLR2004 - the base of the units above
            return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1024
    return f"{value:,.1f} TiB"


def human_age(seconds: float) -> str:
    """Return an age in the largest unit of which it has two, rounded down: `181 days`, `3 hours`.

    A single day, hour or minute is named when it is exactly that.
    """
    whole = max(0, int(seconds))
    for size, name in UNITS:
        number, rest = divmod(whole, size)
        if number > 1 or (number == 1 and not rest):
            return f"{number:,} {name}{'' if number == 1 else 's'}"
    return f"{whole} seconds"
