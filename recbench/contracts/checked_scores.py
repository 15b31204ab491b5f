"""Checks of the scores that metrics return: those that the entry declares, and of the right type.

As those of :mod:`recbench.contracts.checked`, they raise :class:`~recbench.contracts.checked.ContractError`.
"""

from __future__ import annotations

import numbers
from collections.abc import Mapping

from torch import Tensor

from recbench.contracts.checked import described, wrong


def check_scores(part: str, call: str, values: object, batch: int, names: tuple[str, ...] = ("",)) -> dict[str, Tensor]:
    """Return the scores that a metric gives for a batch, by name, after checking that each is a floating-point tensor
    (B,).

    Args:
        values: what it gave.
        batch: the number B of images.
        names: of the scores that its entry declares; an empty name alone for a metric of one score.
    """
    each = f"a float tensor ({batch},)"
    given = _by_name(part, call, values, names, each, f"return {each}, one value for each image")
    found = {}
    for name, value in given.items():
        if not (isinstance(value, Tensor) and value.shape == (batch,) and value.is_floating_point()):
            wanted = f"return {each}, one value for each image" if not name else f"return {each} as {name}"
            raise wrong(part, call, wanted, f"it returned {described(value)}")
        found[name] = value
    return found


def check_score(part: str, value: object, names: tuple[str, ...] = ("",)) -> dict[str, float]:
    """Return the scores of a set of images, by name, after checking that they are numbers; ``names`` as for
    :func:`check_scores`."""
    found = {}
    for name, one in _by_name(part, "compute()", value, names, "a float", "return a float").items():
        if not isinstance(one, numbers.Real) or isinstance(one, bool):
            wanted = f"return a float as {name}" if name else "return a float"
            raise wrong(part, "compute()", wanted, f"it returned {described(one)}")
        found[name] = float(one)
    return found


def _by_name(part: str, call: str, value: object, names: tuple[str, ...], each: str, single: str) -> dict[str, object]:
    """Return the scores that a metric gave by name, after checking that they are those which its entry declares."""
    if names == ("",):
        if isinstance(value, Mapping):
            came = "it returned several; the entry declares none of them in scores"
            raise wrong(part, call, single, came)
        return {"": value}
    listed = ", ".join(names)
    wanted = f"return {each} for each of {listed}, by name"
    if not isinstance(value, Mapping):
        raise wrong(part, call, wanted, f"it returned {described(value)}")
    lacking = [name for name in names if name not in value]
    further = [str(name) for name in value if name not in names]
    parts = [f"lacks {', '.join(lacking)}"] if lacking else []
    parts += [f"has {', '.join(further)}, which the entry does not declare in scores"] if further else []
    if parts:
        raise wrong(part, call, wanted, f"what it returned {' and '.join(parts)}")
    return {name: value[name] for name in names}
