"""Scores per test image and histories of jobs, read on demand, with a cache of the moments computed from them.

The cache, ``results/<suite>/statistics.json``, holds the moments of each board and metric under a digest of their
sources, so that a leaderboard that is shown again does not read the scores. It can be deleted at any time.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from recbench.analysis.statistics import ScoreMoments, moments
from recbench.errors import OutOfSpaceError
from recbench.files import read_regular, write_atomically
from recbench.plan.model import Column, Frozen, digest, with_checksum, without_checksum
from recbench.plan.selection import usable
from recbench.store.artifacts import HISTORY, SCORES, ArtifactError, read_history, read_scores
from recbench.store.record import File, Score
from recbench.store.store import Store

_MOST = 1 << 28
"""Largest size of the cache in bytes."""
VERSION = 2
"""Version of the moments; raised when the same scores would give other moments."""


@dataclass(frozen=True)
class PerImageScores:
    """The score of a job by one metric, and the job's files, as its record states them."""

    job_id: str
    score: Score
    files: Mapping[str, File] = field(default_factory=dict)


class _Kept(Frozen):
    """ScoreMoments as JSON."""

    means: tuple[float, ...]
    seeds: tuple[int, ...]
    seed_variances: tuple[float, ...]
    images: int
    covariances: tuple[tuple[float, ...], ...]
    interactions: tuple[float, ...]
    skewness: tuple[float, ...] | None

    @classmethod
    def of(cls, found: ScoreMoments) -> _Kept:
        values = {
            name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(found).items()
        }
        return cls.model_validate(values)

    def moments(self, methods: int) -> ScoreMoments | None:
        """Return the moments; None if they cannot be those of so many methods."""
        found = ScoreMoments(
            means=np.array(self.means),
            seeds=np.array(self.seeds),
            seed_variances=np.array(self.seed_variances),
            images=self.images,
            covariances=_rectangle(self.covariances),
            interactions=np.array(self.interactions),
            skewness=None if self.skewness is None else np.array(self.skewness),
        )
        lines = (found.means, found.seeds, found.seed_variances, found.interactions)
        fits = all(line.shape == (methods,) for line in lines) and found.covariances.shape == (methods, methods)
        return found if fits and (found.skewness is None or found.skewness.shape == (methods,)) else None


