"""Numbers, sizes and ages as people write them."""

import pytest

from maintenance.wording import human_age, human_bytes, number_of


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (1023, "1,023 B"),
        (1024, "1.0 KiB"),
        (1024**2 - 1024, "1,023.0 KiB"),
        (1024**2, "1.0 MiB"),
        (1024**3, "1.0 GiB"),
        (1024**4, "1.0 TiB"),
        (5000 * 1024**4, "5,000.0 TiB"),
    ],
)
def test_sizes_have_a_unit(size: int, shown: str) -> None:
    assert human_bytes(size) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 seconds"),
        (0.9, "0 seconds"),
        (1, "1 second"),
        (59.6, "59 seconds"),
        (60, "1 minute"),
        (90, "90 seconds"),
        (120, "2 minutes"),
        (3_600, "1 hour"),
        (90_061, "25 hours"),
        (86_400, "1 day"),
        (2 * 86_400 - 1, "47 hours"),
        (181 * 86_400 + 5_000, "181 days"),
        (4_000 * 86_400, "4,000 days"),
    ],
)
def test_an_age_has_the_largest_unit_of_which_there_are_two(seconds: float, shown: str) -> None:
    assert human_age(seconds) == shown


@pytest.mark.parametrize(
    ("count", "things", "shown"),
    [
        (0, "files", "0 files"),
        (1, "files", "1 file"),
        (1_500, "files", "1,500 files"),
        (1, "output deadlines repaired", "1 output deadline repaired"),
        (1, "runs finished", "1 run finished"),
        (2, "runs finished", "2 runs finished"),
    ],
)
def test_one_thing_is_in_the_singular(count: int, things: str, shown: str) -> None:
    assert number_of(count, things) == shown
