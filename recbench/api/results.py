"""Results of a suite as tables, images, models and figures."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbench.analysis import tables
from recbench.analysis.board import Leaderboard
from recbench.analysis.ranking import rank_stored
from recbench.api.entries import PluginFiles, plugin_files, registry
from recbench.data.cache import default_cache
from recbench.errors import RecbenchError, UserError, did_you_mean, quoted
from recbench.plan.model import SUITE_NAME, PlannedJob
from recbench.plan.plan import Plan
from recbench.shipped import boards, find_board
from recbench.store.archive import opened
from recbench.store.artifacts import HISTORY, IMAGES, SCORES, ArtifactError, read_history, read_images, read_scores
from recbench.store.merge import merge
from recbench.store.sources import ArchiveSource
from recbench.store.store import Store
from recbench.suite.document import load as load_document
from recbench.sweep.state import PlanState, inspect

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray
    from pandas import DataFrame

    from recbench.api.models import TrainedModel
    from recbench.report.content import Content

PLAN = "plan.json"
REFERENCE = "reference:"
"""The prefix of a suite's name that means its reference board, even where there are results of the suite."""
SHEETS = ("reconstructions", "samples", "interpolations", "kernels")
"""Figures that show images; the others are :data:`recbench.report.figures.PLOTS`."""
_NOTEBOOK_DPI = 110


