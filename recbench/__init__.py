"""recbench: a benchmark of reconstruction losses for (variational) autoencoders.

Importing this package imports neither torch nor any plugin. Plugin authors find the entries and the hook marker here,
and the classes to derive from in :mod:`recbench.contracts`.
"""

from recbench.entries import (
    ArchitectureEntry,
    DatasetEntry,
    ExecutorEntry,
    ImageShape,
    LossEntry,
    MetricEntry,
    Parameter,
    RawFile,
    Requirements,
    TrackerEntry,
    Tunable,
    Weights,
)
from recbench.hookspecs import hookimpl

__version__ = "0.1.0"

__all__ = [
    "ArchitectureEntry",
    "DatasetEntry",
    "ExecutorEntry",
    "ImageShape",
    "LossEntry",
    "MetricEntry",
    "Parameter",
    "RawFile",
    "Requirements",
    "TrackerEntry",
    "Tunable",
    "Weights",
    "__version__",
    "hookimpl",
]
