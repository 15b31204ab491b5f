"""``recbench reference``: the reference boards that recbench ships."""

from __future__ import annotations

from pathlib import Path

import click

from recbench.cli.completion import complete_suites
from recbench.cli.options import results_option
from recbench.cli.stored import stored_suite
from recbench.cli.text import echo, say
from recbench.cli.weights import shown_size
from recbench.errors import UserError
from recbench.shipped import ReferenceBoard, boards
from recbench.shipped.boards import MOST
from recbench.shipped.place import boards_folder
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
        say("recbench ships no reference boards")
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


@reference_command.command("add")
@click.argument("suite", shell_complete=complete_suites)
@results_option
@click.option(
    "--into",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of reference boards; by default recbench's own.",
)
def add_command(suite: str, results: Path, into: Path | None) -> None:
    """Make the results of SUITE its reference board, for those who maintain recbench.

    All jobs must have a record. Models are left out, and scores per image are rounded as far as the size limit of all
    boards together requires; the board must stay the same.
    """
    from recbench.shipped.packing import pack

    folder = into or boards_folder()
    board = pack(stored_suite(suite, results), folder)
    facts = board.facts
    rounded = "scores per image as they are"
    if facts.steps is not None:
        rounded = f"scores per image rounded to 1/{facts.steps} of their standard deviation"
    total = sum(file.stat().st_size for file in folder.glob("*") if file.is_file())
    say(f"{board.file}: {facts.export.bytes:,} bytes, {rounded}; all boards have {total:,} of {MOST:,} bytes")
