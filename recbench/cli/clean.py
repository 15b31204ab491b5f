"""``recbench clean``: list files that are no longer needed, and remove them."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import click

from recbench.cli.completion import complete_suites
from recbench.cli.options import results_option
from recbench.cli.stored import stored_suite
from recbench.cli.terminal import err
from recbench.cli.text import echo
from recbench.cli.weights import shown_size
from recbench.errors import UserError
from recbench.store import cleanup
from recbench.store.cleanup import KINDS, Leftover

_SHOWN = 10


@click.command("clean")
@click.argument("suite", required=False, shell_complete=complete_suites)
@results_option
@click.option("--only", type=click.Choice(list(KINDS)), multiple=True, help="Only files of this kind. Repeatable.")
@click.option("--yes", is_flag=True, help="Remove the listed files.")
def clean_command(suite: str | None, results: Path, only: tuple[str, ...], yes: bool) -> None:
    """List the files that SUITE (its name or its file) no longer needs, and with --yes remove them.

    These are unusable records, jobs that are not in the suite as it was last run, checkpoints of completed jobs,
    folders of Slurm arrays that are over, and temporary files. Files of running jobs are never removed.
    """
    store = stored_suite(suite, results)
    found: dict[str, list[Leftover]] = defaultdict(list)
    for leftover in cleanup.find(store, store.read_plan()):
        if not only or leftover.kind in only:
            found[leftover.kind].append(leftover)
    if not found:
        err.print(f"{store.root}: nothing to remove", soft_wrap=True)
        return
    total = 0
    for kind, those in found.items():
        sizes = {leftover.path: leftover.size for leftover in those}
        total += sum(sizes.values())
        echo(f"{kind}: {len(those)} {KINDS[those[0].kind]}, {shown_size(sum(sizes.values()))}")
        for path in list(sizes)[:_SHOWN]:
            echo(f"  {path}  {shown_size(sizes[path])}")
        if len(those) > _SHOWN:
            echo(f"  … and {len(those) - _SHOWN} more")
    if not yes:
        err.print(f"nothing was removed; --yes removes all of them, {shown_size(total)}", soft_wrap=True)
        return
    kept = 0
    problems = []
    for those in found.values():
        for leftover in those:
            try:
                kept += not cleanup.remove(leftover)
            except OSError as error:
                problems.append(f"{leftover.path} cannot be removed: {error.strerror or error}")
            except UserError as error:  # something else than a lock is in its place
                problems.append(f"{leftover.path} cannot be removed: {error}")
    taken = f"; kept {kept} that are in use again" if kept else ""
    if problems:
        raise UserError("\n".join([*problems, "the others were removed"]))
    err.print(f"removed, {shown_size(total)}{taken}", soft_wrap=True)
