"""Scoring of the stored model of a job, which trains nothing: by metrics that are new or have changed, or again after a
metric failed. Scores that there are already stay as they are, bit for bit."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recbench.contracts.entries import ImageShape
from recbench.data.cache import Prepared
from recbench.errors import RecbenchError
from recbench.files import write_atomically
from recbench.job.evaluation import Evaluation, NotFinite
from recbench.job.parts import MetricSpec, Model
from recbench.job.stored_model import StoredModelError, load_model, training_of
from recbench.plan.model import ComponentSpec, EvaluationSplit, Job, Training
from recbench.plugin.registry import Registry
from recbench.store import artifacts
from recbench.store.artifacts import EPOCHS, HISTORY, MODEL, SCORES, TRACES, ArtifactError
from recbench.store.record import Provenance, Record, Rescored
from recbench.store.store import Store


def stale(record: Record, metrics: Mapping[str, ComponentSpec]) -> dict[str, ComponentSpec]:
    """Return those of the metrics, by label, that a record is not scored with as they are."""
    return {label: spec for label, spec in metrics.items() if record.job.metrics.get(label) != spec}


def is_scorable(record: Record | None, fingerprint: str) -> bool:
    """Return whether a record describes a model that was trained on these images."""
    return (
        record is not None
        and MODEL in record.files
        and record.data is not None
        and (record.data.fingerprint == fingerprint)
    )


def adopt(
    store: Store, job: Job, registry: Registry, prepared: Prepared, device: torch.device, work: Path
) -> tuple[Model, dict[str, MetricSpec], dict[str, Any], Training] | None:
    """Return the model of the job that differs only in the split that it is scored on: it had the same training.

    What training has left is copied to the folder ``work``. A job whose loss or metrics have traces is not taken, since
    these are of the images that it is scored on.

    Returns:
        The model, the job's own metrics, what a record says of training, and the training in the precision that it had;
        None if there is no such model.
    """
    other: EvaluationSplit = "validation" if job.split == "test" else "test"
    try:
        record = store.read(job.model_copy(update={"split": other}).id)
    except ValueError:  # reported when it is used
        return None
    if record is None or record.trained is None or not is_scorable(record, prepared.fingerprint):
        return None
    folder = store.folder(record.job_id)
    if TRACES in record.files or not artifacts.has_model(folder):
        return None
    _, channels, height, width = prepared.load("train").shape
    try:
        shape = ImageShape(channels, height, width)
        model, metrics = load_model(store, record, registry, shape, device, job.metrics)
        files = {name: record.files[name] for name in (HISTORY, MODEL, EPOCHS) if name in record.files}
        for name in files:
            write_atomically(work / name, artifacts.content(folder, name, record.files))
    except (StoredModelError, ArtifactError):
        return None
    sys.stdout.write(f"the model is that of job {record.job_id}, which had the same training\n")
    trained = record.trained.model_copy(update={"job": record.trained.job or record.job_id})
    return model, metrics, {"trained": trained, "cost": record.cost, "files": files}, training_of(record)


@dataclass(frozen=True)
class NewScores:
    """Scores of a stored model by some metrics.

    Attributes:
        metrics: those that it could be scored by, by label.
        evaluation: their scores.
        troubles: a line for each metric that failed.
    """

    metrics: dict[str, ComponentSpec]
    evaluation: Evaluation | None
    troubles: tuple[str, ...]
    seconds: float


def score(
    wanted: Mapping[str, ComponentSpec],
    built: Mapping[str, MetricSpec],
    evaluate: Callable[[Mapping[str, MetricSpec]], Evaluation],
) -> NewScores:
    """Score a model by all metrics that can; one that fails takes no other with it.

    Args:
        wanted: the metrics by label.
        built: the same metrics, created.
        evaluate: evaluates the model.
    """
    left, troubles = dict(wanted), []
    start = time.perf_counter()
    while left:
        try:
            found = evaluate({label: built[label] for label in left})
        except RecbenchError as error:
            if error.metric not in left:
                raise
            failed = [error.metric]
            if not isinstance(error, NotFinite):  # nor has it the other scores of the same pass
                failed = [label for label in left if built[label].metric is built[error.metric].metric]
            troubles.append(f"it could not be scored by {', '.join(failed)}, and has no score of it: {error}")
            for label in failed:
                del left[label]
        else:
            return NewScores(left, found, tuple(troubles), round(time.perf_counter() - start, 3))
    return NewScores({}, None, tuple(troubles), 0.0)


def rescored(record: Record, new: NewScores, folder: Path, work: Path, provenance: Provenance) -> Record:
    """Return a finished record with new scores, after writing the files that it describes anew.

    Args:
        record: of the job, done.
        new: the scores.
        folder: of the job.
        work: the folder to write to.
        provenance: where the scores were made.
    """
    evaluation = new.evaluation
    assert evaluation is not None, "there are scores"
    metrics = {**record.job.metrics, **new.metrics}
    kept = {label: one for label, one in record.scores.items() if label not in new.metrics}
    scores = {**kept, **evaluation.scores}
    files = dict(record.files)
    artifacts.write_scores(work, _columns(record, new, folder))
    files.update(artifacts.describe(work, [SCORES]))
    traces = _traces(record, new, folder)
    if traces:
        artifacts.write_traces(work, traces)
        files.update(artifacts.describe(work, [TRACES]))
    again = Rescored(metrics=tuple(new.metrics), seconds=new.seconds, provenance=provenance)
    return record.model_copy(
        update={
            "job": record.job.model_copy(update={"metrics": metrics}),
            "scores": {label: scores[label] for label in metrics if label in scores},
            "without": tuple(label for label in metrics if label not in scores),
            "reasons": {**record.reasons, **evaluation.reasons},
            "files": files,
            "rescored": (*record.rescored, again),
        }
    )


def _columns(record: Record, new: NewScores, folder: Path) -> dict[str, NDArray[np.float64]]:
    """Return the scores per image: those of other metrics as they are in the job's file, if that is there."""
    assert new.evaluation is not None, "there are scores"
    try:
        before = artifacts.read_scores(folder, files=record.files)
    except ArtifactError:
        before = {}
    kept = {name: values for name, values in before.items() if name not in new.metrics}
    return {**new.evaluation.per_image, **kept}


def _traces(record: Record, new: NewScores, folder: Path) -> dict[str, Tensor]:
    """Return the traces of loss and metrics; empty if nothing about them is new."""
    assert new.evaluation is not None, "there are scores"
    before = artifacts.kept_traces(folder, record.files)
    old = [name for name in before if artifacts.is_trace_of(name, new.metrics)]
    if not old and not new.evaluation.traces:
        return {}
    return {**{name: value for name, value in before.items() if name not in old}, **new.evaluation.traces}
