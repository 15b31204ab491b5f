"""Entries of classes that say the rest themselves: LossEntry.of and the like."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from recbench import ArchitectureEntry, LossEntry, MetricEntry, Parameter, Tunable


class Made:
    """Made up for tests.

    And more.
    """

    def __init__(
        self,
        setting: object,
        *,
        rate: float = 1,
        width: int = 16,
        sizes: list[int] = [1, 2],  # noqa: B006
        ema: bool = False,
    ) -> None:
        pass


def test_parameters_are_the_arguments_with_a_default() -> None:
    entry = LossEntry.of(
        Made, "made", family="own", doc={"rate": "how fast"}, above={"rate": 0}, minimum={"width": 1, "rate": 0},
        maximum={"width": 32}, choices={"ema": (True, False)}, tunable={"rate": Tunable(0.1, 2.0)},
    )  # fmt: skip
    assert entry == LossEntry(
        name="made",
        factory=Made,
        summary="Made up for tests",
        family="own",
        parameters=(
            Parameter("rate", float, 1, "how fast", above=0, minimum=0, tunable=Tunable(0.1, 2.0)),
            Parameter("width", int, 16, "", minimum=1, maximum=32),
            Parameter("sizes", list[int], [1, 2], ""),
            Parameter("ema", bool, False, "", choices=(True, False)),
        ),
    )
    assert entry.complete({"rate": 2})["rate"] == 2.0


def test_without_annotations_the_default_has_the_type() -> None:
    def make(setting, *, rate=1.0, steps=3, name="a", **more):  # type: ignore[no-untyped-def]
        pass

    found = ArchitectureEntry.of(make, "made", has_prior=False)
    assert [(each.name, each.type) for each in found.parameters] == [("rate", float), ("steps", int), ("name", str)]
    assert not found.has_prior


def test_what_is_given_goes_before_what_the_class_says() -> None:
    entry = MetricEntry.of(Made, "made", direction="lower", summary="mine", parameters=())
    assert (entry.summary, entry.parameters, entry.direction) == ("mine", (), "lower")


def test_the_summary_is_that_of_the_class_or_of_its_module() -> None:
    class Silent(Made):
        pass

    assert LossEntry.of(Silent, "silent").summary == (__doc__ or "").removesuffix(".")
    bound = LossEntry.of(partial(Made, width=8), "narrow")
    assert bound.summary == "Made up for tests" and bound.complete({})["width"] == 8


def _lacking(setting: object, *, rate: float) -> None: ...


def _odd(setting: object, *, rate: object = None) -> None: ...


@pytest.mark.parametrize(
    ("factory", "facts", "error", "message"),
    [
        ("package.module:Made", {}, TypeError, "made: of\\(\\) reads the class itself; with the address"),
        (_lacking, {}, ValueError, "made: the argument rate has no default"),
        (_odd, {}, ValueError, "parameter rate: its type must be"),
        (Made, {"minimum": {"rat": 0}}, ValueError, "made: minimum names 'rat', which is not one of its parameters"),
        (Made, {"minimum": {"width": 17}}, ValueError, "made: default of parameter width"),
        (Made, {"famly": "own"}, TypeError, "famly"),
    ],
)
def test_mistakes_are_named(
    factory: Callable[..., Any], facts: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        LossEntry.of(factory, "made", **facts)