def _rectangle(rows: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """Return rows as an array; of shape (0,) if they differ in length."""
    return np.array(rows if len({len(row) for row in rows}) == 1 else [], dtype=np.float64)


_FILE = TypeAdapter(dict[str, _Kept])


def finite_scores(values: NDArray[np.float64], score: Score, column: Column) -> NDArray[np.float64]:
    """Return scores per image, (N,), of which :func:`recbench.plan.selection.usable` is the mean."""
    if not score.infinite or usable(score, column) == score.mean:
        return values
    finite = values[np.isfinite(values)]
    if not len(finite):  # then the file does not match the record
        return values
    return np.clip(values, finite.min(), finite.max())


def counted_scores(values: NDArray[np.float64], column: Column) -> NDArray[np.float64]:
    """Return a training's scores, (N,), of which infinitely good ones count as its best finite one, as on boards."""
    infinite = int(np.isinf(values).sum())
    if not infinite:
        return values
    finite = values[np.isfinite(values)]
    kept = float(np.clip(values, finite.min(), finite.max()).mean()) if len(finite) else None
    with np.errstate(invalid="ignore"):
        mean = float(values.mean())
    score = Score.model_construct(mean=mean, std=None, n=len(values), infinite=infinite, finite=kept)
    return values if usable(score, column) == mean else finite_scores(values, score, column)


class ScoreFiles:
    """The scores per test image in a store, and the moments computed from them.

    Attributes:
        warnings: one line per file that does not match its record, and whose scores were not used.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.warnings: list[str] = []
        self._kept: dict[str, _Kept] | None = None
        self._used: dict[str, _Kept] = {}
        self._files: dict[str, tuple[int, int] | None] = {}

    @property
    def file(self) -> Path:
        return self.store.root / "statistics.json"

    def moments(self, column: Column, methods: Sequence[Sequence[PerImageScores]]) -> ScoreMoments | None:
        """Return the moments of a metric over methods and their seeds; None if any seed has no scores per image."""
        if not all(self._file(scored.job_id) for seeds in methods for scored in seeds):
            return None
        stamps = [[self._stamp(scored) for scored in seeds] for seeds in methods]
        key = digest([VERSION, column.name, repr(column.direction), stamps])
        if self._kept is None:
            self._kept = self._read()
        found = self._kept[key].moments(len(methods)) if key in self._kept else None
        if found is None:
            scores = [[self._scores(scored, column) for scored in seeds] for seeds in methods]
            arrays = [[one for one in seeds if one is not None] for seeds in scores]
            lengths = {len(one) for seeds in arrays for one in seeds}
            if len(lengths) != 1 or any(len(a) < len(s) for a, s in zip(arrays, scores, strict=True)):
                return None
            with np.errstate(invalid="ignore"):  # infinite scores have no variance
                found = moments([np.stack(seeds) for seeds in arrays])
            self._kept[key] = _Kept.of(found)
        self._used[key] = self._kept[key]
        return found

    def save(self) -> None:
        """Write the cache if anything used is new. A folder that is not writable is left alone."""
        if not self._used or self._used.keys() == self._read().keys():
            return
        try:
            write_atomically(self.file, with_checksum(_FILE.dump_json(self._used)))
        except (OSError, OutOfSpaceError):
            return  # without a cache, the next leaderboard only takes longer

    def history(self, job_id: str, files: Mapping[str, File]) -> list[dict[str, float]]:
        """Return the epochs of a job whose record describes these files; empty if they cannot be read."""
        try:
            epochs = read_history(self.store.folder(job_id), files)
        except ArtifactError as error:
            self.warnings.append(f"job {job_id}: its {HISTORY} cannot be read ({error})")
            return []
        return [{key: float(value) for key, value in epoch.items()} for epoch in epochs]

    def _read(self) -> dict[str, _Kept]:
        try:
            content, sealed = without_checksum(read_regular(self.file, _MOST))
            return _FILE.validate_json(content) if sealed else {}
        except (OSError, ValueError):
            return {}  # absent or damaged: computed again

    def _file(self, job_id: str) -> tuple[int, int] | None:
        """Return size and modification time of a job's scores; None if there are none."""
        if job_id not in self._files:
            try:
                # Of ten thousand jobs, putting paths together with pathlib would take seconds.
                status = os.lstat(f"{self.store.root}/jobs/{job_id}/{SCORES}")
                self._files[job_id] = status.st_size, status.st_mtime_ns
            except OSError:
                self._files[job_id] = None
        return self._files[job_id]

    def _stamp(self, scored: PerImageScores) -> list[object]:
        """Return what changes with a job's scores: what the record says, and size and time of the file."""
        described = scored.files.get(SCORES)
        facts = [scored.job_id, repr(scored.score.mean), repr(scored.score.std), self._file(scored.job_id)]
        return [*facts, described and described.sha256]

    def _scores(self, scored: PerImageScores, column: Column) -> NDArray[np.float64] | None:
        """Return the scores of all test images, (N,); None if they cannot be read or do not match the record."""
        metric = column.name
        try:
            folder = self.store.folder(scored.job_id)
            values = read_scores(folder, metric, files=scored.files, images=scored.score.n)[metric]
        except ArtifactError as error:
            self.warnings.append(f"job {scored.job_id}: its {SCORES} cannot be read ({error})")
            return None
        with np.errstate(over="ignore", invalid="ignore"):  # of scores that are not those of the record
            mean = float(values.mean()) if len(values) else np.nan
        if len(values) != scored.score.n or not np.isclose(mean, scored.score.mean, rtol=1e-9, atol=0):
            self.warnings.append(f"job {scored.job_id}: its {SCORES} does not match the {metric} of its record")
            return None
        counted = finite_scores(values, scored.score, column)
        if not np.isclose(counted.mean(), usable(scored.score, column), rtol=1e-9, atol=0):
            self.warnings.append(f"job {scored.job_id}: its {SCORES} does not match the finite {metric} of its record")
            return None
        return counted
