"""Interactive plots: figures as plotly.js takes them, as plain data, in views that a reader chooses between.

Colours of text and grid come from the page, so that light and dark need no second figure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recbench.analysis.rate_distortion import RateDistortion
from recbench.plan.model import Column
from recbench.render.leaderboard import ARROWS
from recbench.report import series
from recbench.report.content import BoardView, MethodView
from recbench.report.series import PALETTE, PlotCurve, PlotLine, PlotPoint

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon", "triangle-down", "x", "pentagon")

WIDE = 10
"""How many times as large the largest value is as the smallest where a logarithmic scale is the first choice."""
GROUPS = 12
"""Groups of methods that cannot be told apart which a plot has room for."""
NAMED = 12
"""Methods up to which points carry their names."""


@dataclass(frozen=True)
class Select:
    """Something that a reader chooses, with the titles of the choices."""

    label: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class Chart:
    """A plot.

    Attributes:
        selects: what is chosen; none where there is one view only.
        scales: whether the reader may choose a logarithmic scale for y.
        views: by the indices of the choices, as ``"0,2"``: ``{"data": traces, "layout": layout}`` of plotly.js. A trace
            carries its method's label in ``meta``.
        alt: what the plot shows, for those who do not see it.
    """

    name: str
    alt: str
    selects: tuple[Select, ...]
    views: Mapping[str, Mapping[str, Any]]
    scales: bool = False

    def data(self) -> dict[str, Any]:
        """All of it, for JSON."""
        selects = [{"label": select.label, "options": select.options} for select in self.selects]
        return {"name": self.name, "alt": self.alt, "selects": selects, "views": self.views, "scales": self.scales}


def curves(view: BoardView) -> Chart | None:
    """Training curves: a line for each job."""
    known = series.quantities(view)
    marks = _marks(view)
    views = {}
    for number, (name, title) in enumerate(known.items()):
        found = series.curves(view, name)
        values = [value for curve in found for value in curve.values]
        ticks = {"dtick": 1} if max(curve.epochs[-1] for curve in found) <= 12 else {"tickformat": "d"}
        layout = {
            "xaxis": {"title": {"text": "epoch"}, **ticks},
            "yaxis": {"title": {"text": title}, **_logarithmic(values)},
        }
        traces = [_curve(curve, marks) for curve in found]
        views[str(number)] = {"data": _legend(traces), "layout": layout}
    if not views:
        return None
    alt = "Training curves: the chosen quantity by epoch, a line for each job"
    return Chart("curves", alt, (Select("show", tuple(known.values())),), views, scales=True)


def _logarithmic(values: Sequence[float]) -> dict[str, Any]:
    """What makes an axis logarithmic, with ticks at 1, 2 and 5, where values span enough for that."""
    positive = [value for value in values if value > 0]
    wide = len(positive) == len(values) > 0 and max(positive) >= WIDE * min(positive)
    return {"type": "log", "dtick": "D2"} if wide else {}


def _curve(curve: PlotCurve, marks: _Marks) -> dict[str, Any]:
    ended = curve.status in ("failed", "diverged")
    trace = _base(curve.method, marks)
    every = list(range(int(curve.epochs[0]), int(curve.epochs[0]) + len(curve.epochs)))
    trace |= {"x0": every[0], "dx": 1} if list(curve.epochs) == every else {"x": list(curve.epochs)}
    trace |= {
        "y": [_short(value) for value in curve.values],
        "mode": "lines+markers" if ended or len(curve.values) < 2 else "lines",
        "hovertemplate": _hover(curve.method, f"seed {curve.seed}, epoch %{{x}}: %{{y:.5g}}{_ended(curve)}"),
    }
    trace["line"] = {"color": trace["marker"]["color"], "width": 1.6}
    if ended:  # the last point of a curve that broke off
        trace["marker"] = {**trace["marker"], "symbol": "x", "size": [0] * (len(curve.values) - 1) + [9]}
    return trace


def _ended(curve: PlotCurve) -> str:
    return f" ({curve.status})" if curve.status in ("failed", "diverged") else ""


def spectra(view: BoardView) -> Chart | None:
    """Radial profiles of spectra, and their difference to the data's."""
    lines, what = series.profiles(view)
    if not lines:
        return None
    marks = _marks(view)
    data = lines[0]
    views = {}
    for number, title in enumerate(("mean log |F|", "difference of log |F| to the data's")):
        traces = []
        for line in lines:
            values = line.values - data.values if number else line.values
            if line.method is None:
                trace: dict[str, Any] = {"name": "test images", "line": {"dash": "dot", "width": 2.5}, "ink": True}
            else:
                trace = _base(line.method, marks)
                trace["line"] = {"color": trace["marker"]["color"], "width": 1.6}
                trace["hovertemplate"] = _hover(line.method, "%{x:.3f} cycles/pixel: %{y:.3f}")
            trace |= {"x": line.frequencies.round(5).tolist(), "y": [_short(value) for value in values.tolist()]}
            traces.append({**trace, "mode": "lines"})
        layout = {"xaxis": {"title": {"text": "frequency [cycles/pixel]"}}, "yaxis": {"title": {"text": title}}}
        views[str(number)] = {"data": _legend(traces), "layout": layout}
    select = Select("show", ("difference to the data", "profiles"))
    alt = f"Radial profiles of the mean log spectra of {what}, a line for each method"
    return Chart("spectra", alt, (select,), {"0": views["1"], "1": views["0"]})


