"""Interactive plots: plotly.js figures as plain data, each with several views that the reader can switch between.

The page sets the colours of text and grid, so that one figure serves both the light and the dark theme.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recbench.analysis.rate_distortion import RateDistortion
from recbench.plan.model import Column
from recbench.render.text import head
from recbench.report import series
from recbench.report.content import BoardView
from recbench.report.plotly_traces import (
    Marks,
    escaped,
    hover_text,
    line_traces,
    logarithmic,
    marks_of,
    method_trace,
    positive_points,
    rounded,
    shortened,
    with_legend,
)
from recbench.report.series import PlotCurve, PlotPoint

GROUPS = 12
"""The most bars over methods that do not differ significantly that a plot shows."""
NAMED = 12
"""The most methods for which points are labelled by name."""


@dataclass(frozen=True)
class Select:
    """A drop-down menu with the titles of its options."""

    label: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class Chart:
    """An interactive plot.

    Attributes:
        selects: drop-down menus; empty if there is only one view.
        scales: whether the reader may switch the y axis between linear and logarithmic.
        views: plotly.js figures, ``{"data": traces, "layout": layout}``, by the indices of the selected options, such
            as ``"0,2"``. The ``meta`` of a trace is its method's label.
        alt: text alternative for screen readers.
    """

    name: str
    alt: str
    selects: tuple[Select, ...]
    views: Mapping[str, Mapping[str, Any]]
    scales: bool = False

    def data(self) -> dict[str, Any]:
        """Return the chart as data for JSON."""
        selects = [{"label": select.label, "options": select.options} for select in self.selects]
        return {"name": self.name, "alt": self.alt, "selects": selects, "views": self.views, "scales": self.scales}


def curves(view: BoardView) -> Chart | None:
    """Return training curves with one line per job, or None if no job has a history."""
    known = series.quantities(view)
    marks = marks_of(view)
    views = {}
    for number, (name, title) in enumerate(known.items()):
        found = series.curves(view, name)
        values = [value for curve in found for value in curve.values]
        ticks = {"dtick": 1} if max(curve.epochs[-1] for curve in found) <= 12 else {"tickformat": "d"}
        layout = {
            "xaxis": {"title": {"text": "epoch"}, **ticks},
            "yaxis": {"title": {"text": title}, **logarithmic(values)},
        }
        traces = [_curve(curve, marks) for curve in found]
        views[str(number)] = {"data": with_legend(traces), "layout": layout}
    if not views:
        return None
    alt = "Training curves: the selected quantity by epoch, one line per job"
    return Chart("curves", alt, (Select("show", tuple(known.values())),), views, scales=True)


def _curve(curve: PlotCurve, marks: Marks) -> dict[str, Any]:
    ended = curve.status in ("failed", "diverged")
    trace = method_trace(curve.method, marks)
    every = list(range(int(curve.epochs[0]), int(curve.epochs[0]) + len(curve.epochs)))
    trace |= {"x0": every[0], "dx": 1} if list(curve.epochs) == every else {"x": list(curve.epochs)}
    trace |= {
        "y": [rounded(value) for value in curve.values],
        "mode": "lines+markers" if ended or len(curve.values) < 2 else "lines",
        "hovertemplate": hover_text(curve.method, f"seed {curve.seed}, epoch %{{x}}: %{{y:.5g}}{_ended(curve)}"),
    }
    trace["line"] = {"color": trace["marker"]["color"], "width": 1.6}
    if ended:  # mark the last epoch of a job that failed or diverged
        trace["marker"] = {**trace["marker"], "symbol": "x", "size": [0] * (len(curve.values) - 1) + [9]}
    return trace


def _ended(curve: PlotCurve) -> str:
    return f" ({curve.status})" if curve.status in ("failed", "diverged") else ""


def kernels(view: BoardView) -> Chart | None:
    """Return what estimated kernels are like by epoch, with one line per method and image, or None without kernels."""
    marks = marks_of(view)
    views: dict[str, Any] = {}
    for number, name in enumerate(series.KERNEL_SHAPES):
        found = series.kernels(view, name)
        traces = []
        for curve in found:
            trace = method_trace(curve.method, marks)
            trace |= {"x": list(curve.epochs), "y": [rounded(value) for value in curve.values], "mode": "lines"}
            trace["line"] = {"color": trace["marker"]["color"], "width": 1.6}
            trace["hovertemplate"] = hover_text(curve.method, f"image {curve.image}, epoch %{{x}}: %{{y:.4g}}")
            traces.append(trace)
        if found:
            layout = {
                "xaxis": {"title": {"text": "epoch"}, "tickformat": "d"},
                "yaxis": {"title": {"text": series.KERNEL_SHAPES[name]}, "rangemode": "tozero"},
            }
            views[str(number)] = {"data": with_legend(traces), "layout": layout}
    if not views:
        return None
    alt = "Estimated kernels: the selected quantity by epoch, one line per method and test image"
    return Chart("kernel-widths", alt, (Select("show", tuple(series.KERNEL_SHAPES.values())),), views)


def spectra(view: BoardView) -> Chart | None:
    """Return radial profiles of spectra, and their differences from the profile of the test images."""
    lines, what = series.profiles(view)
    if not lines:
        return None
    marks = marks_of(view)
    data = lines[0]
    views = {}
    for number, title in enumerate(("mean log |F|", "difference of log |F| from the test images")):
        traces = []
        for line in lines:
            values = line.values - data.values if number else line.values
            if line.method is None:
                trace: dict[str, Any] = {"name": "test images", "line": {"dash": "dot", "width": 2.5}, "ink": True}
            else:
                trace = method_trace(line.method, marks)
                trace["line"] = {"color": trace["marker"]["color"], "width": 1.6}
                trace["hovertemplate"] = hover_text(line.method, "%{x:.3f} cycles/pixel: %{y:.3f}")
            trace |= {"x": line.frequencies.round(5).tolist(), "y": [rounded(value) for value in values.tolist()]}
            traces.append({**trace, "mode": "lines"})
        layout = {"xaxis": {"title": {"text": "frequency [cycles/pixel]"}}, "yaxis": {"title": {"text": title}}}
        views[str(number)] = {"data": with_legend(traces), "layout": layout}
    select = Select("show", ("difference from the test images", "profiles"))
    alt = f"Radial profiles of the mean log spectra of {what}, one line per method"
    return Chart("spectra", alt, (select,), {"0": views["1"], "1": views["0"]})


def tiers(view: BoardView) -> Chart | None:
    """Return ranks, rank intervals and bars over methods that do not differ significantly: overall and by metric."""
    board, marks = view.board, marks_of(view)
    views: dict[str, Any] = {}
    options: list[str] = []
    for title, found in series.rank_intervals(view).items():
        count = len(found)
        traces = []
        for line in found:
            trace = method_trace(line.method, marks)
            low, high = line.interval
            trace |= {"x": [low, line.rank, high], "y": [line.row] * 3, "mode": "lines+markers", "showlegend": False}
            trace["line"] = {"color": trace["marker"]["color"], "width": 5 if low != high else 0}
            trace["marker"] = {"color": trace["marker"]["color"], "size": [0, 11, 0], "opacity": 1}
            text = f"rank {line.rank:g}, rank interval {low} to {high}, tier {line.tier}"
            trace["hovertemplate"] = hover_text(line.method, text)
            traces.append(trace)
        groups = series.groups(view, title)[:GROUPS]
        for number, group in enumerate(groups):
            x = count + 0.8 + 0.35 * number * max(1, count / 25)
            bar = {"x": [x, x], "y": [min(group), max(group)], "mode": "lines", "line": {"width": 3}, "muted": True}
            traces.append({**bar, "type": "scatter", "showlegend": False, "hoverinfo": "skip"})
        labels = [escaped(shortened(line.method.label, 28)) for line in found]
        layout = {
            "xaxis": {
                "title": {"text": "rank"},
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
    alt = f"Rank and rank interval ({series.percent(board)}) of each method"
    return Chart("tiers", alt, (Select("by", tuple(options)),), views)


def rate_distortion(view: BoardView) -> Chart | None:
    """Return every metric against KL: curves over KL weights if there are any, otherwise one point per method."""
    if view.rate is not None:
        return _rate_curves(view.rate)
    return _scatter(
        view,
        "rate-distortion",
        "Scores against KL in nats per test image, one point per method",
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
                    **logarithmic([x for line in lines for x in line.x]),
                },
                "yaxis": {"title": {"text": head(column)}},
            }
            views[str(len(titles))] = {
                "data": line_traces([positive_points(line) for line in lines], f"{escaped(column.name)} %{{y:.5g}}"),
                "layout": layout,
            }
            titles.append(head(column))
    alt = f"Scores on the {rate.split} images against KL in nats per image, one line per loss"
    return Chart("rate-distortion", alt, (Select("metric", tuple(titles)),), views) if views else None


def tuning(view: BoardView) -> Chart | None:
    """Return the trials of tuning: validation scores by each tuned value, and best-of-k curves."""
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
                    **(logarithmic([x for line in lines for x in line.x]) if log else {}),
                },
                "yaxis": {"title": {"text": metric}},
            }
            views[str(len(titles))] = {"data": line_traces(lines, "%{y:.5g}"), "layout": layout}
            titles.append(f"by {name}")
    lines = series.best_of_k(view)
    if lines:
        layout = {
            "xaxis": {"title": {"text": "trials"}, "dtick": 1},
            "yaxis": {"title": {"text": f"best {metric}"}},
        }
        views[str(len(titles))] = {"data": line_traces(lines, "%{y:.5g}"), "layout": layout}
        titles.append("best of k")
    alt = "Validation scores of the trials of tuning, one line per loss; the chosen trial has the large marker"
    return Chart("tuning", alt, (Select("show", tuple(titles)),), views) if views else None


def cost(view: BoardView) -> Chart | None:
    """Return every metric against the cost of training, with the Pareto front."""
    alt = "Scores against the cost of training, one point per method, and the Pareto front"
    return _scatter(view, "cost", alt, series.COSTS, log=True)


def _scatter(
    view: BoardView, name: str, alt: str, measures: Mapping[str, tuple[str, series.Measure]], *, log: bool
) -> Chart | None:
    marks = marks_of(view)
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
                "xaxis": {"title": {"text": title}, **(logarithmic([p.x for p in found]) if log else {})},
                "yaxis": {"title": {"text": head(column)}},
                "showlegend": len(found) > NAMED,
            }
            views[f"{number},{place}"] = {"data": with_legend(traces), "layout": layout}
    if not any(trace for view_ in views.values() for trace in view_["data"] if trace.get("meta")):
        return None
    selects = (
        Select("metric", tuple(head(column) for column in columns)),
        Select("against", tuple(title for title, _ in measures.values())),
    )
    return Chart(name, alt, selects, views)


def _point(point: PlotPoint, column: Column, marks: Marks, *, named: bool) -> dict[str, Any]:
    trace = method_trace(point.method, marks)
    trace |= {"x": [rounded(point.x)], "y": [rounded(point.y)], "mode": "markers"}
    if named:
        text = escaped(shortened(point.method.label, 24))
        trace |= {"mode": "markers+text", "text": [text], "textposition": "top center", "cliponaxis": False}
    trace["marker"] = {**trace["marker"], "size": 10}
    if len(point.seeds) > 1:
        low, high = min(seed[2] for seed in point.seeds), max(seed[2] for seed in point.seeds)
        trace["error_y"] = {
            "type": "data",
            "symmetric": False,
            "array": [rounded(high - point.y)],
            "arrayminus": [rounded(point.y - low)],
            "thickness": 1,
            "width": 0,
        }
    trace["hovertemplate"] = hover_text(point.method, f"%{{x:.4g}}, {escaped(column.name)} %{{y:.5g}}")
    return trace


def _ladder(own: Sequence[PlotPoint], marks: Marks) -> dict[str, Any]:
    of_method = method_trace(own[0].method, marks)
    return {
        "x": [rounded(point.x) for point in own],
        "y": [rounded(point.y) for point in own],
        "mode": "lines",
        "line": {"color": of_method["marker"]["color"], "width": 1},
        "showlegend": False,
        "hoverinfo": "skip",
    }


def _front(found: Sequence[PlotPoint], column: Column) -> dict[str, Any]:
    best = series.front(found, column)
    return {
        "name": "Pareto front",
        "x": [rounded(point.x) for point in best],
        "y": [rounded(point.y) for point in best],
        "mode": "lines",
        "line": {"shape": "hv", "dash": "dot", "width": 1.2},
        "muted": True,
        "hoverinfo": "skip",
    }
