"""The ``recbench`` command. Importing this package imports click and nothing heavier."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from typing import Any

import click

from recbench import __version__
from recbench.errors import SuiteError, UserError, did_you_mean

_SHOWN_PROBLEMS = 20
_LINES = 24
_WIDTH = 600

COMMANDS = {
    "run": ("recbench.cli.run", "Run a suite and print its leaderboard; completed jobs are not run again."),
    "status": (
        "recbench.cli.status",
        "Show the progress of a suite: jobs done, running and failed, and the time left.",
    ),
    "retry": ("recbench.cli.retry", "Run the failed jobs of a suite again."),
    "logs": ("recbench.cli.logs", "Print the log of a job."),
    "clean": ("recbench.cli.clean", "List the files that a suite no longer needs, and remove them with --yes."),
    "validate": ("recbench.cli.run", "Check a suite file without running anything."),
    "calibrate": ("recbench.cli.calibrate", "Measure the gradient scales of a suite's losses relative to l2."),
    "curves": ("recbench.cli.curves", "Print rate-distortion curves, and rank the losses at the same KL divergence."),
    "leaderboard": ("recbench.cli.leaderboard", "Print the leaderboard of a suite."),
    "across": ("recbench.cli.across", "Compare methods across the leaderboards of several suites."),
    "report": ("recbench.cli.report", "Write the report of a suite as HTML pages."),
    "export": ("recbench.cli.export", "Pack the records of a suite into one file."),
    "merge": ("recbench.cli.merge", "Merge results from several machines into one folder."),
    "figure": ("recbench.cli.figure", "Draw a figure of a suite for a paper, as PDF, PNG or SVG."),
    "compare": (
        "recbench.cli.compare",
        "Compare two suites or methods: what changed, and which scores differ significantly.",
    ),
    "verify": ("recbench.cli.verify", "Evaluate stored models again, and compare their scores with the records."),
    "score": ("recbench.cli.score", "Compute a loss or metric for two sets of images."),
    "list": ("recbench.cli.catalogue", "List losses, architectures, datasets, metrics, executors or trackers."),
    "show": ("recbench.cli.catalogue", "Show the parameters, requirements and citation of an entry."),
    "data": ("recbench.cli.data", "List datasets, or fetch and decode one."),
    "weights": ("recbench.cli.weights", "List, fetch or verify files of pretrained weights."),
    "plugins": ("recbench.cli.catalogue", "List the installed plugins, and those that failed to load with the reason."),
}


class _Commands(click.Group):
    """A command group that imports the module of a command only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name][0])
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS:
            ctx.fail(f"no such command '{args[0]}'; {did_you_mean(args[0], list(COMMANDS))}")
        return super().resolve_command(ctx, args)


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="recbench")
def cli() -> None:
    """A benchmark of reconstruction losses for (variational) autoencoders.

    Exit codes: 0 all done, 1 some jobs failed (their rows say why), 2 usage error, 130 interrupted.
    """


def main() -> None:
    """Run the command line; usage errors print at most one screen of text and exit with code 2."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # terminals without ± or → show a question mark
            stream.reconfigure(errors="replace")
    try:
        cli.main(prog_name="recbench", standalone_mode=False)
        sys.stdout.flush()
    except UserError as error:
        fail(_explain(error))
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output closed the pipe. Python flushes stdout again at exit, which must not fail as well.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            fail(f"no space left on the device ({error.filename or error}); free some and run the same command again")
        if error.filename is None:  # not about a file of the user, so it is a bug
            raise
        fail(f"{os.fsdecode(error.filename)} cannot be used: {error.strerror}")


def _explain(error: UserError) -> str:
    if not isinstance(error, SuiteError):
        return str(error)
    lines = [str(problem) for problem in error.problems[:_SHOWN_PROBLEMS]]
    more = len(error.problems) - len(lines)
    count = f"{len(error.problems)} problems" if len(error.problems) > 1 else "1 problem"
    lines += [f"… and {more} more"] if more > 0 else []
    return f"{count} found; nothing was run\n  " + "\n  ".join(lines)


def fail(text: str) -> None:
    """Print an error, at most one screen of it and without control characters, and exit with code 2."""
    lines = ["".join(c if c.isprintable() else "?" for c in line) for line in text.expandtabs(4).split("\n")]
    lines = [line if len(line) <= _WIDTH else line[:_WIDTH] + "…" for line in lines]
    if len(lines) > _LINES:
        lines = [*lines[: _LINES - 1], f"… and {len(lines) - _LINES + 1} more lines"]
    click.echo("error: " + "\n".join(lines), err=True)
    sys.exit(2)
