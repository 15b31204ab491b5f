"""recbench: a benchmark of reconstruction losses for (variational) autoencoders.

This is the public face: what plugin authors and scripts import. Everything below ``recbench.<room>`` that is not named
here, in :mod:`recbench.contracts` or in :mod:`recbench.testing` is private and may change.

Importing this package imports neither torch nor any plugin: names that need more are loaded when they are first used.

Entries (frozen facts that plugins yield) and their fields:
    LossEntry, ArchitectureEntry, DatasetEntry, MetricEntry, ExecutorEntry, TrackerEntry, Parameter, Tunable,
    Requirements, Weights, RawFile, ImageShape, MetricScore, Convention, and the marker ``hookimpl``.
Contracts (classes to derive from, and what their methods are given):
    Loss, Likelihood, Auxiliary, Context, Setting; Architecture, Fitted, Posterior, Gaussian, Deterministic,
    Decoded; Dataset; ImageMetric, SetMetric, BoundMetric, Reference; Executor, Task, JobProgress, Ended; Tracker, Run.
Scripts and notebooks (docs/python.md):
    ``load`` (the results of a suite: ``SuiteResults``), ``run`` (a suite, from a script or notebook), ``loss`` and
    ``metric`` (for loops of one's own), ``rank`` (any table of scores: intervals, rank intervals, tiers).
Services for plugins:
    ``load_weights`` (pretrained weights, checked, never unpickled), ``image_files`` (depth, frames, transparency),
    ``write_atomically``, ``lock``, ``holder`` (files that survive a crash), ``Store`` (the records of a suite),
    ``run_task`` and ``reason_of`` (what an executor calls to run a job), ``UserError`` (a mistake of the user's).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from recbench.contracts.entries import (
    ArchitectureEntry,
    Convention,
    DatasetEntry,
    ExecutorEntry,
    ImageShape,
    LossEntry,
    MetricEntry,
    MetricScore,
    Parameter,
    RawFile,
    Requirements,
    TrackerEntry,
    Tunable,
    Weights,
)
from recbench.plugin.spec import hookimpl

if TYPE_CHECKING:
    from recbench.api.losses import loss
    from recbench.api.metrics import metric
    from recbench.api.ranking import rank
    from recbench.api.results import SuiteResults, load
    from recbench.api.running import run
    from recbench.contracts.architecture import Architecture, Decoded, Deterministic, Fitted, Gaussian, Posterior
    from recbench.contracts.dataset import Dataset
    from recbench.contracts.executor import Ended, Executor, JobProgress, Task
    from recbench.contracts.loss import Auxiliary, Context, Likelihood, Loss, Setting
    from recbench.contracts.metric import BoundMetric, ImageMetric, Reference, SetMetric
    from recbench.contracts.tracker import Run, Tracker
    from recbench.data import image_files
    from recbench.data.weights import load_weights
    from recbench.errors import UserError
    from recbench.files import holder, lock, write_atomically
    from recbench.job.accidents import reason_of
    from recbench.job.runner import run_task
    from recbench.store.store import Store

__version__ = "0.1.0"

_LAZY = {
    "api.losses": ("loss",),
    "api.metrics": ("metric",),
    "api.ranking": ("rank",),
    "api.results": ("SuiteResults", "load"),
    "api.running": ("run",),
    "contracts.architecture": ("Architecture", "Decoded", "Deterministic", "Fitted", "Gaussian", "Posterior"),
    "contracts.dataset": ("Dataset",),
    "contracts.executor": ("Ended", "Executor", "JobProgress", "Task"),
    "contracts.loss": ("Auxiliary", "Context", "Likelihood", "Loss", "Setting"),
    "contracts.metric": ("BoundMetric", "ImageMetric", "Reference", "SetMetric"),
    "contracts.tracker": ("Run", "Tracker"),
    "data": ("image_files",),
    "data.weights": ("load_weights",),
    "errors": ("UserError",),
    "files": ("holder", "lock", "write_atomically"),
    "job.accidents": ("reason_of",),
    "job.runner": ("run_task",),
    "store.store": ("Store",),
}
_HOME = {name: f"recbench.{module}" for module, names in _LAZY.items() for name in names}

__all__ = [
    "Architecture",
    "ArchitectureEntry",
    "Auxiliary",
    "BoundMetric",
    "Context",
    "Convention",
    "Dataset",
    "DatasetEntry",
    "Decoded",
    "Deterministic",
    "Ended",
    "Executor",
    "ExecutorEntry",
    "Fitted",
    "Gaussian",
    "ImageMetric",
    "ImageShape",
    "JobProgress",
    "Likelihood",
    "Loss",
    "LossEntry",
    "MetricEntry",
    "MetricScore",
    "Parameter",
    "Posterior",
    "RawFile",
    "Reference",
    "Requirements",
    "Run",
    "SetMetric",
    "Setting",
    "Store",
    "SuiteResults",
    "Task",
    "Tracker",
    "TrackerEntry",
    "Tunable",
    "UserError",
    "Weights",
    "__version__",
    "holder",
    "hookimpl",
    "image_files",
    "load",
    "load_weights",
    "lock",
    "loss",
    "metric",
    "rank",
    "reason_of",
    "run",
    "run_task",
    "write_atomically",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'recbench' has no attribute {name!r}")
    module = import_module(_HOME[name])
    return import_module(f"{_HOME[name]}.{name}") if name == "image_files" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
