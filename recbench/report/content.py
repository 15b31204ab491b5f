"""What a report shows: a plan, its leaderboard, and all that its jobs left behind, read once."""

from __future__ import annotations

import json
import math
import re
import unicodedata
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from zipfile import BadZipFile

from recbench.analysis.published import PublishedTable, compare_published
from recbench.analysis.ranking import Board, Leaderboard, Row
from recbench.analysis.rate_distortion import RateDistortion, rate_distortion
from recbench.plan.model import Method, PlannedJob
from recbench.plan.plan import Plan
from recbench.plan.tuning import Search, Tuning
from recbench.report.spectra import mean_log_spectrum
from recbench.store.record import Record, Result
from recbench.store.store import Store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

JobStatus = Literal["done", "failed", "diverged", "missing", "unusable"]
Progress = Callable[[str], None]

LOG_BYTES = 20_000
"""The end of a job's log that its method's page shows."""
SLUG_LENGTH = 40
SPECTRUM = "spectrum_recon"
"""The metric that traces mean log spectra of all test images."""


@dataclass(frozen=True)
class JobView:
    """A job of the plan, and what became of it.

    Attributes:
        why: for an unusable record, the reason.
    """

    planned: PlannedJob
    folder: Path
    status: JobStatus
    record: Record | None
    why: str = ""

    @cached_property
    def history(self) -> tuple[dict[str, float], ...]:
        """The lines of history.jsonl; of a job that failed, diverged or still runs, as far as it got."""
        return tuple(_history(self.folder / "history.jsonl"))

    @cached_property
    def log(self) -> str:
        """The end of what the job printed."""
        try:
            with (self.folder / "log.txt").open("rb") as stream:
                stream.seek(max(0, (self.folder / "log.txt").stat().st_size - LOG_BYTES))
                return stream.read(LOG_BYTES).decode(errors="replace")
        except OSError:
            return ""

    @cached_property
    def attempts(self) -> int:
        """Earlier attempts that failed."""
        return len(list(self.folder.glob("failed-*.json")))

    @cached_property
    def per_image(self) -> dict[str, NDArray[np.float64]]:
        """Scores of all test images by metric, and ``kl``; empty where the file cannot be used."""
        import pandas
        import pyarrow

        if self.status != "done":
            return {}
        try:
            table = pandas.read_parquet(self.folder / "scores.parquet")
            return {str(name): table[name].to_numpy(dtype="float64") for name in table.columns}
        except (OSError, ValueError, TypeError, pyarrow.ArrowException):
            return {}

    @cached_property
    def pictures(self) -> dict[str, NDArray[np.uint8]]:
        """``target``, ``decoded`` and ``samples``, uint8 (N, C, H, W); empty where the file cannot be used."""
        wanted = "target", "decoded", "samples"
        arrays: dict[str, NDArray[Any]] = _arrays(self.folder / "images.npz") if self.status == "done" else {}
        good = all(name in arrays and arrays[name].ndim == 4 and arrays[name].dtype == "uint8" for name in wanted)
        return {name: arrays[name] for name in wanted} if good else {}

    @cached_property
    def traces(self) -> dict[str, NDArray[np.float64]]:
        """What the loss and metrics showed of themselves; empty where there is nothing, or it cannot be used."""
        return _arrays(self.folder / "traces.npz") if self.status == "done" else {}


@dataclass(frozen=True)
class MethodView:
    """A method on a board, with its jobs there in the order of their seeds.

    Attributes:
        slug: a name for files, of ``a``–``z``, digits and dashes only, unlike that of any other method.
        page: its page, from the report's folder.
    """

    row: Row
    index: int
    method: Method
    slug: str
    jobs: tuple[JobView, ...]

    @property
    def label(self) -> str:
        return self.row.label

    @property
    def page(self) -> str:
        return f"methods/{self.slug}.html"

    @property
    def done(self) -> tuple[JobView, ...]:
        return tuple(job for job in self.jobs if job.status == "done")

    @property
    def shown(self) -> JobView | None:
        """The job whose images are shown: that of the first seed that is done."""
        return next((job for job in self.done if job.pictures), None)


@dataclass(frozen=True)
class BoardView:
    """A board, its methods in its order, and the name of its page.

    Attributes:
        rate: curves of scores against KL under this setting, if there are any.
        published: printed tables beside this board.
        searches: what was tuned under this setting.
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
        """What names of files of this board begin with."""
        return f"board-{self.number}"

    @property
    def jobs(self) -> Iterator[JobView]:
        return (job for method in self.methods for job in method.jobs)

    @cached_property
    def spectra(self) -> tuple[dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]], str]:
        """Mean log spectra of decoded and of test images by index of the method, each (C, H, W); and what they are
        means over.

        From the traces of the metric ``spectrum_recon`` where all shown jobs have them, otherwise of the images that
        the jobs kept.
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
    return found, f"the first {count} test images, which jobs keep; the metric {SPECTRUM} has those of all"


@dataclass(frozen=True)
class Content:
    """All of a report."""

    plan: Plan
    leaderboard: Leaderboard
    boards: tuple[BoardView, ...]
    jobs: tuple[JobView, ...]
    slugs: tuple[str, ...] = field(repr=False)


def gather(
    plan: Plan,
    leaderboard: Leaderboard,
    records: Mapping[str, Result],
    unusable: Mapping[str, str],
    store: Store,
) -> Content:
    """Put a report's content together.

    Args:
        records: results by job id, as they were ranked.
        unusable: reasons why records of some jobs could not be used, by job id.
    """
    jobs = tuple(_job(planned, records, unusable, store) for planned in plan.jobs)
    names = slugs([method.label for method in plan.methods])
    # A tuned method may have candidates of its label, which are no rows of a board.
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
    """Whether a job counts for a board: jobs without a protocol, as they never saw an image, count for every one."""
    return job.record is None or job.record.protocol in (board.protocol, None)


def _job(planned: PlannedJob, records: Mapping[str, Result], unusable: Mapping[str, str], store: Store) -> JobView:
    folder, record = store.folder(planned.id), None
    if planned.id in records:
        try:
            record = store.read(planned.id)
        except ValueError as error:  # since it was ranked, or in a part that leaderboards do not need
            return JobView(planned, folder, "unusable", None, str(error))
    if record is not None:
        return JobView(planned, folder, record.status, record)
    why = unusable.get(planned.id)
    return JobView(planned, folder, "missing", None) if why is None else JobView(planned, folder, "unusable", None, why)


def slugs(labels: Sequence[str]) -> tuple[str, ...]:
    """Names for files: ASCII letters, digits and dashes, and a number that keeps them apart."""
    names = []
    for number, label in enumerate(labels, 1):
        plain = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode().lower()
        slug = re.sub(r"[^a-z0-9]+", "-", plain)[:SLUG_LENGTH].strip("-")
        names.append(f"{slug or 'method'}-{number}")
    return tuple(names)


def _history(file: Path) -> Iterator[dict[str, float]]:
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            values = json.loads(line)
        except ValueError:
            continue  # the last line of a job that was killed while it wrote
        if isinstance(values, dict) and _finite(values.get("epoch")):
            yield {str(name): float(value) for name, value in values.items() if _finite(value)}


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _arrays(file: Path) -> dict[str, NDArray[Any]]:
    import numpy as np

    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, EOFError, ValueError, KeyError, BadZipFile, zlib.error):
        return {}  # the record holds; the report only lacks a picture
