"""Strict YAML: what it reads, what it refuses and in which line, and how values are overridden."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml

from recbench.errors import SuiteError
from recbench.suite.document import MAXIMUM_BYTES, Document, dotted, dump, load, parse, parse_value


def read(text: str) -> Document:
    return parse(text, file="s.yaml")


def fatal(text: str) -> str:
    with pytest.raises(SuiteError) as caught:
        read(text)
    return str(caught.value)


# Values


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("-1E5", -1e5),
        ("1.5e3", 1500.0),
        (".inf", float("inf")),
        ("1", 1),
        ("true", True),
        ("null", None),
        ("1e-4x", "1e-4x"),
        ("'1e-4'", "1e-4"),
        ("{a: [1, {b: c}]}", {"a": [1, {"b": "c"}]}),
        ("", None),
    ],
)
def test_plain_values(text, value):
    data = read(text).data
    assert data == value
    assert type(data) is type(value)


@pytest.mark.parametrize("value", ["1e-4", "1E5", "0x1", "null", "yes", "2024-01-01", "", " a ", "∞ → ±", "a: b", "~"])
def test_what_is_dumped_reads_back_as_it_was(value):
    data = {"text": value, "list": [value, 1e-4, 1e300, float("inf"), True, None, 3]}
    assert read(dump(data)).data == data


def test_dump_repeats_rather_than_aliases():
    shared = [1, 2]
    assert "&" not in dump({"a": shared, "b": shared})


def test_aliases_are_unfolded_to_things_of_their_own():
    document = read("a: &x {b: 1}\nc: *x\n")
    document.override("c.b=2")
    assert document.data == {"a": {"b": 1}, "c": {"b": 2}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10),
        ("-08", -8),
        ("0o10", 8),
        ("0x1F", 31),
        ("+5", 5),
        (".001", 0.001),
        ("5.", 5.0),
        ("1E3", 1000.0),
        ("-.INF", -math.inf),
        ("True", True),
        ("FALSE", False),
        ("Null", None),
        ("~", None),
        # numbers, booleans and dates of YAML 1.1 only
        *(
            (text, text)
            for text in ("1:30", "1:30.5", "1_0", "1_0.5", "0b11", "+0x1", "1e", "yes", "No", "on", "OFF", "y")
        ),
        *((text, text) for text in ("2024-05-01", "2024-05-01 12:00:00", "=", "nULL", "tRUE")),
        ("!!int 010", 10),
        ("!!float 1", 1.0),
        ("!!str 010", "010"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text, value):
    document = read(f"a: {text}\n")
    assert repr(document.data["a"]) == repr(value)
    assert not document.problems
    document.override(f"b={text}")
    assert repr(document.data["b"]) == repr(value), "also with --set"


@pytest.mark.parametrize(
    "text", ["010", "08", "0o7", "1:30", "1_0", "yes", "Off", ".5", "1e3", "2024-05-01", "<<", "="]
)
def test_text_stays_text_for_readers_of_either_yaml(text):
    written = dump({"a": text})
    assert read(written).data == {"a": text}
    assert yaml.safe_load(written) == {"a": text}


# Refusals


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb: [", 2, "is not valid YAML"),
        ("a: 1\n\tb: 2", 2, "is not valid YAML"),
        ("a: 1\n---\nb: 1", 2, "is not valid YAML: but found another document"),
        ("a: *x", 1, "is not valid YAML: found undefined alias 'x'"),
        ("a: b: c", 1, "is not valid YAML"),
        ("a: %x", 1, "is not valid YAML"),
    ],
)
def test_malformed(text, line, message):
    assert fatal(text).startswith(f"s.yaml:{line}: {message}")


@pytest.mark.parametrize("text", ["a: \0", "a: \x07"])
def test_control_characters(text):
    message = fatal(text)
    assert "is not valid YAML" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2", "s.yaml:4: b.c: is given twice, first on line 3"),
        ("a: !!python/object/apply:os.system ['exit']", "s.yaml:1: a: has the tag 'tag:yaml.org,2002:python"),
        ("a:\n  - !!python/name:os.system x", "s.yaml:2: a[0]: has the tag"),
        ("a: !mine 1", "s.yaml:1: a: has the tag '!mine', which is not allowed"),
        ("a: !!set {x, y}", "s.yaml:1: a: has the tag"),
        ("a: !!binary aGk=", "s.yaml:1: a: has the tag"),
        ("!!python/object/new:os.system [x]", "s.yaml:1: has the tag"),
        ("!!python/name:os.system x: 1", "s.yaml:1: keys must be plain text"),
        ("? [1, 2]\n: 1", "s.yaml:1: keys must be plain text"),
        ("x: &x {b: 1}\na:\n  <<: *x", "s.yaml:3: a: merge keys (<<) are not allowed"),
        ("a: !!int 1_0", "s.yaml:1: a: '1_0' cannot be read as int"),
        ("a: !!bool yes", "s.yaml:1: a: 'yes' cannot be read as bool"),
        ("a: !!timestamp 2024-05-01", "s.yaml:1: a: has the tag"),
        ("a: !!int x", "s.yaml:1: a: 'x' cannot be read as int"),
        ("a: !!int ''", "s.yaml:1: a: '' cannot be read as int"),
        ("a: !!bool x", "s.yaml:1: a: 'x' cannot be read as bool"),
        ("a: !!float x", "s.yaml:1: a: 'x' cannot be read as float"),
        ("a: " + "9" * 30, "s.yaml:1: a: does not fit into a 64-bit integer"),
        ("a: " + "9" * 5000, "s.yaml:1: a: does not fit into a 64-bit integer"),
        ("a: 0x" + "f" * 5000, "s.yaml:1: a: does not fit into a 64-bit integer"),
        ('a: "\\ud800"', "s.yaml:1: a: is not valid text"),
        ('"\\ud800": 1', "s.yaml:1: keys must be plain text"),
    ],
)
def test_what_is_refused_while_the_rest_can_be_checked(text, problem):
    document = read(text + "\n")
    assert [str(found)[: len(problem)] for found in document.problems] == [problem]


def test_all_problems_are_kept():
    assert len(read("a: !x 1\nb: !x 2\na: 3\n").problems) == 3


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text", [BOMB, "a: &a [*a]", "a: &a {b: *a}", "[" * 60 + "]" * 60, "[" * 100_000, "{a: " * 5000 + "}" * 5000]
)
def test_bombs_do_not_go_off(text):
    message = fatal(text)
    assert "expands too far" in message or "nested too deeply" in message


# Files


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(SuiteError, match=r"nope\.yaml: cannot be read: No such file"):
        load(tmp_path / "nope.yaml")
    with pytest.raises(SuiteError, match="cannot be read: Is a directory"):
        load(tmp_path)
    with pytest.raises(SuiteError, match="cannot be read"):
        load(Path("a\0b"))


def test_a_file_that_is_not_text(tmp_path):
    file = tmp_path / "latin.yaml"
    file.write_bytes("a: 1\nb: café\n".encode("latin-1"))
    with pytest.raises(SuiteError, match=r"latin\.yaml:2: is not UTF-8 text"):
        load(file)


def test_a_file_that_is_too_large_is_not_read_to_its_end():
    with pytest.raises(SuiteError, match=f"is larger than {MAXIMUM_BYTES:,} bytes"):
        load(Path("/dev/zero"))


def test_a_byte_order_mark_is_accepted(tmp_path):
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    assert load(tmp_path / "bom.yaml").data == {"a": 1, "b": 2}


# Lines


def test_a_problem_names_the_line_of_the_nearest_thing_above_it():
    document = read("a: 1\nb:\n  - x\n  - c:\n      d: 1\n")
    lines = [document.problem(path, "").line for path in [("b", 1, "c", "d"), ("b", 1, "c", "nope"), ("b", 7), ("z",)]]
    assert lines == [5, 4, 2, 1]


def test_dotted():
    assert dotted(("losses", 2, "params", "C")) == "losses[2].params.C"
    assert dotted(()) == ""


# Overrides

SUITE = """\
training: {epochs: 1}
losses:
  - l2
  - {name: ssim, label: s}
  - name: wiener
    params: {C: 1}
