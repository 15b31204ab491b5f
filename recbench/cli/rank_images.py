"""``recbench rank-images``: rank reconstructions that any tool has made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from recbench.analysis.board import Leaderboard
from recbench.cli.options import confidence_option, load, output_option, parameters, plugin_options
from recbench.cli.score import value_range
from recbench.cli.text import echo
from recbench.contracts.entries import MetricEntry
from recbench.data.cache import default_cache
from recbench.data.weights import lacking
from recbench.errors import PluginError, UserError
from recbench.files import write_output
from recbench.plan.model import Column
from recbench.plugin.isolation import call_in_fork
from recbench.plugin.registry import Registered, Registry
from recbench.render.columns import Excerpt, compact
from recbench.render.columns import wide as whole
from recbench.render.leaderboard import FORMATS

if TYPE_CHECKING:
    from recbench.contracts.entries import ImageShape
    from recbench.job.given import GivenImages, GivenScore

_DEFAULT = ("psnr", "ssim", "st_lpips")


@click.command("rank-images")
@click.argument("target", type=click.Path(path_type=Path, exists=True))
@click.argument("methods", nargs=-1, required=True, metavar="[NAME=]DIR…")
@click.option(
    "--metrics",
    metavar="NAME,NAME",
    help="Metrics to rank by.  [default: those of psnr,ssim,st_lpips that can score the images]",
)
@click.option("-p", "assignments", multiple=True, metavar="METRIC.KEY=VALUE", help="Parameter of a metric. Repeatable.")
@click.option("--range", "limits", metavar="LOW,HIGH", help="Value range of floating-point arrays.  [default: 0,1]")
@confidence_option
@click.option(
    "--format", "form", type=click.Choice(["terminal", *FORMATS]), default="terminal", show_default=True, help="Format."
)
@click.option("--wide", is_flag=True, help="Include spreads, mean ranks, and the statistics of every metric.")
@output_option
@click.option(
    "--report",
    "home",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write a report of HTML pages too, DIR/report/index.html.",
)
@plugin_options
def rank_images_command(
    target: Path,
    methods: tuple[str, ...],
    metrics: str | None,
    assignments: tuple[str, ...],
    limits: str | None,
    confidence: float,
    form: str,
    wide: bool,
    output: Path | None,
    home: Path | None,
    plugin_files: tuple[str, ...],
    blocked: tuple[str, ...],
    strict: bool,
) -> None:
    """Rank reconstructions of the images in TARGET by any tools: each DIR is a method's, and named after its folder.

    TARGET and DIR are folders of images with the same names, or .npy arrays (N, C, H, W). A DIR with sub-folders (or
    arrays) seed-0, seed-1, … holds the reconstructions of several trainings. Statistics are those of leaderboards.
    """
    if wide and form in ("json", "csv"):
        raise UserError(f"--wide does not go with --format {form}, which always holds everything")
    registry = Registry(load(plugin_files, blocked, strict))
    names = _names(metrics) if metrics is not None else _DEFAULT
    chosen = [
        registry.get("metrics", name) for name in names if metrics is not None or name in registry.names("metrics")
    ]
    params = _params(chosen, assignments)
    span = value_range(limits) if limits is not None else None

    def compute() -> Leaderboard:
        """Import torch, read the images and score them: everything that a plugin could bring down."""
        from recbench.analysis.given import rank_given
        from recbench.job.given import find_methods, read_given, score_given

        given = read_given(target, find_methods(methods), span)
        used, notes = chosen, []
        if metrics is None:
            reasons = {one.entry.name: _refusal(one, given.shape, params[one.entry.name]) for one in chosen}
            used = [one for one in chosen if not reasons[one.entry.name]]
            notes = [f"{name} does not rank: it {why}" for name, why in reasons.items() if why]
        scores: dict[str, GivenScore] = {}
        for one in used:
            name = one.entry.name
            found, warning = score_given(given, one, params[name], cache=default_cache())
            scores |= found
            notes += [f"{name}: {warning}"] if warning else []
            notes += [f"{name}: {key} is {value}" for key, value in params[name].items()]
        count, *size = given.target.shape
        leaderboard = rank_given(
            target.resolve().name if target.is_dir() else target.stem,
            f"{count} images of {'x'.join(map(str, size))}",
            (size[0], size[1], size[2]),
            count,
            [method.name for method in given.methods],
            [column for one in used for column in _columns(cast(MetricEntry, one.entry))],
            {name: score.methods for name, score in scores.items()},
            confidence=confidence,
            notes=notes,
            compared={name: (score.compared,) for name, score in scores.items() if score.compared is not None},
        )
        if home is not None:
            _write_report(leaderboard, given, scores, home)
        return leaderboard

    try:
        leaderboard = call_in_fork(compute)
    except PluginError as error:
        raise PluginError(f"a metric ({', '.join(one.entry.name for one in chosen)}) {error}") from None
    if home is not None:
        echo(str(home / "report" / "index.html"), err=True)
    selection = _without_training(leaderboard, wide)
    if form == "terminal" and output is None:
        from recbench.cli.terminal import print_leaderboard

        print_leaderboard(leaderboard, selection)
        return
    text = FORMATS["markdown" if form == "terminal" else form][1](leaderboard, selection)
    if output is None:
        echo(text, nl=False)
    else:
        write_output(output, text.encode())


def _write_report(leaderboard: Leaderboard, given: GivenImages, scores: Mapping[str, GivenScore], home: Path) -> None:
    from recbench.job.given import shown_images
    from recbench.report.given import GivenPictures, of_methods, write_given

    names = [method.name for method in given.methods]
    target, decoded = shown_images(given)
    found = of_methods(names, {name: score.methods for name, score in scores.items()})
    home.mkdir(parents=True, exist_ok=True)
    write_given(leaderboard, GivenPictures(target, dict(zip(names, decoded, strict=True)), found), home)


def _without_training(leaderboard: Leaderboard, wide: bool) -> Excerpt:
    """Return the columns of a board, without the KL divergence, which images alone do not have."""
    (board,) = leaderboard.boards
    names = whole(board) if wide else compact(board)
    return Excerpt(tuple(name for name in names if name != "kl"), wide)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise UserError(f"--metrics {text}: expected names of metrics, as in --metrics psnr,ssim")
    return names


def _params(chosen: list[Registered], assignments: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Return the parameters that are given for each metric."""
    given: dict[str, list[str]] = {one.entry.name: [] for one in chosen}
    for assignment in assignments:
        name, dot, rest = assignment.partition(".")
        if not dot or "=" not in rest:
            raise UserError(f"-p {assignment}: expected METRIC.KEY=VALUE, as in -p ssim.window=7")
        if name not in given:
            raise UserError(f"-p {assignment}: the metric {name} is not used; --metrics has {', '.join(given)}")
        given[name].append(rest)
    return {one.entry.name: parameters(one.entry, "-p", tuple(given[one.entry.name])) for one in chosen}


def _refusal(metric: Registered, shape: ImageShape, params: Mapping[str, Any]) -> str:
    """Return why a metric cannot score images of a shape here; empty if it can."""
    complete = metric.entry.complete(params)
    reasons = metric.entry.refusals(shape, complete)
    return "; ".join(reasons) or lacking(metric.entry, shape, complete) or ""


def _columns(entry: MetricEntry) -> Iterator[Column]:
    """Yield the column of each score of a metric."""
    for score in map(entry.score, entry.score_names):
        facts = {fact: getattr(score, fact) for fact in ("name", "direction", "unit", "digits", "score_range")}
        yield Column(family=entry.family, rounded=entry.rounded, **facts)
