"""Entries, and the registry that finds them by name and makes what they name."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from recbench import ArchitectureEntry, DatasetEntry, ImageShape, LossEntry, MetricEntry, Parameter, Requirements
from recbench.errors import PluginError, UserError, did_you_mean, quoted
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registered, Registry

LOSS = """\
from functools import partial
from recbench import LossEntry, Parameter, hookimpl

class Loss:
    def __init__(self, **params):
        {body}

@hookimpl
def recbench_losses():
    yield LossEntry(
        name="mine", factory={factory}, summary="a loss", parameters=(Parameter("a", float, 1.5, "a number"),)
    )
"""


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry(load_plugins())


def from_file(path: Path, factory: str = 'f"{__name__}:Loss"', body: str = "pass") -> Registered:
    path.write_text(LOSS.format(factory=factory, body=body))
    return Registry(load_plugins([path])).get("losses", "mine")


# Names


def test_names_are_sorted(registry):
    assert registry.names("losses") == sorted(registry.names("losses"))
    assert [registered.entry.name for registered in registry.all("losses")] == registry.names("losses")


@pytest.mark.parametrize(("name", "tail"), [("wienr", "did you mean 'wiener'?"), ("../x", "choose from: barron, ")])
def test_an_unknown_name_gets_a_suggestion(registry, name, tail):
    with pytest.raises(PluginError) as caught:
        registry.get("losses", name)
    assert str(caught.value).startswith(f"there is no loss '{name}'; {tail}")


def test_did_you_mean_is_quick_with_absurd_names():
    assert did_you_mean("x" * 1_000_000, ["wiener"]) == "choose from: wiener"
    assert did_you_mean("x", []) == "there is none to choose from"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (None, "null"),
        ("a\nb", "'a\\nb'"),
        ([1, "x"], '[1, "x"]'),
        (object(), "a value of type object"),
        ("x" * 100, "'" + "x" * 56 + "…"),
    ],
)
def test_messages_quote_values_as_yaml_does(value, text):
    assert quoted(value) == text


def test_an_integer_with_too_many_digits_to_print_can_be_quoted():
    assert quoted(10**5000) == "a value of type int"


# What an entry may not be


@pytest.mark.parametrize("name", ["", "L2", "../l2", "l2/x", "l2 ", "2l", "l-2", "l2\n", None])
def test_bad_names(name):
    with pytest.raises(ValueError, match="lower case letters"):
        LossEntry(name=name, factory="a:A", summary="")


@pytest.mark.parametrize("factory", ["", "a", "a.b", "a:", ":A", "a:A.b", "../a:A", ".a:A", "a..b:A", "a b:A"])
def test_bad_factories(factory):
    with pytest.raises(ValueError, match=r"is not 'package\.module:Class'"):
        LossEntry(name="a", factory=factory, summary="")


@pytest.mark.parametrize(
    "wrong",
    [
        {"factory": None},
        {"factory": 3},
        {"summary": None},
        {"notes": 1},
        {"parameters": [Parameter("a", int, 1, "")]},
        {"parameters": Parameter("a", int, 1, "")},
        {"parameters": ("a",)},
        {"parameters": (Parameter("a", int, 1, ""), Parameter("a", int, 1, ""))},
        {"parameters": (Parameter("a", int, "1", ""),)},
        {"parameters": (Parameter("a", int, 0, "", minimum=1),)},
        {"requirements": 3},
        {"check": "x"},
        {"value_range": (1, 0)},
        {"value_range": (0, 1, 2)},
        {"value_range": (0, float("inf"))},
    ],
    ids=str,
)
def test_what_an_author_cannot_have_meant(wrong):
    with pytest.raises((TypeError, ValueError), match=r"^a: "):
        LossEntry(**{"name": "a", "factory": "a:A", "summary": "", **wrong})


def test_more_of_the_same():
    with pytest.raises(ValueError, match="'higher' or 'lower', got 'up'"):
        MetricEntry(name="a", factory="a:A", summary="", direction="up")
    for wrong in (math.nan, math.inf, True, None, "1"):
        with pytest.raises(
            ValueError, match="a: expected as direction the number that is best, 'higher' or 'lower', got"
        ):
            MetricEntry(name="a", factory="a:A", summary="", direction=wrong)
    assert MetricEntry(name="a", factory="a:A", summary="", direction=1).direction == 1
    with pytest.raises(ValueError, match="digits"):
        MetricEntry(name="a", factory="a:A", summary="", direction="lower", digits=-1)
    with pytest.raises(ValueError, match="value_range"):
        ArchitectureEntry(name="a", factory="a:A", summary="", value_range=(1, 1))
    with pytest.raises(ValueError, match="letters, digits"):
        Parameter("a b", int, 1, "")
    with pytest.raises(ValueError, match="letters, digits"):
        Parameter("lambda", float, 1.0, "")
    with pytest.raises(ValueError, match="its type must be"):
        Parameter("a", dict, {}, "")


# Parameters


@pytest.mark.parametrize(
    ("parameter", "given", "taken"),
    [
        (Parameter("a", float, 1.0, ""), 2, 2.0),
        (Parameter("a", float, 1.0, ""), float("inf"), float("inf")),
        (Parameter("a", float, 1.0, ""), "Infinity", float("inf")),
        (Parameter("a", list[float], [1.0], ""), [1, 2.5], [1.0, 2.5]),
        (Parameter("a", list[int], [1], ""), (1, 2), [1, 2]),
        (Parameter("a", bool, False, ""), True, True),
        (Parameter("a", str, "x", "", choices=("x", "y")), "y", "y"),
    ],
    ids=lambda value: None if isinstance(value, Parameter) else repr(value),
)
def test_values_that_a_parameter_takes(parameter, given, taken):
    assert parameter.coerce(given) == taken
    assert type(parameter.coerce(given)) is type(taken)


@pytest.mark.parametrize(
    ("parameter", "given", "error"),
    [
        (Parameter("a", int, 1, ""), True, "true is not of type int"),
        (Parameter("a", int, 1, ""), 1.0, "1.0 is not of type int"),
        (Parameter("a", int, 1, ""), "1", "'1' is not of type int"),
        (Parameter("a", int, 1, ""), None, "null is not of type int"),
        (Parameter("a", float, 1.0, ""), False, "false is not of type float"),
        (Parameter("a", float, 1.0, ""), float("nan"), "NaN is not"),
        (Parameter("a", float, 1.0, ""), "nan", "'nan' is not of type float"),
        (Parameter("a", bool, True, ""), 1, "1 is not of type bool"),
        (Parameter("a", str, "x", ""), 1, "1 is not of type str"),
        (Parameter("a", str, "x", "", choices=("x",)), "y", "'y' is not one of x"),
        (Parameter("a", list[int], [1], ""), [], "is not a non-empty list"),
        (Parameter("a", list[int], [1], ""), 1, "is not a non-empty list"),
        (Parameter("a", list[int], [1], ""), [1, True], "true is not of type list"),
        (Parameter("a", list[int], [1], "", minimum=1), [1, 0], "0 is below the minimum 1"),
        (Parameter("a", float, 1.0, "", above=0), 0, "0.0 is not above 0"),
        (Parameter("a", float, 1.0, "", maximum=1), 2, "2.0 is above the maximum 1"),
    ],
    ids=lambda value: None if isinstance(value, Parameter) else repr(value),
)
def test_values_that_a_parameter_refuses(parameter, given, error):
    with pytest.raises(ValueError, match=error.replace(".", r"\.")):
        parameter.coerce(given)


def test_requirements_say_why_not():
    needs = Requirements(channels=(1, 3), minimum_size=16, maximum_size=64, multiple_of=8)
    assert needs.problems(ImageShape(3, 32, 64)) == []
    assert needs.problems(ImageShape(2, 8, 100)) == [
        "takes images with 1 or 3 channels, not 2",
        "needs at least 16 pixels a side, not 8x100",
        "takes at most 64 pixels a side, not 8x100",
        "needs sides that are multiples of 8, not 8x100",
    ]


# Making things


def test_create_passes_all_parameters_by_keyword_and_in_their_types(tmp_path):
    registered = from_file(tmp_path / "p.py", body="self.params = params")
    assert registered.create({}).params == {"a": 1.5}
    assert registered.create({"a": 2}).params == {"a": 2.0}
    assert registered.create({"a": "Infinity"}).params == {"a": float("inf")}  # as records hold it


@pytest.mark.parametrize(
    ("factory", "body", "error"),
    [
        ("'no_such_module:Loss'", "pass", "ModuleNotFoundError"),
        ('f"{__name__}:Lost"', "pass", "AttributeError"),
        ('f"{__name__}:Loss"', "raise ZeroDivisionError('oh')", "ZeroDivisionError: oh"),
        ("lambda **params: 1 / 0", "pass", "ZeroDivisionError"),
    ],
)
def test_a_factory_that_fails_names_its_plugin(tmp_path, factory, body, error):
    registered = from_file(tmp_path / "p.py", factory, body)
    with pytest.raises(PluginError) as caught:
        registered.create({})
    assert "mine of the plugin file" in str(caught.value)
    assert error in str(caught.value)


def test_what_a_factory_tells_the_user_goes_through(tmp_path):
    body = "from recbench.errors import UserError; raise UserError('download it first')"
    with pytest.raises(UserError, match=r"^download it first$"):
        from_file(tmp_path / "p.py", body=body).create({})


# The digest of the source, from which job ids are made


FACTORIES = ['f"{__name__}:Loss"', "Loss", "partial(Loss)"]


@pytest.mark.parametrize("factory", FACTORIES)
def test_code_follows_the_source_of_a_file(tmp_path, factory):
    before = from_file(tmp_path / "p.py", factory).code
    assert from_file(tmp_path / "p.py", factory).code == before
    assert from_file(tmp_path / "p.py", factory, body="self.x = 1").code != before


def test_code_does_not_depend_on_the_place_or_line_ends(tmp_path):
    (tmp_path / "sub").mkdir()
    first, second = tmp_path / "p.py", tmp_path / "sub" / "p.py"
    before = from_file(first)
    second.write_bytes(first.read_bytes().replace(b"\n", b"\r\n"))
    assert Registry(load_plugins([second])).get("losses", "mine").code == before.code


@pytest.mark.parametrize("module", ["no_such_module", "no_such_package.module", "sys"])
def test_code_without_a_source_is_an_error(tmp_path, module):
    with pytest.raises(PluginError, match=module.partition(".")[0]):
        _ = from_file(tmp_path / "p.py", f"'{module}:Loss'").code


@pytest.mark.parametrize(
    ("locations", "error"),
    [
        (("root", "place"), "d: locations names 'place', which is not one of its parameters"),
        ("root", "must be a tuple"),
    ],
)
def test_locations_are_parameters(locations, error):
    parameters = (Parameter("root", str, "data", "the folder"),)
    with pytest.raises((TypeError, ValueError), match=error):
        DatasetEntry(name="d", factory="p:D", summary="", parameters=parameters, locations=locations)
