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
    "run": ("recbench.cli.run", "Run a suite and print its leaderboard; done jobs are not run again."),
    "status": ("recbench.cli.status", "Show how far a suite is: done, running where, failed and why, time left."),
    "retry": ("recbench.cli.retry", "Run the failed jobs of a suite again."),
    "logs": ("recbench.cli.logs", "Print what a job printed."),
    "clean": ("recbench.cli.clean", "Remove what a suite does not need any more, after showing it."),
    "validate": ("recbench.cli.run", "Check a suite file without running anything."),
    "calibrate": ("recbench.cli.calibrate", "Measure the scales of a suite's losses beside that of l2."),
    "curves": ("recbench.cli.curves", "Print rate-distortion curves, and the losses at the same KL divergence."),
    "leaderboard": ("recbench.cli.leaderboard", "Print the leaderboard of a suite that was run."),
    "across": ("recbench.cli.across", "Compare methods over the boards of several suites."),
    "report": ("recbench.cli.report", "Write the report of a suite that was run: pages to open in a browser."),
    "export": ("recbench.cli.export", "Pack the records of a suite into one file."),
    "merge": ("recbench.cli.merge", "Join results of several machines into one folder."),
    "figure": ("recbench.cli.figure", "Draw a figure of a suite as papers print it: PDF, PNG or SVG."),
    "compare": ("recbench.cli.compare", "Say what changed between two suites or methods, and which scores with it."),
    "verify": ("recbench.cli.verify", "Evaluate a stored model again: do its scores come out?"),
    "score": ("recbench.cli.score", "Compute any loss or metric for two given sets of images."),
    "list": ("recbench.cli.catalogue", "List losses, architectures, datasets, metrics or executors."),
    "show": ("recbench.cli.catalogue", "Show parameters, requirements and citation of one entry."),
    "data": ("recbench.cli.data", "Fetch and decode a data set; list what there is, and what is missing."),
    "weights": ("recbench.cli.weights", "List, fetch or verify the files of pretrained weights that entries need."),
    "plugins": ("recbench.cli.catalogue", "Show what plugins are installed, and what failed to load and why."),
}


class _Commands(click.Group):
    """Imports a command's module only when that command is called."""

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

    Exit codes: 0 all done, 1 some jobs failed (their rows say why), 2 an error of use, 130 interrupted.
    """


def main() -> None:
    """Run the command line; errors of use end with one screen of text and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that lacks ± or → shows a question mark
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
        # Whoever read our output has seen enough. Python flushes stdout once more at exit, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            fail(f"no space left on the device ({error.filename or error}); make room and run the same command again")
        if error.filename is None:  # not about a file of the user's, so it is a mistake of ours
            raise
        fail(f"{os.fsdecode(error.filename)} cannot be used: {error.strerror}")


def _explain(error: UserError) -> str:
    if not isinstance(error, SuiteError):
        return str(error)
    lines = [str(problem) for problem in error.problems[:_SHOWN_PROBLEMS]]
    more = len(error.problems) - len(lines)
    count = f"{len(error.problems)} problems" if len(error.problems) > 1 else "a problem"
    lines += [f"… and {more} more"] if more > 0 else []
    return f"{count} in what was asked for; nothing was run\n  " + "\n  ".join(lines)


def fail(text: str) -> None:
    """Print an error, in one screen and without control characters, and exit with 2."""
    lines = ["".join(c if c.isprintable() else "?" for c in line) for line in text.expandtabs(4).split("\n")]
    lines = [line if len(line) <= _WIDTH else line[:_WIDTH] + "…" for line in lines]
    if len(lines) > _LINES:
        lines = [*lines[: _LINES - 1], f"… and {len(lines) - _LINES + 1} more lines"]
    click.echo("error: " + "\n".join(lines), err=True)
    sys.exit(2)