def tiers(view: BoardView) -> Chart | None:
    """Places that cannot be ruled out, and which methods cannot be told apart: overall, and by each metric."""
    board, marks = view.board, _marks(view)
    views: dict[str, Any] = {}
    options: list[str] = []
    for title, found in series.rank_intervals(view).items():
        count = len(found)
        traces = []
        for line in found:
            trace = _base(line.method, marks)
            low, high = line.interval
            trace |= {"x": [low, line.place, high], "y": [line.row] * 3, "mode": "lines+markers", "showlegend": False}
            trace["line"] = {"color": trace["marker"]["color"], "width": 5 if low != high else 0}
            trace["marker"] = {"color": trace["marker"]["color"], "size": [0, 11, 0], "opacity": 1}
            told = f"place {line.place:g}; {low} to {high} cannot be ruled out, tier {line.tier}"
            trace["hovertemplate"] = _hover(line.method, told)
            traces.append(trace)
        groups = series.groups(view, title)[:GROUPS]
        for number, group in enumerate(groups):
            x = count + 0.8 + 0.35 * number * max(1, count / 25)
            bar = {"x": [x, x], "y": [min(group), max(group)], "mode": "lines", "line": {"width": 3}, "muted": True}
            traces.append({**bar, "type": "scatter", "showlegend": False, "hoverinfo": "skip"})
        labels = [_escape(_cut(line.method.label, 28)) for line in found]
        layout = {
            "xaxis": {
                "title": {"text": "place"},
                "range": [0.4, count + 0.8 + 0.35 * len(groups) * max(1, count / 25)],
                **({"dtick": 1} if count <= 15 else {}),
            },
            "yaxis": {
                "tickvals": [line.row for line in found],
                "ticktext": labels,
                "range": [count - 0.3, -0.7],
                "showgrid": False,
                "zeroline": False,
            },
            "height": 110 + 24 * count,
        }
        views[str(len(options))] = {"data": traces, "layout": layout}
        options.append(title)
    if not views:
        return None
    percent = f"{100 * (board.confidence or 0):.3g}%"
    alt = f"For each method its place, and the places that cannot be ruled out at {percent} confidence"
    return Chart("tiers", alt, (Select("by", tuple(options)),), views)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def rate_distortion(view: BoardView) -> Chart | None:
    """Every metric against KL: curves over the ladder where there are any, otherwise a point for each method."""
    if view.rate is not None:
        return _rate_curves(view.rate)
    return _scatter(
        view,
        "rate-distortion",
        "Scores against KL in nats per test image, a point for each method",
        {"kl": ("KL [nats per image]", series.rate)},
        log=False,
    )


