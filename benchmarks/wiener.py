"""Kernels, their widths, and KL over the epochs of both readings of the Wiener loss, for docs/wiener.md.

    python benchmarks/wiener.py results/wiener-ablation-cifar10
    python benchmarks/wiener.py results/wiener-ablation-cifar10 --write docs/wiener.md --figure docs/wiener.png

Reads the store of a suite with the methods ``wiener`` and ``gradient through z``, as suites/wiener-ablation-*.yaml have
them; the first seed of each method counts. The table is put in the place of the document that has the suite's name.
"""

from __future__ import annotations

import argparse
import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np

from recbench.analysis.kernels import kernel_shapes
from recbench.cli.report import gathered
from recbench.report.content import BoardView, JobView
from recbench.report.sheets import traced_kernels
from recbench.store.store import Store

READINGS = {"wiener": "cut from z", "gradient through z": "through G(z)"}
EPOCHS_SHOWN = 5
IMAGES_SHOWN = 2


def board_of(folder: Path) -> BoardView:
    """The first board of a store."""
    return gathered(Store(folder)).boards[0]


def reading(view: BoardView, name: str) -> JobView:
    """The first job of a reading that is done and traced kernels."""
    for method, job, _ in traced_kernels(view):
        if method.label == name:
            return job
    raise SystemExit(f"no job of the method {name!r} is done and traced kernels")


def table(view: BoardView) -> str:
    """Scores and the state of kernels of every method, in Markdown."""
    metrics = [column.name for column in view.board.columns if column.name != "kl"]
    heads = [*metrics, "KL [nats]", "largest rise of KL", "width [px]", "centre off [px]"]
    lines = [f"| method | {' | '.join(heads)} |", f"|---|{'---:|' * len(heads)}"]
    for method in view.methods:
        job = method.shown
        if job is None or job.record is None or job.record.evaluated is None:
            lines.append(f"| {method.label} |{' |' * len(heads)}")
            continue
        scores = [f"{job.record.scores[name].mean:.4g}" for name in metrics]
        rates = [line["kl"] for line in job.history]
        rise = max((after / before for before, after in itertools.pairwise(rates)), default=1.0)
        cells = [*scores, f"{job.record.evaluated.kl:.0f}", f"× {rise:.2f}"]
        if "kernels" in job.traces:
            shapes = kernel_shapes(job.traces["kernels"])
            first, last = shapes.width.mean(1)[[0, -1]]
            cells += [f"{first:.2f} → {last:.2f}", f"{shapes.offset[-1].mean():.2f}"]
        else:
            cells += ["", ""]
        lines.append(f"| {method.label} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def written(text: str, suite: str, content: str) -> str:
    """The document with the table of a suite replaced by a new one."""
    pattern = rf"(<!-- table: {re.escape(suite)}(?=[ ,])[^\n]*-->\n\n).*?(\n<!-- end of table -->)"
    text, count = re.subn(pattern, lambda found: found[1] + content + found[2], text, flags=re.DOTALL)
    if count != 1:
        raise SystemExit(f"{count} places for the table of {suite}, not one")
    return text


def draw(view: BoardView, file: Path) -> None:
    """Kernels beside their images for both readings; below them KL and widths by epoch."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    style: Any = {"font.size": 7, "axes.spines.top": False, "axes.spines.right": False, "lines.linewidth": 1.2}
    jobs = {name: reading(view, name) for name in READINGS}
    with mpl.rc_context(style):
        figure = Figure(figsize=(6.6, 2.9), layout="constrained")
        above, below = figure.subfigures(2, 1, height_ratios=(1, 1))
        for half, (name, title) in zip(above.subfigures(1, 2), READINGS.items(), strict=True):
            half.suptitle(title, fontweight="bold")
            kernels, target = jobs[name].traces["kernels"], jobs[name].pictures["target"]
            epochs = np.unique(np.linspace(0, len(kernels) - 1, EPOCHS_SHOWN).round().astype(int))
            axes = half.subplots(IMAGES_SHOWN, 1 + len(epochs), squeeze=False)
            for row, own in enumerate(axes):
                own[0].imshow(target[row].transpose(1, 2, 0))
                for axis, epoch in zip(own[1:], epochs, strict=True):
                    axis.imshow(np.abs(kernels[epoch, row]), cmap="gray", vmin=0)
                    axis.set_title(f"epoch {epoch + 1}" if row == 0 else "", fontsize=6)
                for axis in own:
                    axis.axis("off")
        left, middle, right = below.subplots(1, 3)
        for (name, title), colour in zip(READINGS.items(), ("#2463b5", "#c2410c"), strict=True):
            epochs = range(1, len(jobs[name].history) + 1)
            shapes = kernel_shapes(jobs[name].traces["kernels"])
            left.plot(epochs, [line["kl"] for line in jobs[name].history], color=colour, label=title)
            middle.plot(epochs, shapes.width, color=colour)
            right.plot(epochs, shapes.offset, color=colour)
        left.set(title="KL [nats per image]", xlabel="epoch", ylim=(0, None))
        middle.set(title="width of kernels [pixels]", xlabel="epoch", ylim=(0, None))
        right.set(title="distance of centre from middle", xlabel="epoch", ylim=(0, None))
        left.legend(frameon=False)
        for axis in (left, middle, right):
            axis.xaxis.get_major_locator().set_params(integer=True)
        figure.savefig(file, dpi=150, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path, help="the folder of the suite's results")
    parser.add_argument("--write", type=Path, help="the document whose table to replace")
    parser.add_argument("--figure", type=Path, help="the picture to draw")
    arguments = parser.parse_args()
    view = board_of(arguments.store)
    found = table(view)
    print(found)
    if arguments.write:
        text = arguments.write.read_text(encoding="utf-8")
        arguments.write.write_text(written(text, arguments.store.name, found), encoding="utf-8")
    if arguments.figure:
        draw(view, arguments.figure)


if __name__ == "__main__":
    main()
