"""``recbench figure``."""

from __future__ import annotations

from pathlib import Path

import click
from click.shell_completion import CompletionItem

from recbench.cli.beside import with_board
from recbench.cli.completion import complete_suites
from recbench.cli.options import load, plugin_options, results_option
from recbench.cli.report import ranked, tell_left_out
from recbench.cli.stored import shown_suite, tell_unloaded_files, with_remembered
from recbench.cli.text import echo
from recbench.data.cache import default_cache
from recbench.errors import UserError, did_you_mean
from recbench.files import write_output
from recbench.plugin.registry import Registry

FIGURES = {
    "reconstructions": "the same test images with every method",
    "samples": "decoded draws from the prior",
    "interpolations": "decoded latent interpolations between two test images",
    "kernels": "estimated kernels over the epochs, beside their images (figure 2 of Bredell et al.)",
    "kernel-widths": "widths and centres of the estimated kernels by epoch",
    "spectra": "radial profiles of spectra (figure 6 of Bredell et al.)",
    "curves": "training curves",
    "rate-distortion": "scores against KL",
    "cost": "scores against the time per step",
    "tuning": "scores of the trials of tuning",
    "tiers": "ranks and rank intervals (95 %)",
    "critical-difference": "mean ranks, with bars over methods that do not differ significantly",
}
FORMATS = ("pdf", "png", "svg")


def complete_figures(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the figures that begin like this."""
    return [CompletionItem(name, help=what) for name, what in FIGURES.items() if name.startswith(incomplete)]


@click.command("figure")
@click.argument("name", required=False, metavar="[NAME]", shell_complete=complete_figures)
@click.argument("suite", required=False, shell_complete=complete_suites)
@results_option
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File to write, .pdf, .png or .svg; NAME.pdf by default.",
)
@click.option(
    "--board", type=click.IntRange(min=1), default=1, show_default=True, help="Number of the leaderboard of the suite."
)
@click.option("--cache", type=click.Path(path_type=Path), metavar="DIR", help="Folder of decoded images.")
@plugin_options
def figure_command(
    name: str | None,
    suite: str | None,
    results: Path,
    output: Path | None,
    board: int,
    cache: Path | None,
    plugin_files: tuple[str, ...],
    blocked: tuple[str, ...],
    strict: bool,
) -> None:
    """Draw the figure NAME of SUITE for a paper, as PDF, PNG or SVG; without NAME, list the figures.

    The same records give the same file. SUITE is the name or file of a suite; by default the one that was run last.
    """
    if name is None:
        from recbench.cli.terminal import print_lines

        print_lines(FIGURES.items())
        return
    if name not in FIGURES:
        listed = "\n".join(f"  {known:20} {what}" for known, what in FIGURES.items())
        raise UserError(f"unknown figure '{name}'; {did_you_mean(name, list(FIGURES))}\nfigures:\n{listed}")
    file = output or Path(f"{name}.pdf")
    form = file.suffix.removeprefix(".").lower()
    if form not in FORMATS:
        raise UserError(f"--output {file}: the name must end in .pdf, .png or .svg")
    from recbench.report import figures
    from recbench.report.sections import Sources, sheet_for

    store, cache = shown_suite(suite, results, cache), cache or default_cache()
    with with_board(store, results, cache) as found:
        content = ranked(found)
        if board > len(content.boards):
            raise UserError(f"--board {board}: {store.root.name} has {len(content.boards)} leaderboards")
        view = content.boards[board - 1]
        if name in figures.PLOTS:
            drawn = figures.draw(name, view)
        else:
            registry = Registry(load(with_remembered(store, plugin_files), blocked, strict))
            tell_unloaded_files(store, registry.plugins)
            drawn = figures.sheet(sheet_for(name, view, Sources(found.store, registry, cache)))
        write_output(file, figures.render(drawn, form))
        tell_left_out(content)
    echo(file)
