"""The entries that scripts and notebooks name, with the plugins that they give."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from recbench.contracts.entries import Entry, ImageShape
from recbench.data.weights import lacking
from recbench.errors import UserError, did_you_mean
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registered, Registry

PluginFiles = Sequence[str | os.PathLike[str]]


def plugin_files(given: PluginFiles) -> tuple[str, ...]:
    """Return single-file plugins as absolute paths: those given, or else those that ``RECBENCH_PLUGINS`` names.

    Raises:
        UserError: what was given is no list of files.
    """
    if isinstance(given, str | os.PathLike):
        raise UserError(f"plugins must be a list of files, such as plugins=[{os.fspath(given)!r}]")
    named = [os.fspath(file) for file in given] or os.environ.get("RECBENCH_PLUGINS", "").split(os.pathsep)
    return tuple(str(Path(file).expanduser().resolve()) for file in named if file)


def blocked_plugins() -> tuple[str, ...]:
    """Return the distributions that ``RECBENCH_BLOCK`` names."""
    return tuple(os.environ.get("RECBENCH_BLOCK", "").split())


def registry(files: tuple[str, ...]) -> Registry:
    """Return the registry of all installed plugins and these files, as they are now.

    Raises:
        UserError: a file cannot be used.
    """
    if files:  # which the user may be editing
        return Registry(load_plugins(files, blocked_plugins()))
    return _installed(blocked_plugins())


@lru_cache(maxsize=1)
def _installed(blocked: tuple[str, ...]) -> Registry:
    return Registry(load_plugins((), blocked))


def chosen(kind: str, name: str, params: Mapping[str, Any], plugins: PluginFiles) -> tuple[Registered, dict[str, Any]]:
    """Return an entry by name with its complete parameters.

    Raises:
        UserError: there is no such entry or parameter, or a value is not one of the parameter's.
    """
    if not isinstance(name, str):
        raise UserError(f"expected the name of one of the {kind}, got {name!r}")
    registered = registry(plugin_files(plugins)).get(kind, name)
    entry = registered.entry
    known = [parameter.name for parameter in entry.parameters]
    for key in params:
        if key not in known:
            raise UserError(f"{name} has no parameter '{key}'; {did_you_mean(key, known)}")
    try:
        return registered, entry.complete(params)
    except ValueError as error:
        raise UserError(f"{name}: {error}") from None


def image_shape(shape: object) -> ImageShape:
    """Return a shape that was given as (channels, height, width).

    Raises:
        UserError: it is something else.
    """
    if isinstance(shape, ImageShape):
        return shape
    numbers = tuple(shape) if isinstance(shape, list | tuple) else ()
    if len(numbers) != 3 or not all(type(number) is int and number > 0 for number in numbers):
        raise UserError(f"shape must be (channels, height, width), such as (3, 64, 64), got {shape!r}")
    return ImageShape(*numbers)


def check_accepted(entry: Entry, shape: ImageShape, params: Mapping[str, Any]) -> None:
    """Check that an entry takes images of a shape, and that its pretrained weights are here.

    Raises:
        UserError: it does not, or they are not.
    """
    reasons = entry.refusals(shape, params)
    if not reasons:
        reasons = list(filter(None, [lacking(entry, shape, params)]))
    if reasons:
        raise UserError("; ".join(f"{entry.name} cannot take {shape} images: it {reason}" for reason in reasons))
