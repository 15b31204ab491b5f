"""The content of a report: a plan, its leaderboard, and the artifacts of its jobs, each read once."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from recbench.analysis.board import Board, Leaderboard, Row
from recbench.analysis.published import PublishedTable, compare_published
from recbench.analysis.rate_distortion import RateDistortion, rate_distortion
from recbench.files import open_regular
from recbench.plan.model import Method, PlannedJob
from recbench.plan.plan import Plan
from recbench.plan.tuning import Search, Tuning
from recbench.report.lettering import visible
from recbench.report.spectra import mean_log_spectrum
from recbench.store.artifacts import (
    ALWAYS_PICTURES,
    EPOCHS,
    HISTORY,
    IMAGES,
    PICTURES,
    SCORES,
    TRACES,
    ArtifactError,
    read_history,
    read_images,
    read_scores,
    read_traces,
    readable_epochs,
)
from recbench.store.epochs import EpochPictures, read_epochs
from recbench.store.record import File, Record, Result, fitted
from recbench.store.store import Store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_Loaded = TypeVar("_Loaded")
ShownStatus = Literal["done", "failed", "diverged", "missing", "unusable"]
StatusCallback = Callable[[str], None]

LOG_BYTES = 20_000
"""The page of a method shows at most this much from the end of each job's log."""
SLUG_LENGTH = 40
SPECTRUM = "spectrum_recon"
"""The metric whose traces hold the mean log spectra over all test images."""


@dataclass(frozen=True)
class JobView:
    """A job of the plan with its record and artifacts.

    Attributes:
        why: the reason why a record cannot be used; empty for other jobs.
        shape: (C, H, W) of the data set's images.
        problems: why an artifact that was asked for is left out, by its name.
    """

    planned: PlannedJob
    folder: Path
    status: ShownStatus
    record: Record | None
    why: str = ""
    shape: tuple[int, int, int] | None = None
    problems: dict[str, str] = field(default_factory=dict, compare=False)

    @cached_property
    def history(self) -> tuple[dict[str, float], ...]:
        """The lines of ``history.jsonl``, up to the last epoch if the job failed, diverged or is still running."""
        if self.status != "done" or HISTORY not in self._files:
            return tuple(readable_epochs(self.folder))
        found = self._usable(HISTORY, lambda: {HISTORY: read_history(self.folder, self._files)})
        epochs = ({name: float(value) for name, value in epoch.items()} for epoch in found.get(HISTORY, ()))
        return tuple(epoch for epoch in epochs if "epoch" in epoch)

    @cached_property
    def log(self) -> str:
        """The end of the job's log."""
        try:
            with os.fdopen(open_regular(self.folder / "log.txt"), "rb") as stream:
                stream.seek(max(0, os.fstat(stream.fileno()).st_size - LOG_BYTES))
                return stream.read(LOG_BYTES).decode(errors="replace")
        except OSError:
            return ""

    @cached_property
    def attempts(self) -> int:
        """The number of earlier attempts that failed."""
        return len(list(self.folder.glob("failed-*.json")))

    @cached_property
    def per_image(self) -> dict[str, NDArray[np.float64]]:
        """Scores of all test images by metric, and ``kl``; empty if the file is missing or damaged."""
        images = self.record.evaluated.n if self.record and self.record.evaluated else None
        return self._usable(SCORES, lambda: read_scores(self.folder, files=self._files, images=images))

    @cached_property
    def pictures(self) -> dict[str, NDArray[np.uint8]]:
        """``target`` and ``decoded``, and ``samples`` of an architecture with a prior, uint8 (N, C, H, W); empty if the
        file is missing or damaged."""
        arrays = self._usable(IMAGES, lambda: read_images(self.folder, files=self._files, shape=self.shape))
        lacking = [name for name in ALWAYS_PICTURES if name not in arrays]
        if arrays and lacking:
            self.problems[IMAGES] = f"it has no array {', '.join(lacking)}"
        return {} if lacking else {name: arrays[name] for name in PICTURES if name in arrays}

    @cached_property
    def traces(self) -> dict[str, NDArray[np.float64]]:
        """Traces of the loss and the metrics; empty if the file is missing or damaged."""
        return self._usable(TRACES, lambda: read_traces(self.folder, self._files))

    @cached_property
    def epochs(self) -> EpochPictures | None:
        """Reconstructions after some epochs; None if the file is missing, as of older jobs, or damaged."""
        return self._usable(EPOCHS, lambda: {EPOCHS: read_epochs(self.folder, self._files, self.shape)}).get(EPOCHS)

    @property
    def _files(self) -> Mapping[str, File]:
        return self.record.files if self.record is not None else {}

    def _usable(self, name: str, read: Callable[[], dict[str, _Loaded]]) -> dict[str, _Loaded]:
        """Return the content of an artifact; nothing if the job is not done or the file is missing or damaged."""
        if self.status != "done":
            return {}
        try:
            return read()
        except ArtifactError as error:
            if os.path.lexists(self.folder / name):
                self.problems[name] = str(error)
            return {}


