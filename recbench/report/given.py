"""The report on reconstructions that any tool has made: the board, its tiers, and the images side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbench.analysis.board import Leaderboard
from recbench.plan.model import BoardSetting, ComponentSpec, Method, PlannedJob, Training
from recbench.plan.plan import Plan
from recbench.report import sheets, tables
from recbench.report.content import BoardView, Content, JobView, MethodView, slugs
from recbench.report.pages import Pages
from recbench.report.per_image import per_image
from recbench.report.sections import (
    COMPARE,
    HOW_TO,
    Section,
    Sources,
    chosen_images,
    has_scores,
    shown_indices,
    significance,
)
from recbench.report.sheets import Images
from recbench.report.write import Writer, put
from recbench.store.store import Store

_NOTHING = ComponentSpec(name="")


@dataclass(frozen=True)
class GivenPictures:
    """The images of a report on given reconstructions, uint8 (N, C, H, W), and their scores.

    Attributes:
        decoded: reconstructions of each method, those of its first seed.
        scores: by metric, for each method scores (S, N) of seeds and images, or (S,) of a metric of whole sets.
    """

    target: Images
    decoded: Mapping[str, Images]
    scores: Mapping[str, Mapping[str, NDArray[np.float64]]]


@dataclass(frozen=True)
class _GivenSeed(JobView):
    """The reconstructions of one seed, in the place of a job."""

    scores: Mapping[str, NDArray[np.float64]] = field(default_factory=dict, compare=False)
    images: Mapping[str, Images] = field(default_factory=dict, compare=False)

    @cached_property
    def history(self) -> tuple[dict[str, float], ...]:
        return ()

    @cached_property
    def per_image(self) -> dict[str, NDArray[np.float64]]:
        return dict(self.scores)

    @cached_property
    def pictures(self) -> dict[str, NDArray[np.uint8]]:
        return dict(self.images)

    @cached_property
    def traces(self) -> dict[str, NDArray[np.float64]]:
        return {}


@dataclass(frozen=True)
class _GivenMethodView(MethodView):
    """A method without a page of its own: all that is known of it is on the board."""

    @property
    def page(self) -> str:
        return ""


def write_given(leaderboard: Leaderboard, pictures: GivenPictures, home: Path) -> Path:
    """Write the report on reconstructions that were ranked, into the folder ``report`` of another one.

    Args:
        leaderboard: with one board.
        pictures: images and scores of its methods.
        home: the other folder.

    Returns:
        The path of its page.

    Raises:
        UserError: another process is writing this report, or ``report`` is a file or a link.
        OutOfSpaceError: the file system is full.
    """
    content = _content(leaderboard, pictures)
    sources = Sources(Store(home), None, home, models=False)
    return put(home, lambda folder: _GivenWriter(content, sources, folder).write())


def _content(leaderboard: Leaderboard, pictures: GivenPictures) -> Content:
    (board,) = leaderboard.boards
    names = slugs([row.label for row in board.rows])
    methods = tuple(Method(label=row.label, loss=_NOTHING, kl_weight=0.0) for row in board.rows)
    views = []
    for index, (row, method) in enumerate(zip(board.rows, methods, strict=True)):
        seeds = tuple(_seed(pictures, row.label, index, number) for number in range(row.seeds))
        views.append(_GivenMethodView(row, index, method, names[index], seeds))
    nowhere = BoardSetting(
        label=board.setting, dataset=_NOTHING, architecture=_NOTHING, training=Training(epochs=1), shape=board.shape
    )
    plan = Plan(
        suite=leaderboard.suite,
        metrics={column.name: ComponentSpec(name=column.name) for column in board.columns},
        columns=board.columns,
        ranking=board.ranking,
        settings=(nowhere,),
        methods=methods,
        jobs=(),
    )
    return Content(plan, leaderboard, (BoardView(1, board, 0, tuple(views)),), (), names)


def _seed(pictures: GivenPictures, method: str, index: int, number: int) -> _GivenSeed:
    found = {metric: values[method][number] for metric, values in pictures.scores.items() if values[method].ndim == 2}
    images = {"target": pictures.target, "decoded": pictures.decoded[method]} if not number else {}
    planned = PlannedJob(id="", setting=0, method=index, seed=number)
    return _GivenSeed(planned, Path(), "done", None, scores=found, images=images)


def _sections(view: BoardView) -> list[Section]:
    shown: dict[int, JobView] = {method.index: method.jobs[0] for method in view.methods}
    target = next(iter(shown.values())).pictures["target"]
    chosen = chosen_images(view, shown, target)
    indices = shown_indices(chosen, target, len(shown))
    decoded = {index: np.ascontiguousarray(job.pictures["decoded"][indices]) for index, job in shown.items()}
    sheet = sheets.reconstructions(view, chosen, indices, np.ascontiguousarray(target[indices]), decoded)
    found = [significance(view)]
    if sheet is not None:
        metrics = ", ".join(column.name for column in view.board.columns if has_scores(shown, column.name))
        by = f"Best and worst are by {metrics}. " if metrics else ""
        how = f"Selected from all {len(target)} targets. {by}Each method is shown with its first seed."
        found.append(Section("images", "Images", "The same targets with every method", (how, HOW_TO), sheets=(sheet,)))
    if len(shown) > 1:
        found.append(Section("compare", "Side by side", "Two methods side by side", (COMPARE,), "compare.html"))
    return [section for section in found if section is not None]


class _GivenWriter(Writer):
    """Writes the report on given reconstructions: one page."""

    def write(self) -> None:
        self.folder.mkdir(parents=True)
        self.assets()
        self.save("data/leaderboard.csv", tables.leaderboard(self.content))
        (view,) = self.content.boards
        found = _sections(view)
        strips = {sheet.name: self.sheet(view, sheet) for section in found for sheet in section.sheets}
        prints = self.charts(view, [chart for section in found for chart in section.charts])
        for sheet in (each for section in found for each in section.sheets):
            self.script(f"{view.files}-scores", "recbenchScores", view, per_image(view, sheet))
        csv = {name: self.packed(file, content) for name, file, content in tables.per_image(view)}
        page = Pages(self.content, None, "").board(view, found, strips, prints, csv)
        self.save(view.file, page.encode())


def of_methods(
    methods: Sequence[str], scores: Mapping[str, Sequence[NDArray[np.float64]]]
) -> dict[str, dict[str, NDArray[Any]]]:
    """Return scores by metric and method."""
    return {metric: dict(zip(methods, values, strict=True)) for metric, values in scores.items()}
