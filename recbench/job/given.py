"""Reconstructions by any tool: folders or .npy arrays, one for each method or seed, scored as in evaluation."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recbench.contracts.entries import ImageShape, Range
from recbench.errors import UserError
from recbench.job.image_sets import check_order, few, image_names, read_images
from recbench.job.images import convert, to_8_bits
from recbench.job.standalone import ImagePair, as_images, score_metric
from recbench.plugin.registry import Registered
from recbench.store.record import ComparedSets

_SEED = re.compile(r"(?:seed[-_ ]?)?(\d+)", re.IGNORECASE)
_UNIT = (0.0, 1.0)
_LAYOUT = "expected image files, or a sub-folder or .npy file for each seed: seed-0, seed-1, …"


@dataclass(frozen=True)
class GivenMethod:
    """A method whose reconstructions are given.

    Attributes:
        seeds: a folder of images or an .npy array for each seed, in the order of their numbers.
    """

    name: str
    seeds: tuple[Path, ...]


@dataclass(frozen=True)
class GivenImages:
    """The target images and the reconstructions of all methods, all of one shape (N, C, H, W) and of the same images.

    Attributes:
        reconstructions: for each method, the images of its seeds, as they were read.
        value_range: of floating-point arrays.
    """

    target: Tensor
    methods: tuple[GivenMethod, ...]
    reconstructions: tuple[tuple[NDArray[Any], ...], ...]
    value_range: Range | None

    @property
    def shape(self) -> ImageShape:
        return ImageShape(*self.target.shape[1:])


@dataclass(frozen=True)
class GivenScore:
    """One score of all reconstructions.

    Attributes:
        methods: for each method, scores (S, N) of its seeds and images, or (S,) of a metric of whole sets.
        compared: what a distance between sets of images compared.
    """

    methods: list[NDArray[np.float64]]
    compared: ComparedSets | None


def find_methods(given: Sequence[str]) -> tuple[GivenMethod, ...]:
    """Return the methods that ``PATH`` or ``NAME=PATH`` stand for; without a name, it is the path's last part.

    Raises:
        UserError: a path does not exist or is neither images nor seeds of them, or two methods have one name.
    """
    methods: dict[str, GivenMethod] = {}
    for text in given:
        name, equals, rest = text.partition("=")
        named = bool(name and equals) and not Path(text).exists()
        path = Path(rest if named else text)
        if not path.exists():
            raise UserError(f"{path} does not exist: expected a folder of images or an .npy array")
        if not named:
            whole = path.resolve()
            name = whole.name if path.is_dir() else whole.stem
        if name in methods:
            raise UserError(f"{text}: another method is called {name} too; name one of them, as in other={path}")
        methods[name] = GivenMethod(name, _seeds(path))
    return tuple(methods.values())


def _seeds(path: Path) -> tuple[Path, ...]:
    """Return what holds the images of each seed: the path itself, unless it is a folder of seeds."""
    if not path.is_dir():
        return (path,)
    within = [one for one in sorted(path.iterdir()) if not one.name.startswith(".")]
    seeds: dict[int, Path] = {}
    others = []
    for one in within:
        numbered = _SEED.fullmatch(one.name if one.is_dir() else one.stem)
        if numbered is None or not (one.is_dir() or one.suffix == ".npy"):
            others.append(one.name)
        elif int(numbered[1]) in seeds:
            raise UserError(f"{path} has seed {int(numbered[1])} twice: {seeds[int(numbered[1])].name} and {one.name}")
        else:
            seeds[int(numbered[1])] = one
    images = image_names(path)
    if seeds and (images or any((path / name).is_dir() or name.endswith(".npy") for name in others)):
        raise UserError(f"{path} holds seeds ({_named(seeds)}) and others ({few(others)}): {_LAYOUT}")
    if seeds:
        return tuple(seeds[number] for number in sorted(seeds))
    if not images:
        raise UserError(f"{path} holds no images{f', but {few(others)}' if others else ''}: {_LAYOUT}")
    return (path,)


def _named(seeds: Mapping[int, Path]) -> str:
    return few([seeds[number].name for number in sorted(seeds)])


def read_given(target: Path, methods: Sequence[GivenMethod], value_range: Range | None) -> GivenImages:
    """Read all images, and check that each seed of each method has those of the target.

    Files belong together by their names without ending, so that ``7.jpg`` reconstructs ``7.png``; the images of arrays,
    by their order.

    Raises:
        UserError: a file cannot be read, or names, number or size of the images differ from the target's.
    """
    originals = np.ascontiguousarray(read_images(target))
    found = []
    for method in methods:
        seeds = []
        for path in method.seeds:
            if path.is_dir() and target.is_dir():
                _check_names(path, target)
            check_order(path, target)
            images = np.ascontiguousarray(read_images(path))
            _check_shape(path, images.shape, target, originals.shape)
            _as_images(images, path, value_range)
            seeds.append(images)
        found.append(tuple(seeds))
    wanted, limits = _as_images(originals, target, value_range)
    return GivenImages(convert(wanted, limits, _UNIT), tuple(methods), tuple(found), value_range)


def _check_names(path: Path, target: Path) -> None:
    ours, theirs = image_names(path), image_names(target)
    stems, wanted = [Path(name).stem for name in ours], [Path(name).stem for name in theirs]
    if len(set(stems)) == len(stems) and len(set(wanted)) == len(wanted):
        ours, theirs = stems, wanted
    lacking, further = sorted(set(theirs) - set(ours)), sorted(set(ours) - set(theirs))
    parts = [f"lacks {len(lacking)} of the {len(theirs)} images of {target} ({few(lacking)})"] if lacking else []
    parts += [f"has {len(further)} that it lacks ({few(further)})"] if further and lacking else []
    parts += [f"has {len(further)} images that {target} lacks ({few(further)})"] if further and not lacking else []
    if parts:
        raise UserError(f"{path} {' and '.join(parts)}; both must hold the same images, by name")


def _check_shape(path: Path, ours: tuple[int, ...], target: Path, theirs: tuple[int, ...]) -> None:
    if ours == theirs:
        return
    if ours[1:] == theirs[1:]:
        raise UserError(f"{path} holds {ours[0]} images, {target} holds {theirs[0]}; they must be equally many")
    sizes = " and ".join(
        f"{one} holds images of {'x'.join(map(str, shape[1:]))}" for one, shape in ((path, ours), (target, theirs))
    )
    raise UserError(f"{sizes} (channels x height x width); they must be equal")


def _as_images(array: NDArray[Any], path: Path, value_range: Range | None) -> tuple[Tensor, Range]:
    limits = None if array.dtype == np.uint8 else value_range
    images, known = as_images(array, path, limits, torch.float32)
    if array.dtype != np.uint8 and not bool(known[0] <= images.amin() and images.amax() <= known[1]):
        came = f"{float(images.amin()):g} to {float(images.amax()):g}"
        raise UserError(f"{path} has values from {came}, outside of {known[0]:g} to {known[1]:g}; give its --range")
    return images, known


def shown_images(given: GivenImages) -> tuple[NDArray[np.uint8], list[NDArray[np.uint8]]]:
    """Return the targets, and each method's reconstructions of its first seed, as bytes (N, C, H, W)."""
    found = []
    for method, (first, *_) in zip(given.methods, given.reconstructions, strict=True):
        images, limits = _as_images(first, method.seeds[0], given.value_range)
        found.append(to_8_bits(convert(images, limits, _UNIT)).numpy())
    return to_8_bits(given.target).numpy(), found


