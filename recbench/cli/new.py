"""``recbench new``."""

from __future__ import annotations

from pathlib import Path

import click

from recbench.cli.options import load, plugin_options
from recbench.cli.text import echo
from recbench.errors import UserError
from recbench.plugin.registry import Registry


@click.command("new")
@click.argument("kind", type=click.Choice(["loss", "metric", "architecture", "dataset"]))
@click.argument("name")
@click.option("--distribution", is_flag=True, help="Write a whole distribution, with tests, instead of a single file.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    metavar="DIR",
    help="Where to write it.  [default: the working folder]",
)
@plugin_options
def new_command(
    kind: str,
    name: str,
    distribution: bool,
    folder: Path,
    plugin_files: tuple[str, ...],
    blocked: tuple[str, ...],
    strict: bool,
) -> None:
    """Write a working plugin to start from: NAME.py, with a loss, metric, architecture or dataset called NAME.

    What it writes passes 'recbench check' and can be used in a suite as it is. Nothing is ever overwritten.
    """
    from recbench.scaffold import NewPlugin, write_new

    plugin = NewPlugin(kind, name)
    taken = Registry(load(plugin_files, blocked, strict)).find(plugin.plural, name)
    if taken is not None:
        raise UserError(f"there is a {kind} '{name}' already, of {taken.plugin.provider}; choose another name")
    files = plugin.whole_distribution(folder) if distribution else plugin.single_file(folder)
    write_new(files)
    for path in files:
        echo(path)
    if distribution:
        root = folder / plugin.distribution
        echo(f"next: pip install -e {root}, then recbench check {name}", err=True)
    else:
        file = next(iter(files))
        echo(f"next: recbench check {file}, then recbench run SUITE --plugin {file}", err=True)
