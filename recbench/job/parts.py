"""The parts of a job: network, loss and metrics, created from their entries and checked for what they are."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from recbench.contracts.architecture import Architecture
from recbench.contracts.checked import (
    check_frozen,
    check_module,
    described,
    materialize,
    respected,
    set_latent_shape,
    wrong,
)
from recbench.contracts.entries import ArchitectureEntry, Convention, ImageShape, LossEntry, MetricEntry, Range
from recbench.contracts.loss import Loss, Setting
from recbench.contracts.metric import Metric, SetMetric
from recbench.job.sums import Part, SumLoss
from recbench.plan.model import Job
from recbench.plugin.registry import Registered, RegisteredSum, Registry


@dataclass(frozen=True)
class Model:
    """The network and loss that are trained, with their value ranges.

    Attributes:
        image_range: value range of the architecture's input and output.
        loss_range: value range in which the loss wants images.
        architecture_part, loss_part: what errors call them.
    """

    architecture: Architecture
    loss: Loss
    image_range: Range
    loss_range: Range
    kl_weight: float
    architecture_part: str = "the architecture"
    loss_part: str = "the loss"


@dataclass(frozen=True)
class MetricSpec:
    """A metric with its input: samples from the prior or reconstructions, and rounded to 8 bits or not.

    Attributes:
        score_range: lowest and highest score that the entry declares.
        part: what errors call it.
        score: of a metric with several scores, the name of the one that is meant. Specs of one metric with the same
            parameters share it, and its pass over the images.
        names: of all scores that the entry declares; an empty name alone for one.
        convention: of a distance between sets of images.
        params: its parameters.
    """

    metric: Metric
    samples: bool = False
    rounded: bool = True
    score_range: Range = (-math.inf, math.inf)
    part: str = "the metric"
    score: str = ""
    names: tuple[str, ...] = ("",)
    convention: Convention | None = None
    params: Mapping[str, Any] = field(default_factory=dict)


def build(job: Job, registry: Registry, shape: ImageShape, device: torch.device) -> tuple[Model, dict[str, MetricSpec]]:
    """Create a job's network, loss and metrics on a device. Weights come from torch's global random state, which
    metrics leave as it is: what they draw depends neither on the job nor on each other.

    Raises:
        PluginError: one of them cannot be created.
        ContractError: one of them is not what its kind is to be.
    """
    chosen_architecture = registry.get("architectures", job.architecture.name)
    chosen_loss = registry.get("losses", job.loss.name)
    architecture = create_architecture(chosen_architecture, job.architecture.params, shape)
    setting = Setting(shape, architecture.latent_size, architecture.latent_shape)
    loss = create_loss(chosen_loss, job.loss.params, setting)
    model = Model(
        architecture=architecture.to(device=device, memory_format=torch.channels_last),  # type: ignore[call-overload]
        loss=loss.to(device),
        image_range=cast(ArchitectureEntry, chosen_architecture.entry).value_range,
        loss_range=cast(LossEntry, chosen_loss.entry).value_range,
        kl_weight=job.kl_weight,
        architecture_part=str(chosen_architecture),
        loss_part=str(chosen_loss),
    )
    return model, build_metrics(job, registry, shape, device)


def build_metrics(job: Job, registry: Registry, shape: ImageShape, device: torch.device) -> dict[str, MetricSpec]:
    """Create a job's metrics, by label; errors as of :func:`build`."""
    found: dict[str, MetricSpec] = {}
    made: dict[str, Metric] = {}
    for label, spec in job.metrics.items():
        registered = registry.get("metrics", spec.name)
        entry, whole = cast(MetricEntry, registered.entry), spec.model_copy(update={"score": ""}).identity
        if whole not in made:
            with own_random_states(device):
                made[whole] = create_metric(registered, spec.params, shape).to(device)
        try:
            score_range = entry.score(spec.score).score_range
        except ValueError as error:
            raise wrong(str(registered), "its entry", f"declare the score of {label}", str(error)) from None
        found[label] = MetricSpec(
            metric=made[whole],
            samples=entry.samples,
            rounded=entry.rounded,
            score_range=score_range or entry.score_range,
            part=str(registered),
            score=spec.score,
            names=entry.score_names,
            convention=entry.convention,
            params=spec.params,
        )
    return found


def passes(metrics: Mapping[str, MetricSpec]) -> dict[str, dict[str, MetricSpec]]:
    """Return the metrics by the label of the first of those that share a pass over the images."""
    found: dict[int, dict[str, MetricSpec]] = {}
    for label, spec in metrics.items():
        found.setdefault(id(spec.metric), {})[label] = spec
    return {next(iter(specs)): specs for specs in found.values()}


@contextmanager
def own_random_states(device: torch.device) -> Iterator[None]:
    """Give a block random states of its own: Python's, NumPy's and torch's."""
    python, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 - a plugin may use the global state
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        seed_globally(0)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy_state)  # noqa: NPY002


def seed_globally(seed: int) -> None:
    """Seed the global random states of Python, NumPy and torch, on all devices."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - a plugin may use the global state
    torch.manual_seed(seed)


def create_architecture(registered: Registered, params: Mapping[str, Any], shape: ImageShape) -> Architecture:
    """Return the network of an architecture's entry for images of a shape, on the CPU; errors as of :func:`build`."""
    made = cast(Architecture, _module(registered, params, shape, Architecture))
    set_latent_shape(str(registered), made)
    entry = cast(ArchitectureEntry, registered.entry)
    if entry.has_prior != made.has_prior:
        came = f"the entry says has_prior={entry.has_prior}"
        raise wrong(str(registered), "its entry", f"say has_prior={made.has_prior}, as its network does", came)
    return made


def create_loss(registered: Registered, params: Mapping[str, Any], setting: Setting) -> Loss:
    """Return the loss of an entry, on the CPU; errors as of :func:`build`."""
    if not isinstance(registered, RegisteredSum):
        made = cast(Loss, _module(registered, params, setting, Loss))
        if registered.entry.needed_weights(setting.shape, registered.entry.complete(params)):
            check_frozen(str(registered), made)
        return made
    entry = registered.sum_entry
    parts = zip(registered.parts, entry.split(entry.complete(params)), strict=True)
    return SumLoss(
        [
            Part(key, str(part), create_loss(part, own, setting), weight, cast(LossEntry, part.entry).value_range)
            for part, (key, weight, own) in parts
        ]
    )


def create_metric(registered: Registered, params: Mapping[str, Any], shape: ImageShape) -> Metric:
    """Return the metric of an entry for images of a shape, on the CPU; errors as of :func:`build`."""
    made = cast(Metric, _module(registered, params, shape, Metric))
    if cast(MetricEntry, registered.entry).samples and not isinstance(made, SetMetric):
        came = f"{type(made).__name__} scores single images, which samples have no targets for"
        raise wrong(str(registered), "an entry with samples=True", "be of a SetMetric", came)
    return made


def _module(registered: Registered, params: Mapping[str, Any], argument: object, kind: type[nn.Module]) -> nn.Module:
    with respected(str(registered), "its constructor"):
        made: object = registered.create(params, argument)
    if not isinstance(made, kind):
        name = kind.__name__
        raise wrong(str(registered), "its factory", f"return a recbench {name}", f"it returned {described(made)}")
    if "_parameters" not in vars(made):
        raise wrong(str(registered), "its constructor", "call super().__init__()", "it does not")
    check_module(str(registered), made)
    materialize(made)
    return made