def _rate_curves(rate: RateDistortion) -> Chart | None:
    views: dict[str, Any] = {}
    titles: list[str] = []
    for column in rate.columns:
        lines = series.rate_curves(rate, column.name)
        if lines:
            layout = {
                "xaxis": {
                    "title": {"text": "KL [nats per image]"},
                    **_logarithmic([x for line in lines for x in line.x]),
                },
                "yaxis": {"title": {"text": title_of(column)}},
            }
            views[str(len(titles))] = {
                "data": _lines([_positive(line) for line in lines], f"{_escape(column.name)} %{{y:.5g}}"),
                "layout": layout,
            }
            titles.append(title_of(column))
    alt = f"Scores on the {rate.split} images against KL in nats per image, a line for each loss"
    return Chart("rate-distortion", alt, (Select("metric", tuple(titles)),), views) if views else None


def _positive(line: PlotLine) -> PlotLine:
    """The points that a logarithmic axis can show."""
    keep = [place for place, x in enumerate(line.x) if x > 0]
    x, y = (tuple(each[place] for place in keep) for each in (line.x, line.y))
    return PlotLine(line.label, x, y, tuple(line.texts[place] for place in keep), joined=line.joined)


def _lines(lines: Sequence[PlotLine], text: str) -> list[dict[str, Any]]:
    """Named lines with their points."""
    traces = []
    for number, line in enumerate(lines):
        place = number % len(PALETTE)
        sizes = [13 if point == line.chosen else 7 for point in range(len(line.x))]
        label = _escape(_cut(line.label, 28))
        traces.append(
            {
                "name": label,
                "meta": f"loss {line.label}",
                "type": "scatter",
                "mode": "lines+markers" if line.joined else "markers",
                "x": [_short(x) for x in line.x],
                "y": [_short(y) for y in line.y],
                "text": [_escape(_cut(each, 60)) for each in line.texts],
                "line": {"color": PALETTE[place], "width": 1.6},
                "marker": {"color": PALETTE[place], "symbol": SYMBOLS[place], "size": sizes, "opacity": 1},
                "hovertemplate": f"<b>{label}</b> %{{text}}<br>%{{x:.4g}}, {text}<extra></extra>",
            }
        )
    return traces


def tuning(view: BoardView) -> Chart | None:
    """What tuning tried: scores on the validation images by each value, and best-of-k curves."""
    if view.tuning is None:
        return None
    metric = f"{view.tuning.metric} on validation images"
    views: dict[str, Any] = {}
    titles: list[str] = []
    for name in series.axes(view):
        lines = series.tried(view, name)
        log = any(axis.log for search in view.searches for axis in search.axes if axis.name == name)
        if lines:
            layout = {
                "xaxis": {
                    "title": {"text": name},
                    **(_logarithmic([x for line in lines for x in line.x]) if log else {}),
                },
                "yaxis": {"title": {"text": metric}},
            }
            views[str(len(titles))] = {"data": _lines(lines, "%{y:.5g}"), "layout": layout}
            titles.append(f"by {name}")
    lines = series.best_of_k(view)
    if lines:
        layout = {
            "xaxis": {"title": {"text": "candidates tried"}, "dtick": 1},
            "yaxis": {"title": {"text": f"best {metric}"}},
        }
        views[str(len(titles))] = {"data": _lines(lines, "%{y:.5g}"), "layout": layout}
        titles.append("best of k")
    alt = "Scores of the candidates of tuning, a line for each loss; the chosen one is large"
    return Chart("tuning", alt, (Select("show", tuple(titles)),), views) if views else None


def cost(view: BoardView) -> Chart | None:
    """Every metric against what training took, with the Pareto front."""
    alt = "Scores against what training took, a point for each method, and the Pareto front"
    return _scatter(view, "cost", alt, series.COSTS, log=True)


def _scatter(
    view: BoardView, name: str, alt: str, measures: Mapping[str, tuple[str, series.Measure]], *, log: bool
) -> Chart | None:
    marks = _marks(view)
    columns = [column for column in view.board.columns if any(column.name in m.row.cells for m in view.methods)]
    views: dict[str, Any] = {}
    for number, column in enumerate(columns):
        for place, (title, measure) in enumerate(measures.values()):
            found = series.points(view, column.name, measure)
            traces = [_point(point, column, marks, named=len(found) <= NAMED) for point in found]
            if log:
                traces.insert(0, _front(found, column))
            else:
                traces = [_ladder(own, marks) for own in series.ladders(found)] + traces
            layout = {
                "xaxis": {"title": {"text": title}, **(_logarithmic([p.x for p in found]) if log else {})},
                "yaxis": {"title": {"text": title_of(column)}},
                "showlegend": len(found) > NAMED,
            }
            views[f"{number},{place}"] = {"data": _legend(traces), "layout": layout}
    if not any(trace for view_ in views.values() for trace in view_["data"] if trace.get("meta")):
        return None
    selects = (
        Select("metric", tuple(title_of(column) for column in columns)),
        Select("against", tuple(title for title, _ in measures.values())),
    )
    return Chart(name, alt, selects, views)