empty:
"""


@pytest.mark.parametrize(
    ("assignment", "path", "value"),
    [
        ("training.epochs=2", ["training", "epochs"], 2),
        ("training.learning_rate=1e-3", ["training", "learning_rate"], 1e-3),
        (" training.epochs =2", ["training", "epochs"], 2),
        ("training={epochs: 3}", ["training"], {"epochs": 3}),
        ("new=[1, 2]", ["new"], [1, 2]),
        ("empty.a.b=x", ["empty", "a", "b"], "x"),
        ("fresh.a=x=y", ["fresh", "a"], "x=y"),
        ("training.epochs=", ["training", "epochs"], None),
        ("losses.0.kl_weight=2", ["losses", 0], {"name": "l2", "kl_weight": 2}),
        ("losses.l2.kl_weight=2", ["losses", 0], {"name": "l2", "kl_weight": 2}),
        ("losses.s.kl_weight=2", ["losses", 1, "kl_weight"], 2),
        ("losses.ssim.kl_weight=2", ["losses", 1, "kl_weight"], 2),
        ("losses.wiener.params.C=3", ["losses", 2, "params", "C"], 3),
        ("losses[2].params.C=3", ["losses", 2, "params", "C"], 3),
        ("losses.2={name: l1}", ["losses", 2], {"name": "l1"}),
    ],
)
def test_set(assignment, path, value):
    document = read(SUITE)
    document.override(assignment)
    found = document.data
    for step in path:
        found = found[step]
    assert found == value


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("training.epochs", "is not of the form KEY=VALUE"),
        ("", "is not of the form KEY=VALUE"),
        ("=1", "is not of the form KEY=VALUE"),
        ("training..epochs=1", "is not of the form KEY=VALUE"),
        (".x=1", "is not of the form KEY=VALUE"),
        ("training.epochs.x=1", "training.epochs.x: there is no 'training.epochs.x' to set"),
        ("losses.wienr.label=x", "losses.wienr.label: there is no 'losses.wienr' to set; did you mean 'wiener'?"),
        ("losses.9.label=x", "there is no 'losses.9' to set; choose from: l2, s, ssim, wiener"),
        ("losses[9].label=x", "there is no 'losses.9' to set"),
        ("losses.-1.label=x", "there is no 'losses.-1' to set"),
        ("training.epochs=[1", "training.epochs: is not valid YAML"),
        ("training.epochs=!!python/object/apply:os.getcwd []", "training.epochs: has the tag"),
        ("training={epochs: 1, epochs: 2}", "training: is given twice"),
    ],
)
def test_set_errors_name_set(assignment, message):
    document = read(SUITE)
    with pytest.raises(SuiteError) as caught:
        document.override(assignment)
    assert str(caught.value).startswith(f"--set {assignment}: {message}") or message in str(caught.value)
    assert str(caught.value).startswith(f"--set {assignment}: ")


def test_a_problem_with_what_was_set_names_set_and_not_the_file():
    document = read(SUITE)
    document.override("training.epochs=0")
    document.override("losses=[{name: x}]")
    assert document.problem(("training", "epochs"), "m").file == "--set training.epochs=0"
    assert document.problem(("losses", 0, "name"), "m").file == "--set losses=[{name: x}]"
    assert document.problem(("training", "batch_size"), "m").file == "s.yaml"


def test_the_last_set_counts_and_is_named():
    document = read(SUITE)
    document.override("training.epochs=0")
    document.override("training={epochs: -1}")
    assert document.data["training"] == {"epochs": -1}
    assert document.problem(("training", "epochs"), "m").file == "--set training={epochs: -1}"


def test_parse_value_is_for_single_values():
    assert parse_value("[1, 2]", "--x", "k") == [1, 2]
    with pytest.raises(SuiteError, match=r"^--x: k: has the tag"):
        parse_value("!!python/name:os.system", "--x", "k")
