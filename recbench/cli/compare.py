"""``recbench compare``."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import click

from recbench.analysis.comparison import Change, ComparedPair, Comparison, Side, compare
from recbench.analysis.earlier import earlier_version
from recbench.cli.completion import complete_suites
from recbench.cli.options import results_option
from recbench.cli.stored import shown_suite
from recbench.cli.terminal import laid_out
from recbench.cli.text import echo, say
from recbench.errors import UserError
from recbench.render.text import head, number, percent
from recbench.store.archive import opened
from recbench.store.sources import ArchiveSource, FolderSource, RecordSource


@click.command("compare")
@click.argument("first", metavar="A", shell_complete=complete_suites)
@click.argument("second", metavar="B", shell_complete=complete_suites)
@click.option("--anyway", is_flag=True, help="Compare even if protocols differ.")
@click.option(
    "--format", "form", type=click.Choice(["terminal", "json"]), default="terminal", show_default=True, help="Format."
)
@results_option
def compare_command(first: str, second: str, anyway: bool, form: str, results: Path) -> None:
    """Compare A with B: what changed, and which scores differ significantly.

    A and B are suites (name, file, folder of results, or export), or methods of suites: SUITE:METHOD. SUITE:METHOD@CODE
    is an earlier version of a loss whose records still exist; CODE is the beginning of the digest of its code.
    """
    with ExitStack() as stack:
        known: dict[str, RecordSource] = {}
        sides = [_side(text, results, stack, known) for text in (first, second)]
        found = compare(*sides, anyway=anyway)
    if form == "json":
        echo(found.model_dump_json(indent=1))
        return
    say(_text(found).rstrip("\n"))


def _side(text: str, results: Path, stack: ExitStack, known: dict[str, RecordSource]) -> Side:
    """Return the suite or method that A or B refers to.

    Args:
        known: the suites that were found already, so that a line that says which is shown is printed once.
    """
    cuts = [len(text), *(i for i, character in enumerate(text) if character == ":")]
    problem: UserError | None = None
    for cut in cuts:
        try:
            source = known.get(text[:cut]) or _source(text[:cut], results, stack)
        except UserError as error:
            problem = error
            continue
        known[text[:cut]] = source
        label = text[cut + 1 :] or None
        plan = source.plan
        if label and label not in [method.label for method in plan.methods] and "@" in label:
            label, _, code = label.rpartition("@")
            plan = earlier_version(source, plan, label, code)
        return Side(text, source, plan, label)
    assert problem is not None, "every cut failed"
    raise problem


def _source(text: str, results: Path, stack: ExitStack) -> RecordSource:
    path = Path(text)
    if path.is_dir() and os.path.lexists(path / "plan.json"):
        return FolderSource(path)
    if path.is_file() and not text.endswith((".yaml", ".yml")):
        return ArchiveSource(stack.enter_context(opened(path)))
    return FolderSource(shown_suite(text, results).root)


_SHOWN = {"better": "better", "worse": "worse", "open": "not significant", "equal": "equal"}


def _text(found: Comparison) -> str:
    blocks = [f"{found.first} → {found.second}"]
    if found.environment:
        blocks.append("run with\n" + "\n".join(f"  {line}" for line in found.environment))
    blocks += [_block(pair, found.confidence) for pair in found.pairs]
    blocks += [f"only in {found.first}: {', '.join(found.only_first)}"] if found.only_first else []
    blocks += [f"only in {found.second}: {', '.join(found.only_second)}"] if found.only_second else []
    changes = [change for pair in found.pairs for change in pair.changes]
    significant = sum(change.verdict in ("better", "worse") for change in changes)
    at = f"at {percent(found.confidence)} confidence; p-values and intervals are corrected for all of them"
    blocks.append(f"{significant} of {len(changes)} scores differ significantly ({at})")
    return "\n\n".join(blocks) + "\n"


def _block(pair: ComparedPair, confidence: float) -> str:
    methods = pair.methods[0] if pair.methods[0] == pair.methods[1] else " → ".join(pair.methods)
    settings = pair.settings[0] if pair.settings[0] == pair.settings[1] else " → ".join(pair.settings)
    lines = [f"{methods} ({settings}), {pair.seeds[0]} and {pair.seeds[1]} seeds"]
    lines += [f"  {line}" for line in pair.changed]
    lines += [f"  other protocol: {line}" for line in pair.protocol]
    lines += [f"  other metric: {line}" for line in pair.metrics]
    if pair.same:
        return "\n".join([*lines, "  the same jobs"])
    if not pair.changes:
        return "\n".join([*lines, "  no scores to compare"])
    rows = [
        ["", "before", "after", "difference", f"{percent(confidence)} interval", "p", ""],
        *(_row(change) for change in pair.changes),
    ]
    rows = [["  " + row[0], *row[1:]] for row in rows]
    lines += laid_out(rows, (0, 6)).split("\n")
    targets = [change.column for change in pair.changes if change.column.target is not None]
    for target in dict.fromkeys(column.target for column in targets):
        names = ", ".join(column.name for column in targets if column.target == target)
        lines.append(f"  the difference of {names} is that of distances from {target:g}")
    if pair.seeds == (1, 1):
        lines.append("  one seed each: the tests hold for these trainings, not for the methods in general")
    return "\n".join(lines)


def _row(change: Change) -> list[str]:
    digits = change.column.digits
    known = change.low is not None and change.high is not None
    interval = f"{number(change.low, digits)} to {number(change.high, digits)}" if known else "–"
    p = "–" if change.p is None else f"{change.p:.2g}"
    return [
        head(change.column),
        number(change.first, digits),
        number(change.second, digits),
        number(change.difference, digits),
        interval,
        p,
        _SHOWN[change.verdict],
    ]
