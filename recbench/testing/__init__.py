"""The conformance test that every loss must pass, for plugin authors::

    import pytest
    import recbench_losses_mine as plugin
    from recbench.testing import loss_cases

    @pytest.mark.parametrize("case", loss_cases(plugin), ids=str)
    def test_conformance(case):
        case.run()

A case raises AssertionError if a loss breaks the contract of :class:`recbench.contracts.loss.Loss`, and
``unittest.SkipTest`` (which pytest reports as skipped) if pretrained weights or a GPU are missing. Needs no pytest.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

from recbench.contracts.entries import ImageShape, LossEntry
from recbench.testing.case import Case
from recbench.testing.checks import CHECKS

__all__ = ["CHECKS", "Case", "imports_no_torch", "loss_cases"]

_SIZES = (16, 32, 64, 128, 256)


def loss_cases(
    plugin: ModuleType | Iterable[LossEntry], variants: Mapping[str, Sequence[Mapping[str, Any]]] | None = None
) -> list[Case]:
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
    entries = list(plugin.recbench_losses() if isinstance(plugin, ModuleType) else plugin)
    variants = variants or {}
    unknown = set(variants) - {entry.name for entry in entries}
    if unknown:
        raise ValueError(f"the plugin has no loss {', '.join(sorted(unknown))}")
    cases = []
    for entry in entries:
        for params in variants.get(entry.name, [{}]):
            shapes = list(_shapes(entry, entry.complete(params)))
            if not shapes:
                raise ValueError(f"{entry.name} with {dict(params)} accepts no square images of {_SIZES} pixels")
            cases += [Case(entry, params, shape, check) for shape in shapes for check in CHECKS]
    return cases


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


def _shapes(entry: LossEntry, params: Mapping[str, Any]) -> Iterator[ImageShape]:
    for channels in (3, 1):
        shapes = (ImageShape(channels, size, size) for size in _SIZES)
        fitting = next((shape for shape in shapes if not entry.refusals(shape, params)), None)
        if fitting is not None:
            yield fitting
