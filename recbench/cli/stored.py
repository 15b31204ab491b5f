"""Lookup of stored suites and jobs by name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from recbench.cli.text import echo
from recbench.data.cache import default_cache
from recbench.errors import Problem, SuiteError, UserError, did_you_mean, quoted
from recbench.plan.model import SUITE_NAME
from recbench.plugin.manager import FILE, Plugins
from recbench.plugin.registry import Registry
from recbench.shipped import boards, find_board, suites
from recbench.store.remembered import remembered_files
from recbench.store.store import Store
from recbench.suite.document import load as load_document
from recbench.suite.suite import Suite, load_suite

REFERENCE = "reference:"
"""The prefix of a suite's name that means its reference board, even where there are results of the suite."""
_YAML = (".yaml", ".yml")
_LOOKED_AT = 50
"""The number of records that are looked at for the plugin files that they were made with."""


def stored_suite(suite: str | None, results: Path) -> Store:
    """Return the store of a suite, given by name or file; by default that of the suite that was run last.

    Raises:
        UserError: the suite has never been run, or the name is invalid.
    """
    store = Store(results / (_name(suite) if suite else _latest(results)))
    if suite and not os.path.lexists(store.plan_file):
        name, ran = _name(suite), [path.parent.name for path in _plans(results)]
        if name in boards():
            raise UserError(
                f"no results of the suite '{name}' in {results}: its reference board has no models, and can "
                "only be read (by leaderboard, report, figure, curves, compare, across and status)"
            )
        raise UserError(f"no results of the suite '{name}' in {results}; {did_you_mean(suite, ran)}")
    return store


def shown_suite(suite: str | None, results: Path, cache: Path | None = None) -> Store:
    """Return the store of a suite to be read: the results in ``results`` if there are any, otherwise its reference
    board, unpacked in the cache folder; where a board is shipped, a line on stderr says which is shown.

    Args:
        suite: name or file, or ``reference:NAME`` for the reference board; by default the suite that was run last.
        results: the folder of all results.
        cache: the cache folder.

    Raises:
        UserError: there is neither, or the name is invalid, or the reference board is damaged.
    """
    if suite and suite.startswith(REFERENCE):
        return find_board(suite.removeprefix(REFERENCE)).store(cache or default_cache())
    shipped = boards()
    if suite is None:
        if not _plans(results) and shipped:
            listed = ", ".join(shipped)
            raise UserError(
                f"no results in {results}; 'recbench run SUITE' creates some, and recbench ships boards of {listed}"
            )
        return stored_suite(None, results)
    name = _name(suite)
    if os.path.lexists(results / name / "plan.json"):
        if name in shipped:
            echo(f"showing {results / name}; '{REFERENCE}{name}' is the reference board", err=True)
        return Store(results / name)
    if name in shipped:
        echo(f"showing the reference board of {name} that recbench ships; there are no results in {results}", err=True)
        return shipped[name].store(cache or default_cache())
    ran = [path.parent.name for path in _plans(results)]
    raise UserError(f"no results of the suite '{name}' in {results}; {did_you_mean(name, [*ran, *shipped])}")


def is_shipped(store: Store, results: Path) -> bool:
    """Return whether a store is that of a reference board, not below the folder of all results."""
    return store.root.parent.resolve() != results.resolve()


def suite_file(suite: Path) -> Path:
    """Return the file of a suite that is to be run: of this path, or of this name.

    A name is looked for as a file of the working folder, with ``.yaml`` or without, then among the shipped suites.

    Raises:
        UserError: there is no such file; the text names a shipped suite of this or a similar name.
    """
    name, shipped = str(suite), suites()
    if os.path.isfile(suite):  # noqa: PTH113 - False for names that no file can have
        return suite
    if suite.suffix not in _YAML and suite.name == name:
        here = Path(f"{name}.yaml")
        if os.path.isfile(here):  # noqa: PTH113
            if name in shipped:
                echo(f"using {here} of this folder, not the suite {name} that recbench ships", err=True)
            return here
        if name in shipped:
            return shipped[name]
        if not os.path.lexists(suite):
            known = did_you_mean(name, list(shipped))
            raise UserError(
                f"there is no file {quoted(name)} or {quoted(str(here))}, and no such shipped suite; {known}"
            )
    if suite.stem in shipped and not os.path.lexists(suite):
        raise UserError(
            f"there is no file {name}; recbench ships a suite of this name: give {suite.stem} without a path"
        )
    return suite