def results_folder(given: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of all results: as given, else ``RECBENCH_RESULTS``, else ``results``."""
    return Path(given if given is not None else os.environ.get("RECBENCH_RESULTS") or "results").expanduser()


def as_path(given: object) -> str:
    """Return a name or path as text.

    Raises:
        UserError: it is something else.
    """
    if not isinstance(given, str | os.PathLike) or not (text := os.fspath(given)):
        raise UserError(f"expected the name or the path of a suite, got {given!r}")
    return str(text)


def load(
    name_or_path: str | os.PathLike[str],
    *,
    results: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    plugins: PluginFiles = (),
) -> SuiteResults:
    """Return the results of a suite.

    Args:
        name_or_path: name of a suite that was run, its file, its folder of results, or an export; or the name of a
            suite that recbench ships a reference board of. Results in ``results`` come first; ``"reference:NAME"``
            means the reference board in any case.
        results: folder of all results; by default ``RECBENCH_RESULTS``, else ``results``.
        cache: folder of decoded images, for figures that show images which the jobs did not store, and of unpacked
            reference boards.
        plugins: single-file plugins that the suite was run with; only models and figures need them.

    Raises:
        UserError: there are no such results, or they cannot be read.
    """
    folder, images = results_folder(results), Path(cache) if cache is not None else default_cache()
    files = plugin_files(plugins)
    text = as_path(name_or_path)
    if text.startswith(REFERENCE):
        return SuiteResults(find_board(text.removeprefix(REFERENCE)).store(images), images, files)
    path = Path(text).expanduser()
    if path.is_dir() and os.path.lexists(path / PLAN):
        return SuiteResults(Store(path), images, files)
    if path.is_file() and path.suffix not in (".yaml", ".yml"):
        return _unpacked(path, images, files)
    name = _name(text)
    if os.path.lexists(folder / name / PLAN):
        return SuiteResults(Store(folder / name), images, files)
    shipped = boards()
    if name in shipped:
        return SuiteResults(shipped[name].store(images), images, files)
    ran = sorted(found.parent.name for found in folder.glob(f"*/{PLAN}"))
    raise UserError(f"no results of the suite '{name}' in {folder}; {did_you_mean(name, [*ran, *shipped])}")


def _name(text: str) -> str:
    """Return the name of the suite that a name, or the path of its file, means."""
    if text.endswith((".yaml", ".yml")):
        data = load_document(Path(text)).data
        named = data.get("name") if isinstance(data, dict) else None
        text = named if isinstance(named, str) else Path(text).stem
    if not SUITE_NAME.fullmatch(text):
        raise UserError(f"{quoted(text)} is neither a folder of results, an export, nor the name of a suite")
    return text


def _unpacked(file: Path, images: Path, files: tuple[str, ...]) -> SuiteResults:
    """Return the results in an export, unpacked into a folder that exists as long as they do."""
    folder = tempfile.TemporaryDirectory(prefix="recbench-")
    with opened(file) as archive:
        merged = merge([ArchiveSource(archive)], Path(folder.name))
    return SuiteResults(Store(Path(folder.name) / merged[0].suite), images, files, keeping=folder)


class SuiteResults:
    """The results of a suite, as they were when this was made. Methods return copies, which may be changed.

    Attributes:
        store: the folder of its records.
        plan: the suite, laid out as jobs.
    """

    def __init__(self, store: Store, cache: Path, plugins: tuple[str, ...], keeping: Any = None) -> None:
        self.store = store
        self.plan: Plan = store.read_plan()
        self._cache = cache
        self._plugins = plugins
        self._keeping = keeping

    def __repr__(self) -> str:
        board = self._leaderboard
        return f"<recbench results of {self.plan.suite}: {board.done} of {board.jobs} jobs done, in {self.store.root}>"

    @property
    def name(self) -> str:
        """The name of the suite."""
        return self.plan.suite

    @property
    def methods(self) -> tuple[str, ...]:
        """The labels of the methods, best first, as on the boards; those that are not ranked come last."""
        labels = (row.label for board in self._leaderboard.boards for row in board.rows)
        return tuple(dict.fromkeys(labels))

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on the boards: what could not be ranked or compared, warnings of metrics, damaged records."""
        return self._leaderboard.notes

    def leaderboard(self, *, confidence: float = 0.95, metrics: Sequence[str] = (), cost: bool = False) -> DataFrame:
        """Return a row per method of each board, best first: all that ``recbench leaderboard --format csv`` prints.

        Args:
            confidence: of intervals, rank intervals and tiers, in (0, 1).
            metrics: labels of metrics to rank by, instead of the suite's.
            cost: include the columns of training cost.

        Raises:
            UserError: the suite has no such metric.
        """
        known = [column.name for column in self.plan.columns]
        names = [metrics] if isinstance(metrics, str) else list(metrics)
        for name in names:
            if name not in known:
                raise UserError(f"the suite {self.name} has no metric '{name}'; {did_you_mean(name, known)}")
        if isinstance(confidence, bool) or not isinstance(confidence, int | float) or not 0 < confidence < 1:
            raise UserError(f"confidence must be between 0 and 1, got {confidence!r}")
        if confidence == 0.95 and not names:
            return tables.board_table(self._leaderboard, cost=cost).infer_objects()
        state = self._state
        board = rank_stored(
            self.plan, self.store, state.records, state.unusable, confidence=confidence, ranking=names or None
        )
        return tables.board_table(board, cost=cost).infer_objects()

    def scores(self) -> DataFrame:
        """Return a row per job and metric: ``job``, ``setting``, ``method``, ``seed``, ``split``, ``metric``, ``mean``
        and ``std`` over test images, and ``n``, their number. Jobs without scores have no rows."""
        return tables.scores_table(self.plan, self._state.records).infer_objects()

    def per_image(self, *, baselines: bool = True) -> DataFrame:
        """Return a row per job that is scored on test images, and test image: ``job``, ``setting``, ``method``,
        ``seed``, ``image`` from 0, and a column for each metric of single images, and for ``kl``.

        Args:
            baselines: whether the rows of baselines are among them, which a board does not rank.

        Raises:
            UserError: the scores of a job are missing or damaged.
        """
        found = {}
        left_out = frozenset() if baselines else self.plan.fitted
        # Trials of tuning see validation images.
        tested = {job.id for job in self.plan.jobs if job.split == "test" and job.setting not in left_out}
        for job_id, record in self._state.records.items():
            if job_id in tested and record.status == "done" and SCORES in record.files:
                try:
                    found[job_id] = read_scores(self.store.folder(job_id), files=record.files)
                except ArtifactError as error:
                    raise UserError(f"job {job_id}: its {SCORES} cannot be read: {error}") from None
        return tables.per_image_table(self.plan, found)

    def history(self) -> DataFrame:
        """Return a row per epoch of each finished job: ``job``, ``setting``, ``method``, ``seed``, ``epoch``, and what
        training kept of it: objective, reconstruction loss, KL divergence, speed and others.

        Raises:
            UserError: the history of a job is missing or damaged.
        """
        found = {}
        trials = {job.id for job in self.plan.jobs if job.split != "test"}
        for job_id, record in self._state.records.items():
            folder = self.store.folder(job_id)
            if job_id in trials and not os.path.lexists(folder / HISTORY):
                continue  # reference boards leave them out
            if record.status == "done":
                try:
                    found[job_id] = read_history(folder, record.files)
                except ArtifactError as error:
                    raise UserError(f"job {job_id}: its history cannot be read: {error}") from None
        return tables.history_table(self.plan, found).infer_objects()

    def images(
        self, method: str, seed: int | None = None, *, setting: str | None = None
    ) -> dict[str, NDArray[np.uint8]]:
        """Return images that a job stored: ``target``, the first test images, ``decoded``, their reconstructions, and
        ``samples`` from the prior; each uint8 (N, C, H, W).

        Args:
            method: label of the method.
            seed: by default the first that is done.
            setting: label of the setting, for suites with several.

        Raises:
            UserError: there is no such job, it is not done, or its images are missing or damaged.
        """
        planned = self._job(method, seed, setting)
        record = self._state.records[planned.id]
        shape = self.plan.settings[planned.setting].shape
        try:
            return read_images(self.store.folder(planned.id), files=record.files, shape=shape)
        except ArtifactError as error:
            raise UserError(f"job {planned.id} ({method}): its {IMAGES} cannot be read: {error}") from None

    def model(
        self, method: str, seed: int | None = None, *, setting: str | None = None, device: str = "cpu"
    ) -> TrainedModel:
        """Return the network that a job trained, a module of PyTorch in evaluation mode; arguments as for
        :meth:`images`, and the device that it is to be on.

        Raises:
            UserError: there is no such job, it is not done, its model was not kept, or its plugins are not here.
        """
        from recbench.api.models import trained_model

        planned = self._job(method, seed, setting)
        shape = self.plan.settings[planned.setting].image_shape
        try:
            return trained_model(self.store, planned.id, registry(self._plugins), shape, device)
        except UserError:
            raise
        except RecbenchError as error:
            raise UserError(str(error)) from error

    @property
    def figures(self) -> tuple[str, ...]:
        """The names of all figures."""
        from recbench.report.figures import PLOTS

        return tuple(sorted({*SHEETS, *PLOTS}))

    def figure(self, name: str, *, board: int = 1) -> Figure:
        """Return a figure of matplotlib, which notebooks show, as ``recbench figure`` draws it.

        Args:
            name: one of :attr:`figures`, such as ``"tiers"`` or ``"reconstructions"``.
            board: number of the leaderboard, from 1, of suites with several settings.

        Raises:
            UserError: there is no such figure or board, or the jobs did not store what it shows.
        """
        from recbench.report import figures
        from recbench.report.sections import Sources, sheet_for

        if name not in self.figures:
            raise UserError(f"unknown figure '{name}'; {did_you_mean(str(name), self.figures)}")
        views = self._content.boards
        if type(board) is not int or not 1 <= board <= len(views):
            raise UserError(f"board {board!r}: {self.name} has {len(views)} leaderboards, counted from 1")
        view = views[board - 1]
        if name in figures.PLOTS:
            figure = figures.draw(name, view)
        else:
            sources = Sources(self.store, registry(self._plugins), self._cache)
            figure = figures.sheet(sheet_for(name, view, sources))
        figure._repr_png_ = _png_of(figure)  # type: ignore[attr-defined] # by which notebooks show it without pyplot
        return figure

    @cached_property
    def _state(self) -> PlanState:
        return inspect(self.plan, self.store)

    @cached_property
    def _leaderboard(self) -> Leaderboard:
        return rank_stored(self.plan, self.store, self._state.records, self._state.unusable)

    @cached_property
    def _content(self) -> Content:
        from recbench.report.content import gather

        state = self._state
        return gather(self.plan, self._leaderboard, state.records, state.unusable, self.store)

    def _job(self, method: str, seed: int | None, setting: str | None) -> PlannedJob:
        """Return a finished job that is scored on test images."""
        plan = self.plan
        jobs = [job for job in plan.jobs if job.split == "test"]
        labels = [each.label for each in plan.settings]
        if setting is not None and setting not in labels:
            raise UserError(f"{self.name} has no setting '{setting}'; {did_you_mean(str(setting), labels)}")
        jobs = [job for job in jobs if setting in (None, labels[job.setting])]
        mine = [job for job in jobs if plan.methods[job.method].label == method]
        if not mine:
            known = sorted({plan.methods[job.method].label for job in jobs})
            raise UserError(f"{self.name} has no method '{method}'; {did_you_mean(str(method), known)}")
        if len({job.setting for job in mine}) > 1:
            raise UserError(f"{self.name} has several settings; give one of: {', '.join(labels)}")
        seeds = sorted(job.seed for job in mine)
        if seed is not None and seed not in seeds:
            raise UserError(f"{method} has no seed {seed!r}; choose from: {', '.join(map(str, seeds))}")
        mine = [job for job in mine if seed in (None, job.seed)]
        records = self._state.records
        done = [job for job in mine if job.id in records and records[job.id].status == "done"]
        if not done:
            first = mine[0].id
            why = self._state.unusable.get(first) or (records[first].status if first in records else "not done yet")
            raise UserError(f"job {first} ({method}, seed {mine[0].seed}) has no results: {why}")
        return min(done, key=lambda job: job.seed)


def _png_of(figure: Figure) -> Callable[[], bytes]:
    def png() -> bytes:
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=_NOTEBOOK_DPI, bbox_inches="tight")
        return stream.getvalue()

    return png
