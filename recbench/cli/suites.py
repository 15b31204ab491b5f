"""``recbench suites``: the suites that recbench ships."""

from __future__ import annotations

from pathlib import Path

import click

from recbench.cli.completion import complete_shipped_suites
from recbench.cli.options import load, plugin_options
from recbench.cli.text import say
from recbench.errors import SuiteError, UserError
from recbench.files import write_atomically
from recbench.plugin.registry import Registry
from recbench.shipped import boards, find_suite, suites
from recbench.suite.outline import outline


@click.group("suites", invoke_without_command=True)
@plugin_options
@click.pass_context
def suites_command(ctx: click.Context, plugin_files: tuple[str, ...], blocked: tuple[str, ...], strict: bool) -> None:
    """List the suites that recbench ships: what they compare, what they need, and whether a reference board is shipped.

    'recbench run NAME' runs one from any folder; 'recbench suites copy NAME' gives a file to edit.
    """
    if ctx.invoked_subcommand is not None:
        return
    from recbench.cli.terminal import print_table

    registry = Registry(load(plugin_files, blocked, strict))
    shipped = boards()
    rows = [(name, *_facts(file, registry), "yes" if name in shipped else "–") for name, file in suites().items()]
    print_table("", ("suite", "description", "jobs", "images", "lacks", "board"), rows)


def _facts(file: Path, registry: Registry) -> tuple[str, str, str, str]:
    """Return description, number of jobs, data sets, and what is missing on this machine to run the suite."""
    try:
        found = outline(file, registry)
    except SuiteError as error:
        return "–", "–", "–", str(error.problems[0].message)
    return found.description, f"{found.jobs:,}", ", ".join(found.datasets), ", ".join(found.problems) or "–"


@suites_command.command("copy")
@click.argument("name", shell_complete=complete_shipped_suites)
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="New file; NAME.yaml by default.")
def copy_command(name: str, output: Path | None) -> None:
    """Copy the shipped suite NAME into a new file, to be edited; a file that exists is never replaced."""
    file = output or Path(f"{name}.yaml")
    content = find_suite(name).read_bytes()
    if not file.parent.is_dir():
        raise UserError(f"{file} cannot be written: the folder {file.parent} does not exist")
    try:
        write_atomically(file, content, new=True)
    except FileExistsError:
        raise UserError(f"{file} exists already; give another name with -o FILE") from None
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}") from None
    say(f"{file}: a copy of {name}; its key 'name' says which folder of results it uses")