@dataclass(frozen=True)
class MethodView:
    """A method on a board, with its jobs there in the order of their seeds.

    Attributes:
        slug: a unique file name of ``a``–``z``, digits and dashes.
        page: the path of its page, relative to the report's folder.
    """

    row: Row
    index: int
    method: Method
    slug: str
    jobs: tuple[JobView, ...]

    @property
    def label(self) -> str:
        return visible(self.row.label)

    @property
    def page(self) -> str:
        return f"methods/{self.slug}.html"

    @property
    def done(self) -> tuple[JobView, ...]:
        return tuple(job for job in self.jobs if job.status == "done")

    @property
    def shown(self) -> JobView | None:
        """The job whose images are shown: the first completed seed with images."""
        return next((job for job in self.done if job.pictures), None)


@dataclass(frozen=True)
class BoardView:
    """A board with its methods in the order of their ranks.

    Attributes:
        rate: rate–distortion curves of this setting, if there are any.
        published: published tables that are compared with this board.
        searches: the searches of tuning under this setting.
    """

    number: int
    board: Board
    setting: int
    methods: tuple[MethodView, ...]
    rate: RateDistortion | None = None
    published: tuple[PublishedTable, ...] = ()
    tuning: Tuning | None = None
    searches: tuple[Search, ...] = ()

    @property
    def file(self) -> str:
        return "index.html" if self.number == 1 else f"board-{self.number}.html"

    @property
    def files(self) -> str:
        """The prefix of this board's file names."""
        return f"board-{self.number}"

    @property
    def jobs(self) -> Iterator[JobView]:
        return (job for method in self.methods for job in method.jobs)

    @cached_property
    def spectra(self) -> tuple[dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]], str]:
        """Mean log spectra of decoded and of test images by index of the method, each of shape (C, H, W), and a
        description of the images that they were averaged over.

        Taken from the traces of the metric ``spectrum_recon`` if all shown jobs have them, otherwise computed from the
        images that the jobs stored.
        """
        shown = {method.index: method.shown for method in self.methods if method.shown}
        records = [job.record for job in shown.values() if job.record is not None]
        labels = (label for record in records for label, part in record.job.metrics.items() if part.name == SPECTRUM)
        label = next(labels, "")
        names = f"{label}_decoded", f"{label}_target"
        if label and all(name in job.traces and job.traces[name].ndim == 3 for job in shown.values() for name in names):
            found = {index: (job.traces[names[0]], job.traces[names[1]]) for index, job in shown.items()}
            return found, f"all test images (metric {label})"
        return _spectra_of_kept(shown)


def _spectra_of_kept(
    shown: Mapping[int, JobView],
) -> tuple[dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]], str]:
    import numpy as np

    found = {}
    target: NDArray[np.uint8] | None = None
    data: NDArray[np.float64] | None = None
    for index, job in shown.items():
        if data is None or target is None or not np.array_equal(job.pictures["target"], target):
            target = job.pictures["target"]
            data = mean_log_spectrum(target)
        found[index] = mean_log_spectrum(job.pictures["decoded"]), data
    count = 0 if target is None else len(target)
    return found, f"the first {count} test images, which the jobs stored; with the metric {SPECTRUM}, over all of them"


