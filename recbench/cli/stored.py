"""Lookup of stored suites and jobs by name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from recbench.cli.text import echo
from recbench.errors import Problem, SuiteError, UserError, did_you_mean, quoted
from recbench.plan.model import SUITE_NAME
from recbench.plugin.manager import FILE, Plugins
from recbench.plugin.registry import Registry
from recbench.store.store import Store
from recbench.suite.document import load as load_document
from recbench.suite.suite import Suite, load_suite

_LOOKED_AT = 50
"""The number of records that are looked at for the plugin files that they were made with."""


def stored_suite(suite: str | None, results: Path) -> Store:
    """Return the store of a suite, given by name or file; by default that of the suite that was run last.

    Raises:
        UserError: the suite has never been run, or the name is invalid.
    """
    store = Store(results / (_name(suite) if suite else _latest(results)))
    if suite and not os.path.lexists(store.plan_file):
        ran = [path.parent.name for path in _plans(results)]
        raise UserError(f"no results of the suite '{_name(suite)}' in {results}; {did_you_mean(suite, ran)}")
    return store


def _plans(results: Path) -> list[Path]:
    return [path for path in results.glob("*/plan.json") if path.is_file()]


def _name(suite: str) -> str:
    if suite.endswith((".yaml", ".yml")):
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


def load_stored_suite(
    file: Path, results: Path, registry: Registry, overrides: Sequence[str] = (), **limits: Any
) -> Suite:
    """Load a suite file; see :func:`recbench.suite.suite.load_suite`.

    Raises:
        SuiteError: the suite is invalid. Plugin files that its earlier jobs were run with, and that are not loaded, are
            among the problems.
    """
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
