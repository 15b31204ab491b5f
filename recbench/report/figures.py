"""Figures for papers, drawn by matplotlib: the same input gives the same bytes."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from recbench.errors import UserError
from recbench.render.text import head
from recbench.report import series, sheets
from recbench.report.content import BoardView
from recbench.report.lettering import families, literal
from recbench.report.plotly_traces import WIDE
from recbench.report.series import PALETTE
from recbench.report.sheets import Sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 6.75
"""Inches: the text width of a page with two columns."""
TILES = 10
"""The most tiles in a row of a sheet."""
TILE_PIXELS = 128
"""The minimum width of a tile in pixels."""
GAP = 6
"""Pixels between tiles."""
MARKERS = "osD^PXhvxp"
_STYLE: Any = {
    "font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "legend.fontsize": 7, "xtick.labelsize": 7,
    "ytick.labelsize": 7, "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6,
    "lines.linewidth": 1.1, "legend.frameon": False, "svg.hashsalt": "recbench", "pdf.fonttype": 42,
    "axes.grid": True, "grid.color": "#e6e8eb", "grid.linewidth": 0.5, "axes.axisbelow": True,
}  # fmt: skip
_METADATA: dict[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
}


def _style() -> Any:
    return {**_STYLE, "font.family": list(families())}


def render(figure: Figure, form: str) -> bytes:
    """Return a figure as ``pdf``, ``png`` (300 dots per inch) or ``svg``, without dates or versions in its metadata."""
    import matplotlib as mpl

    stream = io.BytesIO()
    with mpl.rc_context(_style()):
        figure.savefig(stream, format=form, dpi=300, bbox_inches="tight", metadata=_METADATA[form])
    return stream.getvalue()


def _figure(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """Return a figure that needs no window system, and its axes as an array."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_style()):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots(rows, columns, squeeze=False, **options)


def _look(view: BoardView, index: int) -> dict[str, Any]:
    place = series.marks(view)[index]
    return {"color": PALETTE[place], "marker": MARKERS[place]}


def curves(view: BoardView) -> Figure | None:
    """Draw training curves with one panel per quantity and one line per job."""
    drawn = ("validation_psnr", "objective", "reconstruction", "kl", "validation")
    known = [name for name in series.quantities(view) if name in drawn]
    if not known:
        return None
    rows = 1 if len(known) < 4 else 2
    figure, axes = _figure(WIDTH, rows * (2.4 if len(known) < 3 else 2.1), rows, math.ceil(len(known) / rows))
    for axis in axes.flat[len(known) :]:
        axis.set_visible(False)
    for axis, name in zip(axes.flat, known, strict=False):
        labelled: set[str] = set()
        for curve in series.curves(view, name):
            label = None if curve.method.label in labelled else literal(curve.method.label)
            labelled.add(curve.method.label)
            look = _look(view, curve.method.index)
            axis.plot(curve.epochs, curve.values, color=look["color"], label=label, alpha=0.9)
            if curve.status in ("failed", "diverged"):
                axis.plot(curve.epochs[-1], curve.values[-1], "x", color=look["color"])
        axis.set(xlabel="epoch", title=literal(series.QUANTITIES[name] if name == "validation_psnr" else name))
        axis.xaxis.get_major_locator().set_params(integer=True)
        if name not in ("kl", "validation_psnr") and all(min(curve.values) > 0 for curve in series.curves(view, name)):
            axis.set_yscale("log")
    _legend(figure, axes[0][0], view)
    return figure


def kernel_widths(view: BoardView) -> Figure | None:
    """Draw what estimated kernels are like by epoch, with one panel per quantity and one line per method and image."""
    if not series.kernels(view, "width"):
        return None
    figure, axes = _figure(WIDTH, 2.2, 1, len(series.KERNEL_SHAPES))
    for axis, (name, title) in zip(axes[0], series.KERNEL_SHAPES.items(), strict=True):
        labelled: set[str] = set()
        for curve in series.kernels(view, name):
            label = None if curve.method.label in labelled else literal(curve.method.label)
            labelled.add(curve.method.label)
            axis.plot(
                curve.epochs, curve.values, color=_look(view, curve.method.index)["color"], label=label, alpha=0.9
            )
        axis.set(xlabel="epoch", title=literal(title))
        axis.set_ylim(bottom=0)
        axis.xaxis.get_major_locator().set_params(integer=True)
    _legend(figure, axes[0][0], view)
    return figure


