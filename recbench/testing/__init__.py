"""The conformance tests that losses, architectures, metrics and data sets must pass, for plugin authors::

    import pytest
    import recbench_losses_mine as plugin
    from recbench.testing import loss_cases

    @pytest.mark.parametrize("case", loss_cases(plugin), ids=str)
    def test_conformance(case):
        case.run()

``architecture_cases``, ``metric_cases`` and ``dataset_cases`` do the same for the other kinds. A case raises
AssertionError if an entry breaks its contract (:mod:`recbench.contracts`), and ``unittest.SkipTest`` (which pytest
reports as skipped) if pretrained weights, raw data or a GPU are missing. Needs no pytest.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, TypeVar

from recbench.contracts.entries import ArchitectureEntry, DatasetEntry, Entry, ImageShape, LossEntry, MetricEntry
from recbench.testing.architectures import ARCHITECTURE_CHECKS, ArchitectureCase
from recbench.testing.case import Case
from recbench.testing.checks import CHECKS
from recbench.testing.datasets import DATASET_CHECKS, DatasetCase
from recbench.testing.metrics import METRIC_CHECKS, MetricCase

__all__ = [
    "ARCHITECTURE_CHECKS",
    "CHECKS",
    "DATASET_CHECKS",
    "METRIC_CHECKS",
    "ArchitectureCase",
    "Case",
    "DatasetCase",
    "MetricCase",
    "architecture_cases",
    "dataset_cases",
    "imports_no_torch",
    "loss_cases",
    "metric_cases",
]

_SIZES = (16, 32, 64, 128, 256)

Variants = Mapping[str, Sequence[Mapping[str, Any]]]
Offered = TypeVar("Offered", bound=Entry)
Made = TypeVar("Made")


def loss_cases(plugin: ModuleType | Iterable[LossEntry], variants: Variants | None = None) -> list[Case]:
    """Return the cases of all checks for all losses of a plugin.

    Args:
        plugin: the module with the hook ``recbench_losses``, or entries.
        variants: by name of a loss, the sets of parameters to test it with; by default its defaults, ``[{}]``.

    Returns:
        Cases for colour and for grey images (those that the loss accepts), each of the smallest size of 16, 32, 64,
        128 and 256 pixels that the loss accepts with these parameters.

    Raises:
        ValueError: ``variants`` names a loss that the plugin does not offer, or a loss accepts none of these shapes.
    """
    return _cases(Case, CHECKS, plugin, "recbench_losses", variants)


def architecture_cases(
    plugin: ModuleType | Iterable[ArchitectureEntry], variants: Variants | None = None
) -> list[ArchitectureCase]:
    """Return the cases of all checks for all architectures of a plugin; as :func:`loss_cases`."""
    return _cases(ArchitectureCase, ARCHITECTURE_CHECKS, plugin, "recbench_architectures", variants)


def metric_cases(plugin: ModuleType | Iterable[MetricEntry], variants: Variants | None = None) -> list[MetricCase]:
    """Return the cases of all checks for all metrics of a plugin; as :func:`loss_cases`."""
    return _cases(MetricCase, METRIC_CHECKS, plugin, "recbench_metrics", variants)


def dataset_cases(plugin: ModuleType | Iterable[DatasetEntry], variants: Variants | None = None) -> list[DatasetCase]:
    """Return the cases of all checks for all data sets of a plugin.

    Args:
        plugin: the module with the hook ``recbench_datasets``, or entries.
        variants: by name of a data set, the sets of parameters to test it with, such as where its files are.

    Raises:
        ValueError: ``variants`` names a data set that the plugin does not offer.
    """
    return [
        DatasetCase(entry, params, None, check)
        for entry, params in _chosen(plugin, "recbench_datasets", variants)
        for check in DATASET_CHECKS
    ]


def _cases(
    kind: Callable[[Any, Mapping[str, Any], ImageShape, Callable[[Any], None]], Made],
    checks: Iterable[Callable[[Any], None]],
    plugin: ModuleType | Iterable[Entry],
    hook: str,
    variants: Variants | None,
) -> list[Made]:
    """Return a case of this kind for every entry, set of parameters, shape and check."""
    return [
        kind(entry, params, shape, check)
        for entry, params in _chosen(plugin, hook, variants)
        for shape in _shapes(entry, params)
        for check in checks
    ]


def _chosen(
    plugin: ModuleType | Iterable[Offered], hook: str, variants: Variants | None
) -> Iterator[tuple[Offered, Mapping[str, Any]]]:
    """Yield the entries of a plugin with the parameters to test them with."""
    entries: list[Offered] = list(getattr(plugin, hook)() if isinstance(plugin, ModuleType) else plugin)
    variants = variants or {}
    unknown = set(variants) - {entry.name for entry in entries}
    if unknown:
        raise ValueError(f"the plugin has no {', '.join(sorted(unknown))}")
    for entry in entries:
        for params in variants.get(entry.name, [{}]):
            yield entry, params


def imports_no_torch(plugin: ModuleType) -> None:
    """Check that importing a plugin does not import torch, so that listing entries stays fast.

    Args:
        plugin: the module with the hooks.

    Raises:
        AssertionError: importing the plugin imports torch.
    """
    code = f"import sys, {plugin.__name__}; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=False)  # noqa: S603 - a module's own name
    assert done.returncode == 0, f"importing {plugin.__name__} imports torch; give factories as text instead"


def _shapes(entry: Entry, params: Mapping[str, Any]) -> list[ImageShape]:
    complete, found = entry.complete(params), []
    for channels in (3, 1):
        shapes = (ImageShape(channels, size, size) for size in _SIZES)
        fitting = next((shape for shape in shapes if not entry.refusals(shape, complete)), None)
        found += [fitting] if fitting is not None else []
    if not found:
        raise ValueError(f"{entry.name} with {dict(params)} accepts no square images of {_SIZES} pixels")
    return found
