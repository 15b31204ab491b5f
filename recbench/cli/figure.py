"""``recbench figure``."""

from __future__ import annotations

from pathlib import Path

import click

from recbench.cli.options import load, plugin_options, results_option
from recbench.cli.report import gathered
from recbench.cli.stored import stored_suite
from recbench.data.cache import default_cache
from recbench.errors import UserError, did_you_mean
from recbench.files import write_atomically
from recbench.plugin.registry import Registry

FIGURES = {
    "reconstructions": "the same test images under every method",
    "samples": "decoded draws from the prior",
    "interpolations": "points between two test images, decoded",
    "kernels": "estimated kernels over the epochs (figure 2 of Bredell et al.)",
    "spectra": "radial profiles of spectra (figure 6 of Bredell et al.)",
    "curves": "training curves",
    "rate-distortion": "scores against KL",
    "cost": "scores against the time of a step",
    "tuning": "scores of the candidates of tuning",
    "tiers": "places that cannot be ruled out",
    "critical-difference": "mean ranks, and bars over methods that cannot be told apart",
}
FORMATS = ("pdf", "png", "svg")


@click.command("figure")
@click.argument("name")
@click.argument("suite", required=False)
@results_option
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="NAME.pdf; .png and .svg too.")
@click.option(
    "--board", type=click.IntRange(min=1), default=1, show_default=True, help="Which leaderboard of the suite, from 1."
)
@click.option("--cache", type=click.Path(path_type=Path), metavar="DIR", help="Folder of decoded images.")
@plugin_options
def figure_command(
    name: str,
    suite: str | None,
    results: Path,
    output: Path | None,
    board: int,
    cache: Path | None,
    plugin_files: tuple[str, ...],
    blocked: tuple[str, ...],
    strict: bool,
) -> None:
    """Draw the figure NAME of SUITE as a paper prints it: PDF, PNG or SVG.

    The same records give the same file. SUITE is a suite's name or file; by default the suite that was run last.
    """
    if name not in FIGURES:
        listed = "\n".join(f"  {known:20} {what}" for known, what in FIGURES.items())
        raise UserError(f"there is no figure '{name}'; {did_you_mean(name, list(FIGURES))}\nfigures:\n{listed}")
    file = output or Path(f"{name}.pdf")
    form = file.suffix.removeprefix(".").lower()
    if form not in FORMATS:
        raise UserError(f"--output {file}: its name must end in .pdf, .png or .svg")
    from recbench.report import figures
    from recbench.report.sections import Sources, sheet_for

    store = stored_suite(suite, results)
    content = gathered(store)
    if board > len(content.boards):
        raise UserError(f"--board {board}: {store.root.name} has {len(content.boards)} leaderboards")
    view = content.boards[board - 1]
    if name in figures.PLOTS:
        drawn = figures.draw(name, view)
    else:
        registry = Registry(load(plugin_files, blocked, strict))
        sheet = sheet_for(name, view, Sources(store, registry, cache or default_cache()))
        drawn = figures.sheet(sheet)
    try:
        write_atomically(file.resolve(), figures.render(drawn, form))
    except (OSError, RuntimeError) as error:  # resolve finds loops of links
        raise UserError(f"{file} cannot be written: {getattr(error, 'strerror', error)}") from None
    click.echo(file)
