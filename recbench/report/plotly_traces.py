"""Building blocks of the interactive plots: axes, and plotly.js traces of methods and losses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recbench.report import series
from recbench.report.content import BoardView, MethodView
from recbench.report.series import PALETTE, PlotLine

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon", "triangle-down", "x", "pentagon")

WIDE = 10
"""The ratio of the largest to the smallest value from which axes are logarithmic by default."""


def logarithmic(values: Sequence[float]) -> dict[str, Any]:
    """Return options for a logarithmic axis with ticks at 1, 2 and 5 if the values span enough, otherwise none."""
    positive = [value for value in values if value > 0]
    wide = len(positive) == len(values) > 0 and max(positive) >= WIDE * min(positive)
    return {"type": "log", "dtick": "D2"} if wide else {}


@dataclass(frozen=True)
class Marks:
    """Colours of the methods.

    Attributes:
        places: index in the palette by the index of the method.
        families: whether colours stand for families, because there are more methods than colours.
    """

    places: Mapping[int, int]
    families: bool


def marks_of(view: BoardView) -> Marks:
    """Return the colours of a board's methods."""
    return Marks(series.marks(view), families=len(view.methods) > len(PALETTE))


def method_trace(method: MethodView, marks: Marks) -> dict[str, Any]:
    """Return what all traces of a method share."""
    place = marks.places[method.index]
    marker: dict[str, Any] = {"color": PALETTE[place], "symbol": SYMBOLS[place]}
    name = (method.row.family or "other") if marks.families else method.label
    group = name if marks.families else str(method.index)
    trace = {"name": escaped(shortened(name, 28)), "meta": method.label, "type": "scatter", "marker": marker}
    return {**trace, "legendgroup": group}


def with_legend(traces: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Show one legend entry per method or family, changing the traces in place."""
    seen: set[str] = set()
    for trace in traces:
        group = trace.get("legendgroup")
        if group is not None and trace.get("showlegend", True):
            trace["showlegend"] = group not in seen
            seen.add(group)
    return traces


def hover_text(method: MethodView, text: str) -> str:
    """Return a plotly.js hover template: the name of the method above the text."""
    return f"<b>{escaped(shortened(method.label, 60))}</b><br>{text}<extra></extra>"


def escaped(text: str) -> str:
    """Return text escaped for plotly.js, which interprets a few tags, and %{…} in templates."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("%{", "%\u200b{")


def rounded(value: float) -> float | None:
    """Return six significant digits, enough for a screen; None for infinity and NaN, which JSON does not have."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def positive_points(line: PlotLine) -> PlotLine:
    """Return the points that a logarithmic axis can show."""
    keep = [place for place, x in enumerate(line.x) if x > 0]
    x, y = (tuple(each[place] for place in keep) for each in (line.x, line.y))
    return PlotLine(line.label, x, y, tuple(line.texts[place] for place in keep), joined=line.joined)


def line_traces(lines: Sequence[PlotLine], text: str) -> list[dict[str, Any]]:
    """Return one trace per line; ``text`` is the hover text for y."""
    traces = []
    for number, line in enumerate(lines):
        place = number % len(PALETTE)
        sizes = [13 if point == line.chosen else 7 for point in range(len(line.x))]
        label = escaped(shortened(line.label, 28))
        traces.append(
            {
                "name": label,
                "meta": f"loss {line.label}",
                "type": "scatter",
                "mode": "lines+markers" if line.joined else "markers",
                "x": [rounded(x) for x in line.x],
                "y": [rounded(y) for y in line.y],
                "text": [escaped(shortened(each, 60)) for each in line.texts],
                "line": {"color": PALETTE[place], "width": 1.6},
                "marker": {"color": PALETTE[place], "symbol": SYMBOLS[place], "size": sizes, "opacity": 1},
                "hovertemplate": f"<b>{label}</b> %{{text}}<br>%{{x:.4g}}, {text}<extra></extra>",
            }
        )
    return traces


def shortened(text: str, most: int) -> str:
    """Return the text, cut to at most ``most`` characters with an ellipsis at the end."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
