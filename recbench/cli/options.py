"""Options that several commands share."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar

import click

from recbench.cli.text import echo
from recbench.contracts.entries import Entry
from recbench.errors import Problem, SuiteError, UserError, did_you_mean
from recbench.plugin.manager import Plugins, load_plugins
from recbench.suite.document import load as load_document
from recbench.suite.document import parse_value

CommandFunction = TypeVar("CommandFunction", bound=Callable[..., Any])


class FiniteRange(click.FloatRange):
    """A range of numbers; NaN, which compares with no bound, and infinity are in none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


_PLUGIN_OPTIONS = (
    click.option(
        "--plugin",
        "plugin_files",
        multiple=True,
        metavar="FILE",
        envvar="RECBENCH_PLUGINS",
        type=click.Path(),
        help="Load a plugin from a Python file. Repeatable. (Or RECBENCH_PLUGINS=FILE:FILE)",
    ),
    click.option(
        "--block",
        "blocked",
        multiple=True,
        metavar="DISTRIBUTION",
        envvar="RECBENCH_BLOCK",
        help="Do not import the plugins of a distribution, or a single plugin. Repeatable. "
        '(Or RECBENCH_BLOCK="NAME NAME")',
    ),
    click.option("--strict", is_flag=True, help="Fail if any installed plugin is broken."),
)


def plugin_options(command: CommandFunction) -> CommandFunction:
    """Add --plugin, --block and --strict, which are passed as ``plugin_files``, ``blocked`` and ``strict``."""
    return reduce(lambda inner, option: option(inner), reversed(_PLUGIN_OPTIONS), command)


def confidence_option(command: CommandFunction) -> CommandFunction:
    """Add --confidence of a board's statistics, which is passed as ``confidence``."""
    option = click.option(
        "--confidence",
        type=FiniteRange(min=0.5, max=1, max_open=True),
        default=0.95,
        show_default=True,
        help="Confidence of intervals, rank intervals and tiers.",
    )
    return option(command)


def output_option(command: CommandFunction) -> CommandFunction:
    """Add --output, which is passed as the path ``output``, None for stdout."""
    option = click.option(
        "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write to FILE instead of stdout."
    )
    return option(command)


def results_option(command: CommandFunction) -> CommandFunction:
    """Add --results, which is passed as the path ``results``."""
    option = click.option(
        "--results",
        default="results",
        show_default=True,
        metavar="DIR",
        envvar="RECBENCH_RESULTS",
        type=click.Path(path_type=Path),
        help="Folder of all results.",
    )
    return option(command)


def check_device(device: str) -> None:
    """Raise a UserError unless the value of --device has one of its forms."""
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", device):
        raise UserError(f"--device {device}: expected auto, cpu, cuda or cuda:N")


def load(plugin_files: tuple[str, ...], blocked: tuple[str, ...], strict: bool) -> Plugins:
    """Load plugins as the options say, and print a warning about each broken one to stderr."""
    plugins = load_plugins(plugin_files, blocked, strict=strict)
    for plugin in plugins.broken:
        echo(f"warning: plugin {plugin.provider} is not used: {plugin.reason} (see 'recbench plugins')", err=True)
    return plugins


def parameters(entry: Entry, option: str, assignments: tuple[str, ...]) -> dict[str, Any]:
    """Parse parameters of an entry given as ``KEY=VALUE``.

    Args:
        entry: the entry, which knows the types of its parameters.
        option: the option that they were given for, for errors.
        assignments: the values of the option.

    Raises:
        UserError: an assignment does not have that form, or its parameter is unknown, or its value is invalid.
    """
    params: dict[str, Any] = {}
    for assignment in assignments:
        source = f"{option} {assignment}"
        key, equals, text = assignment.partition("=")
        if not equals:
            raise UserError(f"{source}: expected KEY=VALUE")
        parameter = entry.parameter(key)
        if parameter is None:
            known = [parameter.name for parameter in entry.parameters]
            raise UserError(f"{source}: {entry.name} has no parameter '{key}'; {did_you_mean(key, known)}")
        try:
            params[key] = parameter.coerce(parse_value(text, source, key))
        except ValueError as error:
            raise UserError(f"{source}: {error}") from None
    return params


def read_profile(entry: Entry, file: Path) -> dict[str, Any]:
    """Read parameters of an entry from a YAML file.

    Raises:
        SuiteError: lists all problems of the file.
    """
    document = load_document(file)
    if not isinstance(document.data, dict):
        raise SuiteError([Problem(str(file), 1, "", f"expected a mapping of parameters of {entry.name}")])
    problems, params = list(document.problems), {}
    known = [parameter.name for parameter in entry.parameters if parameter.name != "profile"]
    for key, value in document.data.items():
        parameter = entry.parameter(key) if key in known else None
        try:
            if parameter is None:
                raise ValueError(f"{entry.name} has no parameter '{key}'; {did_you_mean(str(key), known)}")
            params[key] = parameter.coerce(value)
        except ValueError as error:
            problems.append(document.problem((key,), str(error)))
    if problems:
        raise SuiteError(problems)
    return params
