"""``recbench findings``."""

from __future__ import annotations

from pathlib import Path

import click

from recbench.cli.options import output_option
from recbench.cli.text import echo
from recbench.data.cache import default_cache
from recbench.files import write_output
from recbench.shipped import boards, suites


@click.command("findings")
@output_option
def findings_command(output: Path | None) -> None:
    """Print what the reference boards say of the orderings that papers print, as Markdown (docs/findings.md)."""
    from recbench.report.findings import findings

    text = findings({name: board.store(default_cache()) for name, board in boards().items()}, suites())
    if output is None:
        echo(text, nl=False)
    else:
        write_output(output, text.encode())
