"""The critical-difference diagram over several boards (Demšar 2006, figure 1)."""

from __future__ import annotations

from matplotlib.figure import Figure

from recbench.analysis.across import Across
from recbench.report.lettering import literal

_LINE = 0.28
"""Inches between two lines of text."""


def draw(found: Across) -> Figure:
    """Draw average ranks on an axis, best on the left, with bars over methods that do not differ significantly.

    Black bars are by Nemenyi's test, grey ones by signed-rank tests. The critical difference is drawn above the axis.
    """
    count = len(found.methods)
    left = (count + 1) // 2
    bars = [(group, "black") for group in found.nemenyi_groups] + [(group, "0.6") for group in found.wilcoxon_groups]
    depth = len(bars) * 0.12 / _LINE + 0.6
    height = _LINE * (left + depth + 3)
    figure = Figure(figsize=(6.5, height))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.axis("off")
    low, high, margin = 1.0, float(count), 0.45 * max(count - 1, 1)
    axis.set_xlim(low - margin, high + margin)
    axis.set_ylim(-(left + depth) * _LINE, 3 * _LINE)
    axis.plot([low, high], [0, 0], color="black", linewidth=1)
    for tick in range(1, count + 1):
        axis.plot([tick, tick], [0, 0.06], color="black", linewidth=1)
        axis.text(tick, 0.1, str(tick), ha="center", va="bottom", fontsize=8)
    end = min(low + found.critical_difference, high + margin)
    axis.plot([low, end], [2 * _LINE] * 2, color="black", linewidth=1, marker="|")
    axis.text((low + end) / 2, 2.15 * _LINE, f"CD = {found.critical_difference:.2f}", ha="center", fontsize=8)
    for number, (group, colour) in enumerate(bars):
        ends = [found.average_ranks[group[0]] - 0.03, found.average_ranks[group[-1]] + 0.03]
        axis.plot(ends, [-0.1 - 0.12 * number] * 2, color=colour, linewidth=3, solid_capstyle="round")
    for place, (method, rank) in enumerate(zip(found.methods, found.average_ranks, strict=True)):
        first = place < left
        row = place if first else count - 1 - place
        y, side = -(depth + row) * _LINE, low - 0.05 * margin if first else high + 0.05 * margin
        axis.plot([rank, rank, side], [0, y, y], color="black", linewidth=0.8)
        text = f"{method}  {rank:.2f} " if first else f" {rank:.2f}  {method}"
        axis.text(side, y, literal(text), ha="right" if first else "left", va="center", fontsize=8)
    return figure
