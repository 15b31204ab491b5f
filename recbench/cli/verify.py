"""``recbench verify``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from recbench.cli.completion import complete_suites_and_jobs
from recbench.cli.options import FiniteRange, check_device, load, plugin_options, results_option
from recbench.cli.stored import stored_suite, tell_unloaded_files, with_remembered
from recbench.cli.terminal import laid_out
from recbench.cli.text import echo, say
from recbench.data.cache import default_cache
from recbench.errors import RecbenchError, UserError
from recbench.plugin.registry import Registry
from recbench.store.store import Store

if TYPE_CHECKING:
    from recbench.job.verification import Verification

_ID = re.compile(r"[0-9a-f]{4,16}")


@click.command("verify")
@click.argument("job", metavar="JOB|SUITE", shell_complete=complete_suites_and_jobs)
@results_option
@click.option("--cache", type=click.Path(path_type=Path), metavar="DIR", help="Folder for decoded images.")
@click.option(
    "--device", default="", metavar="auto|cpu|cuda|cuda:N", help="Where to evaluate; by default as the job ran."
)
@click.option(
    "--tolerance",
    type=FiniteRange(min=0),
    help="Allowed relative difference of a score; by default 0 on the same machine, 0.001 elsewhere.",
)
@click.option(
    "--format", "form", type=click.Choice(["terminal", "json"]), default="terminal", show_default=True, help="Format."
)
@plugin_options
def verify_command(
    job: str,
    results: Path,
    cache: Path | None,
    device: str,
    tolerance: float | None,
    form: str,
    plugin_files: tuple[str, ...],
    blocked: tuple[str, ...],
    strict: bool,
) -> None:
    """Evaluate the stored model of JOB again, and compare its scores with the record.

    JOB is the id of a job (its first digits are enough), or a suite for all of its jobs."""
    from recbench.job.verification import verify

    if device:
        check_device(device)
    store, jobs, whole = _meant(job, results)
    registry = Registry(load(with_remembered(store, plugin_files), blocked, strict))
    tell_unloaded_files(store, registry.plugins)
    found: list[Verification] = []
    for job_id in jobs:
        try:
            found.append(verify(store, job_id, registry, cache or default_cache(), device, tolerance))
        except RecbenchError as error:
            if not whole:
                raise UserError(str(error)) from error
            echo(f"job {job_id} cannot be verified: {error}", err=True)
            continue
        if form == "terminal":
            say(_text(found[-1]))
    if form == "json":
        echo("[" + ",\n".join(one.model_dump_json(indent=1) for one in found) + "]")
    good = sum(one.verified for one in found)
    if whole and form == "terminal":
        say(f"{good} of {len(jobs)} jobs are verified")
    if good < len(jobs):
        raise SystemExit(1)


def _meant(job: str, results: Path) -> tuple[Store, list[str], bool]:
    """Return the store, the jobs, and whether they are all jobs of a suite."""
    if _ID.fullmatch(job) and not (results / job / "plan.json").is_file():
        found = sorted(path.parent for path in results.glob(f"*/jobs/{job}*/record.json"))
        ids = sorted({folder.name for folder in found})
        if not found:
            raise UserError(f"no record of a job {job}… in {results}")
        if len(ids) > 1:
            raise UserError(f"{job} is the beginning of several jobs: {', '.join(ids)}")
        store = Store(found[0].parent.parent)
        if len(found) > 1:
            echo(f"the job is in several suites; using the one in {store.root.name}", err=True)
        return store, ids, False
    store = stored_suite(job, results)
    plan = store.read_plan()
    scan = store.scan(plan)
    meant = {damaged.job_id for damaged in scan.damaged}
    meant |= {job_id for job_id, record in scan.records.items() if record.status == "done"}
    if not meant:
        raise UserError(f"no job of {plan.suite} is completed yet")
    return store, [planned.id for planned in plan.jobs if planned.id in meant], True


def _text(found: Verification) -> str:
    marks = {"fine": " ", "changed": "~", "wrong": "!"}
    lines = [f"job {found.job_id}" + (f": {found.loss}, seed {found.seed}" if found.loss else "")]
    lines += [f"{marks[check.state]} {check.name:<9} {check.says}" for check in found.checks]
    if found.scores:
        rows = [["", "recorded", "now", "difference", "largest of one image", ""]]
        for score in found.scores:
            numbers = [score.recorded, score.computed, score.difference, score.largest]
            rows.append([score.metric, *("–" if n is None else f"{n:.7g}" for n in numbers), score.verdict])
        lines += laid_out([["  " + row[0], *row[1:]] for row in rows], (0, len(rows[0]) - 1)).split("\n")
    allowed = (
        f"relative differences up to {found.tolerance:g} are allowed" if found.tolerance else "every bit must be equal"
    )
    verdict = "verified: the scores are reproduced" if found.verified else "NOT verified"
    return "\n".join([*lines, f"{verdict}{f' ({allowed})' if found.scores else ''}\n"])
