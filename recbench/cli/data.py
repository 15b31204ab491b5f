"""``recbench data``: list datasets, and fetch and decode them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from recbench.cli.completion import complete_names
from recbench.cli.options import load, parameters, plugin_options
from recbench.cli.text import echo, say
from recbench.cli.weights import shown_size
from recbench.contracts.entries import DatasetEntry, RawFile
from recbench.data import cache as images
from recbench.data import downloads
from recbench.data.cache import Prepared, default_cache
from recbench.data.downloads import DownloadError
from recbench.data.unpacking import unpack
from recbench.errors import PluginError, UserError
from recbench.plan.components import component
from recbench.plan.model import ComponentSpec
from recbench.plugin.registry import Registered, Registry

_cache = click.option("--cache", type=click.Path(path_type=Path), metavar="DIR", help="Folder for decoded images.")


@click.group("data")
def data_command() -> None:
    """List datasets, or fetch and decode one."""


@data_command.command("list")
@_cache
@plugin_options
def list_command(cache: Path | None, plugin_files: tuple[str, ...], blocked: tuple[str, ...], strict: bool) -> None:
    """List all datasets with their licences, files and states.

    The state says whether a dataset has been fetched and decoded. Files are looked up in the folder given by the
    default parameters, decoded images in the cache with any parameters.
    """
    registry = Registry(load(plugin_files, blocked, strict))
    for registered in registry.all("datasets"):
        entry = registered.entry
        assert isinstance(entry, DatasetEntry)
        say(f"{entry.name}  {entry.summary}")
        facts = [("licence", entry.licence)]
        part = _part(registered, {})
        prepared = None
        try:
            prepared = images.find(part, registry, cache or default_cache())
        except UserError as error:
            facts.append(("missing", str(error).splitlines()[0]))
            size = sum(file.size for file in entry.files)
            if size:
                facts.append(("to fetch", f"{shown_size(size)}: recbench data prepare {entry.name}"))
            else:
                facts.append(("to get", entry.obtain))
        else:
            facts.append(("here", part.arguments.get("root", "needs no files")))
            facts.append(("decoded", _decoded(prepared) if prepared else "not yet"))
        others = [found for found in images.find_all(entry.name, cache or default_cache()) if found != prepared]
        facts += [("decoded", f"{_unlike(found, part)}: {_decoded(found)}") for found in others]
        for label, text in facts:
            if text:
                say(f"  {label:<10}{text}")


@data_command.command("prepare")
@click.argument("name", shell_complete=complete_names("datasets"))
@click.option(
    "--root",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder of its files (arrays: or a file), into which files are fetched. Same as -p root=DIR.",
)
@click.option("-p", "assignments", multiple=True, metavar="KEY=VALUE", help="Parameter. Repeatable.")
@_cache
@plugin_options
def prepare_command(
    name: str,
    root: Path | None,
    assignments: tuple[str, ...],
    cache: Path | None,
    plugin_files: tuple[str, ...],
    blocked: tuple[str, ...],
    strict: bool,
) -> None:
    """Decode the dataset NAME, fetching its files if necessary.

    The size and checksum of each file are verified. Interrupted downloads are resumed. Decoded images are
    cached for all suites with the same dataset and parameters.
    """
    from recbench.cli.terminal import count_bar

    registry = Registry(load(plugin_files, blocked, strict))
    registered = registry.get("datasets", name)
    params = parameters(registered.entry, "-p", assignments)
    if root is not None:
        if registered.entry.parameter("root") is None:
            raise UserError(f"--root {root}: the dataset {name} does not read files; leave out --root")
        if "root" in params:
            raise UserError("--root and -p root=… set the same parameter; give only one of them")
        params["root"] = str(root)
    part = _part(registered, params)
    cache = cache or default_cache()
    _provide(part, registry, cache)
    with count_bar(f"decoding {name}") as progress:
        prepared = images.prepare(part, registry, cache, progress)
    if prepared.replaced:
        echo(prepared.replaced, err=True)
    if prepared.left_out:
        echo(f"left out: {prepared.left_out}", err=True)
    say(f"{name}: {_counts(prepared)}\nin {prepared.folder}\nfingerprint {prepared.fingerprint}")


def _part(registered: Registered, params: dict[str, Any]) -> ComponentSpec:
    """Return the dataset as a suite with these parameters specifies it, so that both share a cache."""
    return component(registered, registered.entry.complete(params))


def _counts(prepared: Prepared) -> str:
    return ", ".join(f"{count} {split}" for split, count in prepared.counts.items()) + " images"


def _decoded(prepared: Prepared) -> str:
    return f"{_counts(prepared)}, {shown_size(prepared.size)}, {prepared.folder}"


def _unlike(prepared: Prepared, part: ComponentSpec) -> str:
    """Describe how a dataset in the cache differs from the current one."""
    here = part.arguments
    differing = [f"{name}={value}" for name, value in prepared.spec.arguments.items() if value != here.get(name)]
    return f"with {', '.join(differing)}" if differing else "from other files or by other code"


def _provide(part: ComponentSpec, registry: Registry, cache: Path) -> None:
    """Fetch the files of the dataset if they are missing.

    Nothing is fetched into a folder with other files, which may be the user's own.

    Raises:
        UserError: the files are missing and cannot be fetched, or differ from the published ones.
    """
    entry = registry.get("datasets", part.name).entry
    assert isinstance(entry, DatasetEntry)
    try:
        decoded = images.find(part, registry, cache)
    except PluginError:  # fetching would not help
        raise
    except UserError as error:
        folder = Path(part.arguments.get("root", "")).expanduser()
        if not entry.files or folder.is_file():
            raise UserError(f"{error}\n{entry.obtain}".strip()) from None
        others = _other_files(folder, entry.files)
        if others:
            raise UserError(
                f"{error}\nnothing was fetched into {folder}, since it has other files ({', '.join(others[:3])}"
                f"{', …' if len(others) > 3 else ''}); choose another folder with --root"
            ) from None
        _fetch(entry, folder)
    else:
        for file in entry.files if decoded is None else ():
            place = Path(part.arguments["root"]).expanduser() / file.file
            if place.is_file() and not file.members:
                downloads.fetch(file, place.parent)  # only verifies the existing file


def _other_files(folder: Path, files: tuple[RawFile, ...]) -> list[str]:
    """Return the names of other files in a folder, except hidden ones."""
    names = {file.file for file in files}
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.name not in names and not path.name.startswith("."))


def _fetch(entry: DatasetEntry, folder: Path) -> None:
    from recbench.cli.terminal import download_bar

    if entry.licence:
        echo(f"licence of {entry.name}: {entry.licence}", err=True)
    for file in entry.files:
        echo(f"{file.file}, {shown_size(file.size)}, from {file.address}", err=True)
        try:
            with download_bar(file.file) as progress:
                place = downloads.fetch(file, folder, progress)
            if file.members:
                with download_bar(f"unpacking {file.file}") as progress:
                    unpack(place, folder, file.members, progress)
        except DownloadError as error:
            raise DownloadError(f"{error}\n{entry.obtain}".strip()) from None