def title_of(column: Column) -> str:
    """``psnr [dB] ↑``."""
    return f"{column.name}{f' [{column.unit}]' if column.unit else ''} {ARROWS[column.direction]}"


def _point(point: PlotPoint, column: Column, marks: _Marks, *, named: bool) -> dict[str, Any]:
    trace = _base(point.method, marks)
    trace |= {"x": [_short(point.x)], "y": [_short(point.y)], "mode": "markers"}
    if named:
        text = _escape(_cut(point.method.label, 24))
        trace |= {"mode": "markers+text", "text": [text], "textposition": "top center", "cliponaxis": False}
    trace["marker"] = {**trace["marker"], "size": 10}
    if len(point.seeds) > 1:
        low, high = min(seed[2] for seed in point.seeds), max(seed[2] for seed in point.seeds)
        trace["error_y"] = {
            "type": "data",
            "symmetric": False,
            "array": [_short(high - point.y)],
            "arrayminus": [_short(point.y - low)],
            "thickness": 1,
            "width": 0,
        }
    trace["hovertemplate"] = _hover(point.method, f"%{{x:.4g}}, {_escape(column.name)} %{{y:.5g}}")
    return trace


def _ladder(own: Sequence[PlotPoint], marks: _Marks) -> dict[str, Any]:
    base = _base(own[0].method, marks)
    return {
        "x": [_short(point.x) for point in own],
        "y": [_short(point.y) for point in own],
        "mode": "lines",
        "line": {"color": base["marker"]["color"], "width": 1},
        "showlegend": False,
        "hoverinfo": "skip",
    }


def _front(found: Sequence[PlotPoint], column: Column) -> dict[str, Any]:
    best = series.front(found, higher=column.direction == "higher")
    return {
        "name": "Pareto front",
        "x": [_short(point.x) for point in best],
        "y": [_short(point.y) for point in best],
        "mode": "lines",
        "line": {"shape": "hv", "dash": "dot", "width": 1.2},
        "muted": True,
        "hoverinfo": "skip",
    }


@dataclass(frozen=True)
class _Marks:
    """Places in the palette by the index of the method, and whether they mean families, as methods are too many."""

    places: Mapping[int, int]
    families: bool


def _marks(view: BoardView) -> _Marks:
    return _Marks(series.marks(view), families=len(view.methods) > len(PALETTE))


def _base(method: MethodView, marks: _Marks) -> dict[str, Any]:
    """What every trace of a method has. Names are text in which plotly.js would read tags."""
    place = marks.places[method.index]
    marker: dict[str, Any] = {"color": PALETTE[place], "symbol": SYMBOLS[place]}
    name = (method.row.family or "other") if marks.families else method.label
    group = name if marks.families else str(method.index)
    trace = {"name": _escape(_cut(name, 28)), "meta": method.label, "type": "scatter", "marker": marker}
    return {**trace, "legendgroup": group}


def _legend(traces: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry of the legend for each method, or family."""
    seen: set[str] = set()
    for trace in traces:
        group = trace.get("legendgroup")
        if group is not None and trace.get("showlegend", True):
            trace["showlegend"] = group not in seen
            seen.add(group)
    return traces


def _hover(method: MethodView, text: str) -> str:
    return f"<b>{_escape(_cut(method.label, 60))}</b><br>{text}<extra></extra>"


def _escape(text: str) -> str:
    """Text that plotly.js shows as it is: it reads a few tags, and %{…} in templates."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("%{", "%\u200b{")


def _short(value: float) -> float | None:
    """Six significant digits, which no screen shows more of; JSON has no infinity."""
    return float(f"{value:.6g}") if math.isfinite(value) else None
