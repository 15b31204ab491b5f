"""Entries: frozen descriptions of what a plugin offers.

An entry names a loss, a metric and so on, and says which parameters it has, which images it accepts, and where its code
is. The core reads entries to list, validate and document, long before any of that code (and torch) is imported.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from recbench.contracts.derived import parameters_of, summary_of
from recbench.contracts.direction import Direction, check_direction
from recbench.contracts.downloads import Download, RawFile, Weights
from recbench.contracts.parameters import Parameter, Tunable
from recbench.contracts.scores import Convention, MetricScore, check_digits, check_score_range
from recbench.contracts.shapes import ImageShape, Requirements
from recbench.errors import quoted

__all__ = [
    "ArchitectureEntry",
    "Convention",
    "DatasetEntry",
    "Download",
    "Entry",
    "ExecutorEntry",
    "ImageShape",
    "LossEntry",
    "MetricEntry",
    "MetricScore",
    "Parameter",
    "Range",
    "RawFile",
    "Requirements",
    "ShapeCheck",
    "TrackerEntry",
    "Tunable",
    "Weights",
]

Range = tuple[float, float]
"""Lowest and highest value."""

ShapeCheck = Callable[[ImageShape, Mapping[str, Any]], Iterable[str]]
CouplesBatch = Callable[[Mapping[str, Any]], bool]
NeededWeights = Callable[[ImageShape, Mapping[str, Any]], Iterable[Weights]]

_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Base class of the entries of all kinds.

    Attributes:
        name: its name in suites: lower case letters, digits and underscores.
        factory: address of its code, ``"package.module:Class"``, which is imported only when a job needs it. A plugin
            that is a single file (``--plugin FILE``) gives the class itself. It is called with every parameter by
            keyword.
        summary: one line for ``recbench list``.
        parameters: the parameters that a suite may set.
        requirements: the image shapes that it accepts, whatever its parameters.
        check: further conditions that depend on the parameters: ``check(shape, params)`` yields the reasons why images
            of a shape are not accepted. Must not import torch.
        weights: every file of pretrained weights that it may need.
        needed: ``needed(shape, params)`` yields the weights that it needs with these parameters; without it, all.
        citation: its publication.
        notes: what a user must know, for ``recbench show``.

    Raises:
        TypeError: a field has the wrong type.
        ValueError: a field has an invalid value; the text names the entry and the field.
    """

    name: str
    factory: str | Callable[..., Any]
    summary: str
    parameters: tuple[Parameter, ...] = ()
    requirements: Requirements = field(default_factory=Requirements)
    check: ShapeCheck | None = None
    weights: tuple[Weights, ...] = ()
    needed: NeededWeights | None = None
    citation: str = ""
    notes: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ValueError(f"entry name {quoted(self.name)} must be lower case letters, digits and underscores")
        if isinstance(self.factory, str):
            if not re.fullmatch(r"\w+(\.\w+)*:\w+", self.factory):
                raise ValueError(f"{self.name}: factory {quoted(self.factory)} is not 'package.module:Class'")
        elif not callable(self.factory):
            raise TypeError(f"{self.name}: expected factory to be text or a class, got {quoted(self.factory)}")
        for text in ("summary", "citation", "notes"):
            if not isinstance(getattr(self, text), str):
                raise TypeError(f"{self.name}: {text} must be text")
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

    @classmethod
    def of(
        cls,
        factory: Callable[..., Any],
        name: str,
        *,
        doc: Mapping[str, str] | None = None,
        choices: Mapping[str, tuple[Any, ...]] | None = None,
        minimum: Mapping[str, float] | None = None,
        above: Mapping[str, float] | None = None,
        maximum: Mapping[str, float] | None = None,
        tunable: Mapping[str, Tunable] | None = None,
        **facts: Any,
    ) -> Self:
        """Return the entry of a class that says the rest itself, for single-file plugins.

        Parameters are the arguments of its constructor that have a default, as in
        :func:`~recbench.contracts.derived.parameters_of`. The summary is the first line of its docstring, or else of
        its module's.

        Args:
            doc, choices, minimum, above, maximum, tunable: what else to say of parameters, each by their names.
            facts: fields of the entry; they go before what the class says.
        """
        more = {"doc": doc, "choices": choices, "minimum": minimum, "above": above, "maximum": maximum}
        parameters = parameters_of(name, factory, **more, tunable=tunable)
        said = {"summary": summary_of(factory), "parameters": parameters}
        return cls(name=name, factory=factory, **{**said, **facts})

    def parameter(self, name: str) -> Parameter | None:
        """Return the parameter of this name, or None."""
        return next((parameter for parameter in self.parameters if parameter.name == name), None)

    def complete(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return all parameters in declared order: ``params`` in their types, the others at their defaults.

        Args:
            params: values by name, as a suite gives them.

        Raises:
            ValueError: a parameter is unknown, or has a value of another type or out of bounds.

        >>> entry = LossEntry(name="l", factory="p:L", summary="", parameters=(Parameter("C", float, 1.0, "scale"),))
        >>> entry.complete({}), entry.complete({"C": 2})
        ({'C': 1.0}, {'C': 2.0})
        """
        unknown = set(params) - {parameter.name for parameter in self.parameters}
        if unknown:
            raise ValueError(f"{self.name} has no parameter {', '.join(sorted(unknown))}")
        return {p.name: p.coerce(params.get(p.name, p.default)) for p in self.parameters}

    def refusals(self, shape: ImageShape, params: Mapping[str, Any]) -> list[str]:
        """Return the reasons why the entry cannot take images of a shape; empty if it can.

        Args:
            shape: the shape of the images.
            params: complete parameters, as :meth:`complete` returns them.

        Returns:
            Clauses without a subject, such as ``"needs at least 16 pixels a side, not 8x8"``.
        """
        found = self.requirements.problems(shape)
        if not found and self.check is not None:
            found.extend(self.check(shape, params))
        return found

    def needed_weights(self, shape: ImageShape, params: Mapping[str, Any]) -> tuple[Weights, ...]:
        """Return the weights that the entry needs.

        Args:
            shape: the shape of the images.
            params: complete parameters, as :meth:`complete` returns them.
        """
        return self.weights if self.needed is None else tuple(self.needed(shape, params))


def _check_range(name: str, value_range: Range) -> None:
    if not (len(value_range) == 2 and all(map(math.isfinite, value_range)) and value_range[0] < value_range[1]):
        raise ValueError(f"{name}: expected value_range to be (lowest, highest), got {value_range}")


@dataclass(frozen=True, kw_only=True)
class LossEntry(Entry):
    """A reconstruction loss; ``factory(setting, **params)`` returns a :class:`recbench.contracts.loss.Loss`.

    Attributes:
        value_range: lowest and highest value of the images that the loss expects; the core converts to it.
        family: name shared with the metrics that favour this loss, which are in-family for it (``"ssim"``).
        families: all such names, for a loss that has several, as one with a pixel and a perceptual term; by default
            ``family`` alone.
        couples_batch: whether the value of an image depends on the other images of its batch, as some losses are
            defined; or a function of the complete parameters that returns this.
        stops_gradient: whether the loss is defined with part of its value held constant in the gradient, so that the
            gradient is not the derivative of the value.
    """

    value_range: Range = (0.0, 1.0)
    family: str = "pixel"
    couples_batch: bool | CouplesBatch = False
    stops_gradient: bool = False
    families: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_range(self.name, self.value_range)
        if isinstance(self.families, str) or not all(isinstance(one, str) and one for one in self.families):
            raise TypeError(f"{self.name}: families must be a set of names, got {quoted(self.families)}")
        object.__setattr__(self, "families", frozenset(self.families or {self.family}))
        if self.family not in self.families:
            object.__setattr__(self, "family", " + ".join(sorted(self.families)))

    def couples(self, params: Mapping[str, Any]) -> bool:
        """Return whether the value of an image depends on the other images of its batch.

        Args:
            params: complete parameters, as :meth:`complete` returns them.
        """
        return self.couples_batch if isinstance(self.couples_batch, bool) else self.couples_batch(params)


@dataclass(frozen=True, kw_only=True)
class ArchitectureEntry(Entry):
    """An autoencoder; ``factory(shape, **params)`` returns a :class:`recbench.contracts.architecture.Architecture`.

    Attributes:
        value_range: lowest and highest value of its input and of its decoded images.
        trainable: whether it is trained in steps; otherwise it is a :class:`recbench.contracts.architecture.Fitted`,
            and may be a baseline of a suite.
        has_prior: whether z can be drawn without an image, as its class says: metrics of samples need that.
        has_kl: whether its posterior has a KL divergence: metrics that are made of it need that.
    """

    value_range: Range = (-1.0, 1.0)
    trainable: bool = True
    has_prior: bool = True
    has_kl: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_range(self.name, self.value_range)


@dataclass(frozen=True, kw_only=True)
class DatasetEntry(Entry):
    """A data set; ``factory(**params)`` returns a :class:`recbench.contracts.dataset.Dataset`. Must not import torch.

    Attributes:
        licence: licence of the images.
        files: the files that ``recbench data prepare`` fetches into the folder given by the parameter ``root``, if the
            data set is not found there.
        obtain: how to obtain the files if recbench cannot fetch them.
        locations: names of the parameters that only say where the images are, such as ``root``. They are no part of a
            job: the same images elsewhere give the same job.
    """

    licence: str = ""
    files: tuple[RawFile, ...] = ()
    obtain: str = ""
    locations: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.files, tuple) or not all(isinstance(file, RawFile) for file in self.files):
            raise TypeError(f"{self.name}: files must be a tuple of RawFile (is there a comma missing?)")
        if self.files and self.parameter("root") is None:
            raise ValueError(f"{self.name}: files needs a parameter root, the folder that they are put into")
        if not isinstance(self.locations, tuple) or not all(isinstance(name, str) for name in self.locations):
            raise TypeError(
                f"{self.name}: locations must be a tuple of names of parameters (is there a comma missing?)"
            )
        for name in self.locations:
            if self.parameter(name) is None:
                raise ValueError(f"{self.name}: locations names {quoted(name)}, which is not one of its parameters")


@dataclass(frozen=True, kw_only=True)
class MetricEntry(Entry):
    """A metric; ``factory(shape, **params)`` returns a :class:`recbench.contracts.metric.Metric`.

    Attributes:
        direction: whether ``"higher"`` or ``"lower"`` values are better, or the number that is best, such as 1 for a
            ratio: then the nearer to it, the better.
        unit: unit in column heads (``"dB"``), or empty.
        family: name shared with the losses that it favours, for which it is an in-family metric.
        digits: number of decimals on the leaderboard, 0 to 15.
        samples: for set metrics: score samples from the prior, as many as there are test images, instead of
            reconstructions.
        needs_kl: for bound metrics: computed from the KL divergence, so that architectures without one have no score.
        rounded: score images rounded to 8 bits, since published numbers are computed on saved images.
        score_range: lowest and highest possible score.
        scores: of a metric that gives several scores from one pass, such as precision and recall: their names, and the
            facts in which they differ from the entry. Each has a column of its own on boards. Empty for one score.
        convention: for distances between sets of images: what publications do differently, which is recorded with the
            score.
        packages: modules that it imports and that its plugin does not depend on; a missing one is reported before any
            job runs.
        install: command that installs them, such as ``"pip install 'recbench[text]'"``.
    """

    direction: Direction
    unit: str = ""
    family: str = "pixel"
    digits: int = 4
    samples: bool = False
    needs_kl: bool = False
    rounded: bool = True
    score_range: Range = (-math.inf, math.inf)
    scores: tuple[MetricScore, ...] = ()
    convention: Convention | None = None
    packages: tuple[str, ...] = ()
    install: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_packages(self.name, self.packages)
        check_direction(self.name, self.direction)
        check_digits(self.name, self.digits)
        check_score_range(self.name, self.score_range)
        if not isinstance(self.scores, tuple) or not all(isinstance(score, MetricScore) for score in self.scores):
            raise TypeError(f"{self.name}: scores must be a tuple of MetricScore (is there a comma missing?)")
        names = [score.name for score in self.scores]
        if len(set(names)) != len(names):
            raise ValueError(f"{self.name}: a score is declared twice")
        if self.convention is not None and not isinstance(self.convention, Convention):
            raise TypeError(f"{self.name}: convention must be a Convention")

    def score(self, name: str = "") -> MetricScore:
        """Return one of its scores with all facts.

        Args:
            name: of the score; empty for a metric of one score, whose score has the entry's name and summary.

        Raises:
            ValueError: it declares no score of this name, or several and none is named.

        >>> both = tuple(MetricScore(name=name) for name in ("precision", "recall"))
        >>> entry = MetricEntry(name="pr", factory="p:PR", summary="", direction="higher", scores=both)
        >>> entry.score("recall").direction
        'higher'
        """
        declared = self.scores or (MetricScore(name=self.name, summary=self.summary),)
        found = declared[0] if not name and not self.scores else next((s for s in self.scores if s.name == name), None)
        if found is None:
            what = f"gives the scores {', '.join(s.name for s in self.scores)}" if self.scores else "gives one score"
            raise ValueError(f"{self.name} {what}, not {quoted(name)}")
        facts = {fact: getattr(self, fact) for fact in ("direction", "unit", "digits", "score_range")}
        return replace(found, **{fact: value for fact, value in facts.items() if getattr(found, fact) is None})

    @property
    def score_names(self) -> tuple[str, ...]:
        """The names of its scores; of a metric of one score, an empty name alone."""
        return tuple(score.name for score in self.scores) or ("",)


@dataclass(frozen=True, kw_only=True)
class ExecutorEntry(Entry):
    """An executor; ``factory(**params)`` returns a :class:`recbench.contracts.executor.Executor`.

    Must not import torch.
    """


@dataclass(frozen=True, kw_only=True)
class TrackerEntry(Entry):
    """A tracker; ``factory(**params)`` returns a :class:`recbench.contracts.tracker.Tracker`.

    Attributes:
        packages: modules that it imports and that recbench does not depend on; a missing one is reported before any
            job runs.
        install: command that installs them, such as ``"pip install 'recbench[wandb]'"``.
    """

    packages: tuple[str, ...] = ()
    install: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_packages(self.name, self.packages)


def _check_packages(name: str, packages: object) -> None:
    if not isinstance(packages, tuple) or not all(isinstance(package, str) for package in packages):
        raise TypeError(f"{name}: packages must be a tuple of names of modules (is there a comma missing?)")
