"""``recbench reference``: the reference boards that recbench ships."""

from __future__ import annotations

import click

from recbench.cli.text import echo
from recbench.cli.weights import shown_size
from recbench.errors import UserError
from recbench.shipped import ReferenceBoard, boards
from recbench.store.archive import opened


@click.group("reference", invoke_without_command=True)
@click.pass_context
def reference_command(ctx: click.Context) -> None:
    """List the reference boards that recbench ships, and verify all their checksums; exit with 1 if one is wrong."""
    if ctx.invoked_subcommand is not None:
        return
    from recbench.cli.terminal import print_table

    rows, problems = [], []
    for name, board in boards().items():
        try:
            rows.append((name, *_facts(board)))
        except UserError as error:
            problems.append(str(error))
            rows.append((name, *["–"] * 5, "wrong"))
    if not rows:
        echo("recbench ships no reference boards")
        return
    heads = ("suite", "methods", "seeds", "finished", "recbench", "size", "checksums")
    print_table("", heads, rows)
    for problem in problems:
        echo(problem, err=True)
    if problems:
        raise SystemExit(1)


def _facts(board: ReferenceBoard) -> tuple[str, ...]:
    """Return methods, seeds, date, version and size of a board, whose checksums are right.

    Raises:
        UserError: one is wrong.
    """
    facts = board.verify()
    with opened(board.file) as archive:
        ranked = [job for job in archive.plan.jobs if job.split == "test"]
        found = [archive.record(job_id).provenance for job_id in archive.jobs]
    methods = len({job.method for job in ranked})
    seeds = len({job.seed for job in ranked})
    versions = ", ".join(sorted({provenance.recbench for provenance in found}))
    finished = max((provenance.finished for provenance in found), default="–")[:10]
    return str(methods), str(seeds), finished, versions, shown_size(facts.export.bytes), "right"
