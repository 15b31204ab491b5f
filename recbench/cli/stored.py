"""Lookup of stored suites and jobs by name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import click

from recbench.errors import UserError, did_you_mean, quoted
from recbench.plan.model import SUITE_NAME
from recbench.store.store import Store
from recbench.suite.document import load as load_document


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
        click.echo(f"showing {names[-1]}, which was run last; other suites: {', '.join(sorted(names[:-1]))}", err=True)
    return names[-1]


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