def score_given(
    given: GivenImages, metric: Registered, params: Mapping[str, Any], *, cache: Path
) -> tuple[dict[str, GivenScore], str]:
    """Score all reconstructions by a metric.

    Returns:
        The scores by name, which for most metrics is that of the metric; and what a reader of them must know.

    Raises:
        UserError: the metric cannot take such images, lacks its weights, or gives NaN.
    """
    found: dict[str, GivenScore] = {}
    warning = ""
    for method, reconstructions in zip(given.methods, given.reconstructions, strict=True):
        seeds: dict[str, list[NDArray[np.float64]]] = {}
        for path, array in zip(method.seeds, reconstructions, strict=True):
            images, limits = _as_images(array, path, given.value_range)
            pair = ImagePair(convert(images, limits, _UNIT), given.target, _UNIT)
            for scored in score_metric(metric, params, pair, seed=0, cache=cache):
                values = np.array(scored.mean if scored.per_image is None else scored.per_image, dtype=np.float64)
                lost = int(np.isnan(values).sum())
                if lost:
                    raise UserError(f"{path}: the metric {scored.name} gives NaN for {lost} scores")
                seeds.setdefault(scored.name, []).append(values)
                warning = warning or scored.warning
                found.setdefault(scored.name, GivenScore([], scored.compared))
        for name, values_of_seeds in seeds.items():
            found[name].methods.append(np.stack(values_of_seeds))
    return found, warning
