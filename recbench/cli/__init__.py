"""The ``recbench`` command. Importing this package imports click and nothing heavier."""

from __future__ import annotations

import errno
import importlib
import io
import os
import select
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

import click

from recbench import __version__
from recbench.cli.text import echo, plain
from recbench.errors import SuiteError, UserError, did_you_mean

_SHOWN_PROBLEMS = 20
_LINES = 24
_WIDTH = 600
_TRACEBACK = "RECBENCH_TRACEBACK"
"""The environment variable that shows the traceback of an error that is a bug."""

COMMANDS = {
    "run": ("recbench.cli.run", "Run a suite and print its leaderboard; completed jobs are not run again."),
    "try": ("recbench.cli.trying", "Rank the loss in a file among the methods of a reference board."),
    "status": (
        "recbench.cli.status",
        "Show the progress of a suite: jobs done, running and failed, and the time left.",
    ),
    "evaluate": ("recbench.cli.evaluate", "Score the stored models of a suite by metrics that are new or changed."),
    "retry": ("recbench.cli.retry", "Run the failed jobs of a suite again."),
    "logs": ("recbench.cli.logs", "Print the log of a job."),
    "clean": ("recbench.cli.clean", "List the files that a suite no longer needs, and remove them with --yes."),
    "validate": ("recbench.cli.run", "Check a suite file without running anything."),
    "calibrate": ("recbench.cli.calibrate", "Measure the gradient scales of a suite's losses relative to l2."),
    "curves": ("recbench.cli.curves", "Print rate-distortion curves, and rank the losses at the same KL divergence."),
    "leaderboard": ("recbench.cli.leaderboard", "Print the leaderboard of a suite."),
    "suites": ("recbench.cli.suites", "List the suites that recbench ships, or copy one to edit it."),
    "reference": (
        "recbench.cli.reference",
        "List the reference boards that recbench ships, and verify them.",
    ),
    "findings": (
        "recbench.cli.findings",
        "Print what the reference boards say of the orderings that papers print.",
    ),
    "across": ("recbench.cli.across", "Compare methods across the leaderboards of several suites."),
    "report": ("recbench.cli.report", "Write the report of a suite as HTML pages."),
    "export": ("recbench.cli.export", "Pack the records of a suite into one file."),
    "merge": ("recbench.cli.merge", "Merge results from several machines into one folder."),
    "upgrade": ("recbench.cli.upgrade", "Upgrade older results to the present schema, without training anything."),
    "figure": ("recbench.cli.figure", "Draw a figure of a suite for a paper, as PDF, PNG or SVG."),
    "compare": (
        "recbench.cli.compare",
        "Compare two suites or methods: what changed, and which scores differ significantly.",
    ),
    "verify": ("recbench.cli.verify", "Evaluate stored models again, and compare their scores with the records."),
    "rank": ("recbench.cli.rank", "Rank a CSV table of scores from anywhere, with intervals and tiers."),
    "score": ("recbench.cli.score", "Compute a loss or metric for two sets of images."),
    "new": ("recbench.cli.new", "Write a working loss, metric, architecture or dataset to start from."),
    "check": ("recbench.cli.check", "Check a plugin's entries against their contracts, and print a card of each."),
    "list": ("recbench.cli.catalogue", "List losses, architectures, datasets, metrics, executors or trackers."),
    "show": ("recbench.cli.catalogue", "Show the parameters, requirements and citation of an entry."),
    "data": ("recbench.cli.data", "List datasets, or fetch and decode one."),
    "weights": ("recbench.cli.weights", "List, fetch or verify files of pretrained weights."),
    "plugins": ("recbench.cli.catalogue", "List the installed plugins, and those that failed to load with the reason."),
}


GROUPS = {
    "Run": ("suites", "validate", "run", "try", "status", "logs", "retry", "evaluate", "clean"),
    "Look at results": ("leaderboard", "report", "figure", "compare", "across", "curves", "verify", "rank"),
    "Share results": ("reference", "findings", "export", "merge", "upgrade"),
    "Losses, data and plugins": ("list", "show", "new", "check", "score", "calibrate", "data", "weights", "plugins"),
}
"""The commands by what one does with them, for ``--help``; those in none of the groups come last."""

_EXAMPLES = (
    ("recbench run quickstart", "train five losses, and rank them"),
    ("recbench run SUITE --dry-run", "what there is to run"),
    ("recbench run SUITE --set training.epochs=2", "change anything"),
    ("recbench leaderboard SUITE --columns method,psnr,rank --format latex", ""),
    ("recbench report SUITE", "HTML pages with images and curves"),
    ("recbench compare SUITE:l2 SUITE:wiener", "is the difference real?"),
    ("recbench show wiener", "a loss, its parameters and its source"),
)