def _logarithmic(axis: Axes) -> None:
    """Make the x axis logarithmic, with plain-number ticks at 1, 2 and 5 times each power of ten."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axis.xaxis.set_minor_formatter(NullFormatter())


def _legend(figure: Figure, axis: Axes, view: BoardView) -> None:
    """Add one legend for all panels; with more methods than colours, colours stand for families."""
    from matplotlib.lines import Line2D

    if len(view.methods) > len(PALETTE):
        places = series.families(view.board.rows)
        handles: list[Any] = [
            Line2D([], [], color=PALETTE[place % len(PALETTE)], label=literal(family))
            for family, place in places.items()
        ]
    else:
        handles = axis.get_legend_handles_labels()[0]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 6) or 1)


def spectra(view: BoardView) -> Figure | None:
    """Draw radial profiles of mean log spectra and their differences from the data (Bredell et al. 2023, figure 6)."""
    lines, _ = series.profiles(view)
    if not lines:
        return None
    figure, axes = _figure(WIDTH, 2.4, 1, 2)
    for line in lines:
        look = {"color": "black", "linestyle": ":"} if line.method is None else {}
        label = "test images" if line.method is None else literal(line.method.label)
        if line.method is not None:
            look = {"color": _look(view, line.method.index)["color"]}
        axes[0][0].plot(line.frequencies, line.values, label=label, **look)
        if line.method is not None:
            axes[0][1].plot(line.frequencies, line.values - lines[0].values, **look)
    axes[0][1].axhline(0, color="black", linestyle=":", linewidth=1)
    axes[0][0].set(xlabel="frequency [cycles/pixel]", ylabel="mean log |F|")
    axes[0][1].set(xlabel="frequency [cycles/pixel]", ylabel="difference from the data")
    _legend(figure, axes[0][0], view)
    return figure


def tiers(view: BoardView) -> Figure | None:
    """Draw ranks and rank intervals over all ranking metrics."""
    found = series.rank_intervals(view).get(series.OVERALL)
    if not found:
        return None
    figure, axes = _figure(WIDTH / 2 + 1, 0.5 + 0.17 * len(found))
    axis = axes[0][0]
    for line in found:
        color = _look(view, line.method.index)["color"]
        axis.plot(line.interval, [line.row] * 2, color=color, linewidth=2.5, alpha=0.5, solid_capstyle="round")
        axis.plot(line.rank, line.row, "o", color=color, markersize=4)
    for number, group in enumerate(series.groups(view, series.OVERALL)):
        x = len(found) + 0.6 + 0.3 * number * max(1, len(found) / 25)
        axis.plot([x, x], [group[0] - 0.25, group[-1] + 0.25], color="0.55", linewidth=1.6, solid_capstyle="butt")
    axis.set(xlabel="rank", yticks=range(len(found)), yticklabels=[literal(line.method.label[:40]) for line in found])
    axis.set_ylim(len(found) - 0.4, -0.6)
    axis.grid(visible=False, axis="y")
    return figure


def critical_difference(view: BoardView) -> Figure | None:
    """Draw mean ranks on an axis, with bars over methods that do not differ significantly (Demšar 2006, figure 1)."""
    found = series.rank_intervals(view).get(series.OVERALL)
    if not found or len(found) < 2:
        return None
    ranks = [line.method.row.mean_rank or 0.0 for line in found]
    left = (len(found) + 1) // 2
    groups = series.groups(view, series.OVERALL)
    figure, axes = _figure(WIDTH, 0.6 + 0.12 * len(groups) + 0.19 * left)
    axis = axes[0][0]
    low, high = math.floor(min(ranks)), math.ceil(max(ranks))
    high = max(high, low + 1)
    margin = 0.45 * (high - low)
    axis.set_xlim(low - margin, high + margin)
    for side in ("left", "bottom"):
        axis.spines[side].set_visible(False)
    axis.set(yticks=[], xticks=[])
    axis.grid(visible=False)
    axis.plot([low, high], [0, 0], color="black", linewidth=0.8)
    step = max(1, (high - low) // 10)
    for tick in range(low, high + 1, step):
        axis.plot([tick, tick], [0, 0.25], color="black", linewidth=0.8)
        axis.text(tick, 0.4, str(tick), ha="center", va="bottom")
    depth = -0.5
    for group in groups:
        ends = [ranks[row] for row in group]
        axis.plot([min(ends) - 0.02, max(ends) + 0.02], [depth, depth], color="black", linewidth=2.2)
        depth -= 0.55
    for row, (line, mean) in enumerate(zip(found, ranks, strict=True)):
        near = row < left
        y = depth - 0.3 - (row if near else len(found) - 1 - row)
        end = low - 0.1 * margin if near else high + 0.1 * margin
        axis.plot([mean, mean, end], [0, y, y], color="0.35", linewidth=0.7)
        text = f"{line.method.label[:30]}  {mean:.2f}" if near else f"{mean:.2f}  {line.method.label[:30]}"
        axis.text(end, y, literal(text), ha="right" if near else "left", va="center")
    axis.set_ylim(depth - 0.3 - left, 1.4)
    return figure


def rate_distortion(view: BoardView) -> Figure | None:
    """Draw every metric against KL: curves over KL weights if there are any, otherwise one point per method."""
    if view.rate is not None:
        found = {head(column): series.rate_curves(view.rate, column.name) for column in view.rate.columns}
        return _line_panels(found, dict.fromkeys(found, ("KL [nats per image]", True)))
    return _scatter(view, {"kl": ("KL [nats per image]", series.rate)}, log=False)


def tuning(view: BoardView) -> Figure | None:
    """Draw the trials of tuning: scores by each tuned value, and best-of-k curves."""
    if view.tuning is None:
        return None
    metric = f"{view.tuning.metric} (validation)"
    found = {f"{metric} by {name}": series.tried(view, name) for name in series.axes(view)}
    found[f"best {metric}"] = series.best_of_k(view)
    logs = {axis.name for search in view.searches for axis in search.axes if axis.log}
    across = {f"{metric} by {name}": (name, name in logs) for name in series.axes(view)}
    return _line_panels(
        {**found, f"best {metric}": series.best_of_k(view)}, {**across, f"best {metric}": ("trials", False)}
    )


def _line_panels(found: Mapping[str, list[series.PlotLine]], across: Mapping[str, tuple[str, bool]]) -> Figure | None:
    """Draw one panel per title, one line per loss; ``across`` has x labels and whether x is logarithmic."""
    panels = {title: lines for title, lines in found.items() if lines}
    if not panels:
        return None
    columns = min(3, len(panels))
    down = math.ceil(len(panels) / columns)
    figure, axes = _figure(WIDTH if columns > 1 else WIDTH / 2, 2.0 * down + 0.3, down, columns)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    labels = list(dict.fromkeys(line.label for lines in panels.values() for line in lines))
    for axis, (title, lines) in zip(axes.flat, panels.items(), strict=False):
        for line in lines:
            place = labels.index(line.label) % len(PALETTE)
            look = {"color": PALETTE[place], "marker": MARKERS[place], "linestyle": "-" if line.joined else ""}
            axis.plot(line.x, line.y, markersize=3, label=literal(line.label), **look)
            if line.chosen is not None:
                axis.plot(line.x[line.chosen], line.y[line.chosen], MARKERS[place], color=PALETTE[place], markersize=7)
        name, log = across[title]
        axis.set(xlabel=literal(name), ylabel=literal(title))
        if log and all(x > 0 for line in lines for x in line.x):
            _logarithmic(axis)
    handles = {
        text: handle for axis in axes.flat for handle, text in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles=list(handles.values()), loc="outside lower center", ncols=min(len(handles), 6))
    return figure


def cost(view: BoardView) -> Figure | None:
    """Draw every metric against the time per step, with the Pareto front."""
    return _scatter(view, {"step": series.COSTS["step"]}, log=True)


def _scatter(view: BoardView, measures: Mapping[str, tuple[str, series.Measure]], *, log: bool) -> Figure | None:
    ((title, measure),) = measures.values()
    metrics = [(column, series.points(view, column.name, measure)) for column in view.board.columns]
    metrics = [(column, found) for column, found in metrics if found]
    if not metrics:
        return None
    across = min(3, len(metrics))
    down = math.ceil(len(metrics) / across)
    figure, axes = _figure(WIDTH if across > 1 else WIDTH / 2, 2.0 * down + 0.3, down, across)
    for axis in axes.flat[len(metrics) :]:
        axis.set_axis_off()
    for axis, (column, found) in zip(axes.flat, metrics, strict=False):
        for own in series.ladders(found):
            axis.plot([p.x for p in own], [p.y for p in own], color=_look(view, own[0].method.index)["color"], lw=0.8)
        if log:
            best = series.front(found, column)
            axis.step([p.x for p in best], [p.y for p in best], where="post", color="0.6", linestyle=":", zorder=1)
            if min(point.x for point in found) > 0 and max(p.x for p in found) >= WIDE * min(p.x for p in found):
                _logarithmic(axis)
        for point in found:
            look = _look(view, point.method.index)
            axis.plot(point.x, point.y, linestyle="", markersize=4, label=literal(point.method.label), **look)
            low, high = min(s[2] for s in point.seeds), max(s[2] for s in point.seeds)
            axis.plot([point.x, point.x], [low, high], color=look["color"], linewidth=0.8)
        axis.set(xlabel=literal(title), ylabel=literal(head(column)))
    _legend(figure, axes[0][0], view)
    return figure


def sheet(found: Sheet) -> Figure:
    """Draw rows of tiles with the methods' names on the left; pixels are repeated, never interpolated."""
    rows, columns = found.rows, _columns(found, TILES)
    height, width = found.shape
    zoom = max(1, -(-TILE_PIXELS // width))  # so that gaps are thin and viewers need not enlarge the image
    down, across = height * zoom + GAP, width * zoom + GAP
    canvas = np.full((down * len(rows) - GAP, across * len(columns) - GAP, 3), 255, dtype=np.uint8)
    for y, row in enumerate(rows):
        for x, column in enumerate(columns):
            image = row.images[column]
            pixels = image[:3] if len(image) >= 3 else image[:1].repeat(3, axis=0)
            tile = pixels.transpose(1, 2, 0).repeat(zoom, axis=0).repeat(zoom, axis=1)
            canvas[y * down : y * down + height * zoom, x * across : x * across + width * zoom] = tile
    inches = min(0.62, (WIDTH - 1.2) / len(columns)) * len(columns)
    figure, axes = _figure(1.2 + inches, inches * canvas.shape[0] / canvas.shape[1] + 0.3)
    axis = axes[0][0]
    axis.imshow(canvas, interpolation="none")
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
    middles = [height * zoom / 2 + y * down for y in range(len(rows))]
    axis.set_yticks(middles, [literal(row.label[:40]) for row in rows])
    axis.tick_params(length=0)
    axis.set_xticks([])
    if found.name in ("kernels", "interpolations", "spectra"):
        axis.xaxis.tick_top()
        heads = [literal(found.heads[column]) for column in columns]
        axis.set_xticks([width * zoom / 2 + x * across for x in range(len(columns))], heads)
    return figure


def _columns(found: Sheet, most: int) -> list[int]:
    """Return at most ``most`` columns of a sheet, spread evenly over its groups."""
    if len(found.groups) == 1:
        own = found.groups[0].columns
        return [own[place] for place in sheets.spread(len(own), most)]
    if found.name == "interpolations":
        return list(found.groups[0].columns)
    each = max(1, most // len(found.groups))
    return list(dict.fromkeys(column for group in found.groups for column in group.columns[:each]))


PLOTS: dict[str, Callable[[BoardView], Figure | None]] = {
    "tiers": tiers,
    "critical-difference": critical_difference,
    "curves": curves,
    "kernel-widths": kernel_widths,
    "spectra": spectra,
    "rate-distortion": rate_distortion,
    "cost": cost,
    "tuning": tuning,
}
"""Figures that need a board only."""


def draw(name: str, view: BoardView) -> Figure:
    """Draw one of :data:`PLOTS`.

    Raises:
        UserError: the jobs did not store what the figure needs.
    """
    import matplotlib as mpl

    with mpl.rc_context(_style()):
        figure = PLOTS[name](view)
    if figure is None:
        raise UserError(f"nothing to draw for {name}: no job of {view.board.setting} stored what it needs")
    return figure