@dataclass(frozen=True)
class Content:
    """Everything that a report shows."""

    plan: Plan
    leaderboard: Leaderboard
    boards: tuple[BoardView, ...]
    jobs: tuple[JobView, ...]
    slugs: tuple[str, ...] = field(repr=False)

    @property
    def left_out(self) -> tuple[str, ...]:
        """A line for each file that was asked for so far, and cannot be used."""
        found = ((job.planned.id, name, why) for job in self.jobs for name, why in job.problems.items())
        return tuple(f"job {job_id}: {name} is left out: {why}" for job_id, name, why in found)


def gather(
    plan: Plan,
    leaderboard: Leaderboard,
    records: Mapping[str, Result],
    unusable: Mapping[str, str],
    store: Store,
) -> Content:
    """Collect the content of a report.

    Args:
        plan: the plan of the suite.
        leaderboard: its boards.
        records: results by job id, as they were ranked.
        unusable: by job id, why a record cannot be used.
        store: the store with the jobs' artifacts.
    """
    jobs = tuple(_job(plan, planned, records, unusable, store) for planned in plan.jobs)
    names = slugs([method.label for method in plan.methods])
    # A tuned method may share its label with candidates, which do not have rows on a board.
    tested = {(job.setting, plan.methods[job.method].label): job.method for job in plan.jobs if job.split == "test"}
    settings = {setting.label: index for index, setting in enumerate(plan.settings)}
    rates = {curves.setting: curves for curves in rate_distortion(plan, records)}
    printed = compare_published(plan, leaderboard)
    boards = []
    for number, board in enumerate(leaderboard.boards, 1):
        setting = settings[board.setting]
        here: dict[int, list[JobView]] = {}
        for job in jobs:
            if job.planned.setting == setting and job.planned.split == "test" and _belongs(job, board):
                here.setdefault(job.planned.method, []).append(job)
        methods = []
        for row in board.rows:
            index = tested[setting, row.label]
            mine = tuple(sorted(here.get(index, []), key=lambda job: job.planned.seed))
            methods.append(MethodView(row, index, plan.methods[index], names[index], mine))
        boards.append(
            BoardView(
                number,
                board,
                setting,
                tuple(methods),
                rate=rates.get(board.setting),
                published=tuple(
                    table for table in printed if (table.setting, table.protocol) == (board.setting, board.protocol)
                ),
                tuning=plan.tuning,
                searches=tuple(search for search in plan.searches if search.setting == setting),
            )
        )
    return Content(plan, leaderboard, tuple(boards), jobs, names)


def _belongs(job: JobView, board: Board) -> bool:
    """Return whether a job belongs to a board: jobs that failed before they loaded an image belong to every one."""
    return job.record is None or job.record.protocol in (board.protocol, None)


def _job(
    plan: Plan, planned: PlannedJob, records: Mapping[str, Result], unusable: Mapping[str, str], store: Store
) -> JobView:
    shape = plan.settings[planned.setting].shape
    folder, record = store.folder(planned.id), None
    if planned.id in records:
        try:
            record = store.read(planned.id)
            record = fitted(record, plan.metrics) if record is not None else None
        except ValueError as error:  # changed since it was ranked, or damaged in a part that leaderboards do not read
            return JobView(planned, folder, "unusable", None, str(error))
    if record is not None:
        return JobView(planned, folder, record.status, record, shape=shape)
    why = unusable.get(planned.id)
    return JobView(planned, folder, "missing", None) if why is None else JobView(planned, folder, "unusable", None, why)


def slugs(labels: Sequence[str]) -> tuple[str, ...]:
    """Return unique file names: ASCII letters, digits and dashes, with a number at the end."""
    names = []
    for number, label in enumerate(labels, 1):
        plain = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode().lower()
        slug = re.sub(r"[^a-z0-9]+", "-", plain)[:SLUG_LENGTH].strip("-")
        names.append(f"{slug or 'method'}-{number}")
    return tuple(names)
