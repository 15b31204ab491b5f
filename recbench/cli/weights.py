"""``recbench weights``: files of pretrained weights that losses and metrics need."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from recbench.cli.options import load, plugin_options
from recbench.cli.text import echo, say
from recbench.contracts.entries import Weights
from recbench.data import weights
from recbench.data.downloads import is_whole
from recbench.data.weights import WeightsError
from recbench.errors import UserError, did_you_mean, quoted
from recbench.plugin.manager import KINDS
from recbench.plugin.registry import SINGULAR, Registry

Users = dict[Weights, list[str]]


@click.group("weights")
def weights_command() -> None:
    """List, fetch or verify files of pretrained weights that losses and metrics need."""


@weights_command.command("list")
@plugin_options
def list_command(plugin_files: tuple[str, ...], blocked: tuple[str, ...], strict: bool) -> None:
    """List every file that an entry may need, and its location."""
    for file, users in _files(plugin_files, blocked, strict).items():
        place = weights.find(file)
        echo(f"{file.file}  {shown_size(file.size)}  {place or 'missing'}")
        facts = [("for", ", ".join(users)), ("by", file.citation), ("licence", file.licence), ("from", file.address)]
        facts += [("instead", file.alternative)] if place is None else []
        for label, text in facts:
            if text:
                say(f"  {label:<9}{text}")


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the entries that need weights, and the files of these, that begin like this."""
    users = _files((), (), strict=False)
    names = sorted({entry.split()[1] for entries in users.values() for entry in entries})
    return [CompletionItem(name) for name in [*names, *(file.file for file in users)] if name.startswith(incomplete)]


@weights_command.command("fetch")
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=_complete)
@click.option("--yes", is_flag=True, help="Fetch all that is missing without asking.")
@click.option(
    "--to",
    "folder",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to put them into instead of torch hub's cache.",
)
@plugin_options
def fetch_command(
    names: tuple[str, ...],
    yes: bool,
    folder: Path | None,
    plugin_files: tuple[str, ...],
    blocked: tuple[str, ...],
    strict: bool,
) -> None:
    """Fetch weights; the SHA-256 of each file is verified.

    NAME is a file, with or without its suffix, or the loss or metric that needs it; without NAME, all that are missing
    are meant.
    """
    from recbench.cli.terminal import download_bar

    users = _files(plugin_files, blocked, strict)
    chosen = _named(users, names) if names else _missing(users, yes)
    failed = []
    for file in chosen:
        echo(f"{file.file}, {shown_size(file.size)}, from {file.address}", err=True)
        try:
            with download_bar(file.file) as progress:
                place = weights.fetch(file, folder, progress)
        except WeightsError as error:  # others may still be available
            echo(f"{file.file}: {error}", err=True)
            failed.append(file.file)
        else:
            echo(str(place))
    if folder is not None and not _searched(folder):
        echo(f"to use them, set {weights.VARIABLE}={folder}", err=True)
    if failed:
        raise UserError(f"not fetched: {', '.join(failed)}")


def _named(users: Users, names: tuple[str, ...]) -> list[Weights]:
    """Return the files of these names, of these names without their suffix, or that entries of these names need.

    Raises:
        UserError: a name is none of these.
    """
    found: dict[Weights, None] = {}
    for name in names:
        meant = [file for file in users if name in (file.file, Path(file.file).stem)]
        meant = meant or [file for file, entries in users.items() if name in (entry.split()[1] for entry in entries)]
        if not meant:
            known = [file.file for file in users]
            known += sorted({entry.split()[1] for entries in users.values() for entry in entries})
            raise UserError(f"no entry needs weights {quoted(name)}; {did_you_mean(name, known)}")
        found.update(dict.fromkeys(meant))
    return list(found)


def _missing(users: Users, yes: bool) -> list[Weights]:
    """Return the files that are missing, after showing their sizes and asking."""
    absent = [file for file in users if weights.find(file) is None]
    if not absent:
        say("no weights are missing", err=True)
        return []
    for file in absent:
        say(f"{file.file}  {shown_size(file.size)}  for {', '.join(users[file])}", err=True)
    count = "1 file is" if len(absent) == 1 else f"{len(absent)} files are"
    say(f"{count} missing, {shown_size(sum(file.size for file in absent))}", err=True)
    if yes:
        return absent
    if not sys.stdin.isatty():
        raise UserError("nothing was fetched: give the names of those that you need, or --yes for all")
    return absent if click.confirm("fetch all of them?", err=True) else []


@weights_command.command("verify")
@plugin_options
def verify_command(plugin_files: tuple[str, ...], blocked: tuple[str, ...], strict: bool) -> None:
    """Check the SHA-256 of every copy found; exit with 1 if one is damaged."""
    damaged = False
    for file in _files(plugin_files, blocked, strict):
        for place in dict.fromkeys(weights.candidates(file)):
            whole = is_whole(place, file)
            damaged |= not whole
            echo(f"{'intact' if whole else 'damaged':<8} {place}")
    if damaged:
        echo("damaged files are never used; delete them and run 'recbench weights fetch'", err=True)
        sys.exit(1)


def _files(plugin_files: tuple[str, ...], blocked: tuple[str, ...], strict: bool) -> Users:
    """Return every file that an entry may need with the kinds and names of these entries, sorted by file name."""
    registry = Registry(load(plugin_files, blocked, strict))
    users: Users = {}
    for kind in KINDS:
        for registered in registry.all(kind):
            for file in registered.entry.weights:
                users.setdefault(file, []).append(f"{SINGULAR[kind]} {registered.entry.name}")
    return dict(sorted(users.items(), key=lambda item: item[0].file))


def _searched(folder: Path) -> bool:
    """Return whether weights are looked up in that folder."""
    roots = [Path(root).expanduser() for root in os.environ.get(weights.VARIABLE, "").split(os.pathsep) if root]
    here = folder.resolve()
    return here == weights.hub_folder().resolve() or any(here.is_relative_to(root.resolve()) for root in roots)


def shown_size(count: int) -> str:
    """Return bytes in decimal units, such as ``1.5 MB``."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
