"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar

import click

from recbench.contracts.entries import Entry
from recbench.errors import Problem, SuiteError, UserError, did_you_mean
from recbench.plugin.manager import Plugins, load_plugins
from recbench.suite.document import load as load_document
from recbench.suite.document import parse_value

Command = TypeVar("Command", bound=Callable[..., Any])

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
        help="Do not import the plugins of a distribution, or one plugin by its name. Repeatable. "
        '(Or RECBENCH_BLOCK="NAME NAME")',
    ),
    click.option("--strict", is_flag=True, help="Fail if any installed plugin is broken."),
)


def plugin_options(command: Command) -> Command:
    """Add --plugin, --block and --strict; the command gets ``plugin_files``, ``blocked`` and ``strict``."""
    return reduce(lambda inner, option: option(inner), reversed(_PLUGIN_OPTIONS), command)


def results_option(command: Command) -> Command:
    """Add --results; the command gets ``results``, a path."""
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


def load(plugin_files: tuple[str, ...], blocked: tuple[str, ...], strict: bool) -> Plugins:
    """Load plugins as the options say; broken ones are named on stderr."""
    plugins = load_plugins(plugin_files, blocked, strict=strict)
    for plugin in plugins.broken:
        click.echo(f"warning: plugin {plugin.provider} is not used: {plugin.error} (see 'recbench plugins')", err=True)
    return plugins


def parameters(entry: Entry, option: str, assignments: tuple[str, ...]) -> dict[str, Any]:
    """Parameters of an entry that are given as ``KEY=VALUE``, in their types.

    Raises:
        UserError: one is not of that form, is unknown, or has a value that it cannot take.
    """
    params: dict[str, Any] = {}
    for assignment in assignments:
        source = f"{option} {assignment}"
        key, equals, text = assignment.partition("=")
        if not equals:
            raise UserError(f"{source}: is not of the form KEY=VALUE")
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
    """Parameters of an entry from a YAML file, in their types.

    Raises:
        SuiteError: with every problem of the file.
    """
    document = load_document(file)
    if not isinstance(document.data, dict):
        raise SuiteError([Problem(str(file), 1, "", f"is not a mapping of parameters of {entry.name}")])
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