def _plans(results: Path) -> list[Path]:
    return [path for path in results.glob("*/plan.json") if path.is_file()]


def _name(suite: str) -> str:
    if suite.endswith(_YAML):
        data = load_document(Path(suite)).data
        named = data.get("name") if isinstance(data, dict) else None
        suite = named if isinstance(named, str) else Path(suite).stem
    if not SUITE_NAME.fullmatch(suite):
        raise UserError(f"{suite!r} is not the name of a suite: expected letters, digits, '.', '_' and '-' only")
    return suite


def _latest(results: Path) -> str:
    plans = sorted(_plans(results), key=lambda path: path.lstat().st_mtime_ns)
    if not plans:
        raise UserError(f"no results in {results}; 'recbench run SUITE' creates some")
    names = [path.parent.name for path in plans]
    if len(names) > 1:
        echo(f"showing {names[-1]}, which was run last; other suites: {', '.join(sorted(names[:-1]))}", err=True)
    return names[-1]


def unloaded_files(store: Store, plugins: Plugins) -> str:
    """Return a sentence that names the plugin files that a suite's records were made with and that are not loaded;
    empty if there is none."""
    needed: set[str] = set()
    try:
        known = [job.id for job in store.read_plan().jobs]
    except (UserError, OSError, ValueError):  # it was never run, or its plan cannot be read, which others tell
        return ""
    for job_id in known[:_LOOKED_AT]:
        with suppress(OSError, ValueError):
            record = store.read(job_id)
            found = record.provenance.plugins.items() if record is not None else ()
            needed |= {name for name, distribution in found if distribution == FILE}
    lacking = sorted(needed - {plugin.name for plugin in plugins.found})
    if not lacking:
        return ""
    files = "file" if len(lacking) == 1 else "files"
    options = " ".join(f"--plugin {name}" for name in lacking)
    return (
        f"earlier jobs of {store.root.name} were run with the plugin {files} {', '.join(lacking)}, not loaded now: "
        f"give {options} (with its folder)"
    )


def tell_unloaded_files(store: Store, plugins: Plugins) -> None:
    """Print a note about plugin files that a suite's records were made with and that are not loaded."""
    if note := unloaded_files(store, plugins):
        echo(f"note: {note}", err=True)


def with_remembered(store: Store, plugin_files: tuple[str, ...]) -> tuple[str, ...]:
    """Return the plugin files that were given; without any, those that the suite was run with, as far as they are still
    there."""
    if plugin_files:
        return plugin_files
    known = remembered_files(store)
    if known:
        echo(f"loading {', '.join(known)}, as {store.root.name} was run with", err=True)
    return known


def load_stored_suite(
    file: Path, results: Path, registry: Registry, overrides: Sequence[str] = (), **limits: Any
) -> Suite:
    """Load a suite, given by file or name; see :func:`suite_file` and :func:`recbench.suite.suite.load_suite`.

    Raises:
        UserError: there is no such suite.
        SuiteError: the suite is invalid. Plugin files that its earlier jobs were run with, and that are not loaded, are
            among the problems.
    """
    file = suite_file(file)
    try:
        return load_suite(file, registry, overrides, **limits)
    except SuiteError as error:
        if not any("there is no " in problem.message for problem in error.problems):
            raise
        try:
            note = unloaded_files(Store(results / _name(str(file))), registry.plugins)
        except UserError:
            note = ""
        raise SuiteError([*error.problems, *([Problem(str(file), 0, "", note)] if note else [])]) from None


def chosen_job(name: str, known: Sequence[str]) -> str:
    """Return the id of the job whose id starts with ``name``.

    Raises:
        UserError: no job matches, or several do.
    """
    found = [job_id for job_id in known if job_id.startswith(name.lower())] if name else []
    if len(found) == 1:
        return found[0]
    if found:
        some = ", ".join(found[:5]) + (" …" if len(found) > 5 else "")
        raise UserError(f"{quoted(name)} is the beginning of {len(found)} jobs: {some}")
    raise UserError(f"unknown job {quoted(name)}; 'recbench run SUITE --dry-run' lists a suite's jobs")
