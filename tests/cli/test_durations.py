from __future__ import annotations

import pytest

from recbench.cli.durations import duration, parse_duration
from recbench.errors import UserError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("45s", 45),
        ("90m", 5400),
        ("3h", 10800),
        ("1.5h", 5400),
        ("1d12h", 129600),
        ("1d 2h 3m 4s", 93784),
        ("2H", 7200),
    ],
)
def test_times_are_read_with_their_units(text: str, seconds: float) -> None:
    assert parse_duration(text, "--timeout") == seconds


@pytest.mark.parametrize(
    "text", ["", "3", "h", "0s", "-3h", "3x", "3h3h", "4s1d", "nan", "infs", "1e3s", "three hours"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"--timeout .*such as 3h"):
        parse_duration(text, "--timeout")


def test_times_are_shown_as_clocks_do() -> None:
    assert (duration(0), duration(65.9), duration(3600), duration(90061)) == ("0:00", "1:05", "1:00:00", "25:01:01")