class _PipeBroken(Exception):
    """A BrokenPipeError of a command, which click would turn into exit code 1."""


class _Commands(click.Group):
    """A command group that imports the module of a command only when it is called."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        try:
            return super().make_context(*args, **extra)
        except BrokenPipeError as error:
            raise _PipeBroken from error

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise _PipeBroken from error

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name][0])
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        grouped = {name for names in GROUPS.values() for name in names}
        others = tuple(name for name in COMMANDS if name not in grouped)
        for title, names in {**GROUPS, "Other": others}.items():
            if names:
                with formatter.section(title):
                    formatter.write_dl([(name, COMMANDS[name][1]) for name in names])
        with formatter.section("Examples"):
            formatter.write_dl(_EXAMPLES, col_max=44)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS:
            ctx.fail(f"no such command '{args[0]}'; {did_you_mean(args[0], list(COMMANDS))}")
        return super().resolve_command(ctx, args)


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="recbench")
def cli() -> None:
    """A benchmark of reconstruction losses for (variational) autoencoders.

    Each command explains itself with --help; docs/cli.md says how to switch on completion in a shell.

    Exit codes: 0 all done, 1 some jobs failed (their rows say why), 2 usage error, 130 interrupted.
    """


def main() -> None:
    """Run the command line; errors print at most one screen of text, without a traceback, and exit with code 2."""
    _open_closed()
    for number in (signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C: temporary files are removed, children ended
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # terminals without ± or → show a question mark
            stream.reconfigure(errors="replace")
    try:
        _run()
    except UserError as error:
        fail(_explain(error))
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        echo(shown.getvalue(), err=True, nl=False)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        echo("interrupted", err=True)
        sys.exit(130)
    except MemoryError:
        fail("there is not enough memory")
    except Exception as error:
        if os.environ.get(_TRACEBACK):
            raise
        fail(_sentence(error))


def _run() -> None:
    """Run the command, and end quietly if the reader of its output has closed the pipe."""
    try:
        Path.cwd()
    except FileNotFoundError:
        fail("the working folder was deleted; change to another one")
    try:
        try:
            cli.main(prog_name="recbench", standalone_mode=False)
        finally:
            sys.stdout.flush()
    except (BrokenPipeError, _PipeBroken) as error:
        if not _hung_up():  # it was another pipe
            raise error.__cause__ or error from None
        _discard_output(1, 2)
        sys.exit(141)  # as of a program that SIGPIPE ended


def _open_closed() -> None:
    """Open what was closed by the caller on the null device, lest the next file that is opened take its number."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


def _hung_up() -> bool:
    """Return whether nobody reads stdout or stderr any more."""
    poll = select.poll()
    for number in (1, 2):
        poll.register(number, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _discard_output(*numbers: int) -> None:
    """Write to the null device from now on: Python flushes stdout again at exit, which must not fail as well."""
    null = os.open(os.devnull, os.O_WRONLY)
    for number in numbers:
        os.dup2(null, number)


def _sentence(error: Exception) -> str:
    """Return what to tell people about an error that no part of recbench has named."""
    if isinstance(error, OSError):
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            _discard_output(1)
            return f"no space left on the device ({error.filename or error}); free some and run the same command again"
        if error.filename is not None:
            return f"{os.fsdecode(error.filename)} cannot be used: {error.strerror}"
    if isinstance(error, RuntimeError) and "home directory" in str(error):
        return "your home folder is not known: set HOME"
    from recbench.plugin.isolation import described

    where = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(where.filename).name}, line {where.lineno}"
    return f"recbench failed at {place}: {described(error)}; {_TRACEBACK}=1 shows where, for a bug report"


def _explain(error: UserError) -> str:
    if not isinstance(error, SuiteError):
        return str(error)
    lines = [str(problem) for problem in error.problems[:_SHOWN_PROBLEMS]]
    more = len(error.problems) - len(lines)
    count = f"{len(error.problems)} problems" if len(error.problems) > 1 else "1 problem"
    lines += [f"… and {more} more"] if more > 0 else []
    return f"{count} found; nothing was run\n  " + "\n  ".join(lines)


def fail(text: str) -> NoReturn:
    """Print an error, at most one screen of it and without control characters, and exit with code 2."""
    lines = plain(text.expandtabs(4)).split("\n")
    lines = [line if len(line) <= _WIDTH else line[:_WIDTH] + "…" for line in lines]
    if len(lines) > _LINES:
        lines = [*lines[: _LINES - 1], f"… and {len(lines) - _LINES + 1} more lines"]
    echo("error: " + "\n".join(lines), err=True)
    sys.exit(2)
