"""Preflight: one real step of every method of a suite, in a process of its own, before hours are spent.

Each method is created with the suite's shape, parameters, precision and device, takes a step, traces, validates and is
evaluated on made-up images, and everything that a contract promises is checked, also what takes too long to check in
training. What is wrong is written to standard output, a line of JSON each; a process that dies or hangs is a finding
of :mod:`recbench.sweep.preflight`, which starts it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from recbench.contracts.architecture import Decoded, Fitted, Posterior
from recbench.contracts.checked import (
    ContractError,
    check_decoded,
    check_finite,
    check_independent,
    check_latent,
    check_posterior,
    check_range,
    check_unseeded,
    check_values,
    last_layer_of,
    read_only,
    respected,
    wrong,
)
from recbench.contracts.checked_scores import check_scores
from recbench.contracts.entries import ImageShape, LossEntry
from recbench.contracts.last_layer import as_last_layer
from recbench.contracts.loss import Context
from recbench.contracts.metric import ImageMetric, Reference
from recbench.errors import RecbenchError, UserError
from recbench.job.checkpoint import Position
from recbench.job.device import autocast, choose_device
from recbench.job.evaluation import NotFinite, evaluate
from recbench.job.fitting import fit
from recbench.job.flights import Flight, FlightPlan
from recbench.job.guard import Diverged
from recbench.job.images import convert, to_8_bits, to_range
from recbench.job.parts import MetricSpec, Model, build, passes
from recbench.job.step import Step
from recbench.job.training import logged, seed_everything, trace, validation_loss
from recbench.plan.model import Job
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry

_HUGE = 1e4
"""Decoded images beyond this many times the value range are no ordinary ones."""
_TRAINED, _EVALUATED, _BATCH = 4, 7, 4
"""Numbers of images: of a step, of evaluation, and of the first of its two batches."""


Say = Callable[[str, str], None]
"""Called with ``"stage"``, ``"problem"`` or ``"note"`` and a text."""


def images_of(shape: ImageShape, count: int) -> Tensor:
    """Return made-up images with shading, an edge and texture, uint8 (count, C, H, W)."""
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(count, shape.channels, 4, 4, generator=generator)
    shading = torch.nn.functional.interpolate(small, size=(shape.height, shape.width), mode="bilinear")
    noise = torch.rand(count, shape.channels, shape.height, shape.width, generator=generator)
    images = 0.15 + 0.5 * shading + 0.1 * noise
    images[:, :, shape.height // 3 :, shape.width // 2 :] += 0.2
    return to_8_bits(images)


@contextmanager
def _blamed(part: str, call: str) -> Iterator[None]:
    """Name the part and the call in whatever goes wrong in a block."""
    try:
        yield
    except RecbenchError:
        raise
    except (Exception, SystemExit) as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise ContractError(f"{part}: {call} raised {type(error).__name__}: {first}") from error


@dataclass(frozen=True)
class _Testbed:
    """A method's model with the images that it is tried on."""

    model: Model
    job: Job
    images: Tensor
    device: torch.device
    couples: bool
    say: Say

    def stage(self, text: str) -> None:
        """Say what is tried next: what is blamed if the process dies."""
        self.say("stage", text)

    @property
    def precision(self) -> str:
        return self.job.training.precision

    def encode(self, target: Tensor) -> Posterior:
        with autocast(self.device, self.precision):
            posterior = self.model.architecture.encode(target)
        check_posterior(self.model.architecture_part, posterior, len(target), self.model.architecture.latent_shape)
        return posterior.float()

    def decode(self, z: Tensor, target: Tensor) -> Decoded:
        with autocast(self.device, self.precision):
            decoded = self.model.architecture.decode(z)
        check_decoded(self.model.architecture_part, decoded, target)
        return Decoded.of(decoded)

    def train(self) -> bool:
        """Try everything that training does, part by part, and then one step of it.

        Returns:
            Whether the untrained network gives ordinary numbers. One that does not breaks no contract, but nothing can
            be said of what follows; its loss is tried on made-up images instead.
        """
        model, job = self.model, self.job
        network, part = model.architecture_part, model.loss_part
        model.architecture.train()
        model.loss.train()
        target = to_range(self.images[:_TRAINED].to(self.device), model.image_range)
        state = self.state()
        self.stage(f"{network}: encode")
        with _blamed(network, "encode"), read_only(network, "encode", images=target):
            posterior = self.encode(target)
            kl = posterior.kl()
        if kl.isnan().any():
            raise wrong(network, "the posterior's kl()", "be a number", "it is NaN for ordinary images")
        with _blamed(network, "the posterior's sample()"):
            z = posterior.sample()
        check_latent(network, z, len(target), model.architecture.latent_shape)
        self.stage(f"{network}: decode")
        with _blamed(network, "decode"), read_only(network, "decode", z=z):
            output = self.decode(z, target)
        decoded, latent = output.images, z.flatten(1)
        finite = bool(kl.isfinite().all() and z.isfinite().all())
        if finite and decoded.isnan().any():
            raise wrong(network, "decode", "return numbers", "it returned NaN for ordinary images")
        if not decoded.requires_grad:
            raise wrong(network, "decode", "be differentiable", "the decoded images have no gradient")
        wanted = self.in_loss_range(target)
        self.stage(f"{network}: last_layer")
        with _blamed(network, "last_layer()"):
            last_layer = last_layer_of(network, model.architecture, part, model.loss)
        if not (finite and float(decoded.detach().abs().max()) < _HUGE * max(map(abs, model.image_range))):
            self.say("note", f"{network}: untrained, it gives numbers so large that jobs are likely to diverge")
            mixed = (0.9 * wanted + 0.1 * wanted.flip(-1)).requires_grad_()
            shown, weight = (mixed, None) if last_layer is None else as_last_layer(mixed)
            self.loss(shown, wanted, latent.detach().clamp(-1, 1), weight, output.extras)
            return False
        self.loss(self.in_loss_range(decoded), wanted, latent, last_layer, output.extras)
        self.stage(f"{network}: a second pass with the same seed")
        ends = []
        for _ in range(2):
            self.restore(state)
            seed_everything(job.seed, deterministic=job.training.deterministic)
            with _blamed(network, "a second pass with the same seed"), torch.no_grad():
                ends.append(self.decode(self.encode(target).sample(), target).images)
        self.same(network, "encode and decode", *ends)
        self.restore(state)
        self.stage(f"{part}: a step of training")
        with _blamed(part, "a step of training"):
            step = Step(model, job.training.model_copy(update={"compile": False}))
            begun = max((each.start for each in step.auxiliaries), default=0)
            for number in (begun, begun + 1):
                terms = step(target, 1, number, checked=True)
        check_finite(part, "a step of training", terms)
        return True

    def fit(self) -> bool:
        """Try to fit an architecture that is not trained, and evaluate it."""
        self.stage(f"{self.model.architecture_part}: fit")
        with tempfile.TemporaryDirectory() as work, _blamed(self.model.architecture_part, "fit"):
            fit(self.model, self.images, Path(work))
        return True

    def loss(
        self, decoded: Tensor, target: Tensor, z: Tensor, last_layer: nn.Parameter | None, extras: Mapping[str, Tensor]
    ) -> None:
        """Try the loss on decoded images, in its value range; the last layer is the one that made them."""
        loss, part, job = self.model.loss, self.model.loss_part, self.job
        context = Context(z=z, epoch=1, step=0, training=True, last_layer=last_layer, extras=extras)
        self.stage(f"{part}: forward")
        with _blamed(part, "forward"), read_only(part, "forward", decoded=decoded, target=target, z=z):
            values = loss(decoded, target, context)
        check_values(part, "forward", values, decoded, connected=True)
        check_finite(part, "forward", values)
        with _blamed(part, "backward"):
            (gradient,) = torch.autograd.grad(values.sum(), decoded, allow_unused=True, retain_graph=True)
        if gradient is None:
            raise wrong(part, "forward", "depend on the decoded images", "no gradient reaches them")
        check_finite(part, "backward", gradient)
        aside = context.detached()
        state = _state(loss)

        def called(first: Tensor, second: Tensor) -> Tensor:
            shown = first.detach().clone().requires_grad_()
            shown, weight = (shown, None) if last_layer is None else as_last_layer(shown)
            found: Tensor = loss(shown, second.detach().clone(), replace(aside, last_layer=weight))
            return found

        def again(first: Tensor, second: Tensor) -> Tensor:
            loss.load_state_dict(state)
            seed_everything(job.seed, deterministic=job.training.deterministic)
            return called(first, second).detach()

        self.stage(f"{part}: a second forward with the same seed")
        with _blamed(part, "a second forward with the same seed"):
            self.same(part, "forward", again(decoded, target), again(decoded, target))
            if not self.couples:
                remedy = ", unless its entry declares couples_batch=True"
                check_independent(part, "forward", again, decoded, target, remedy)
            check_unseeded(part, "forward", lambda: called(decoded, target))
        loss.load_state_dict(state)

    def evaluate(self) -> None:
        """Try validation, traces and the network as evaluation uses it."""
        model, job = self.model, self.job
        network, part = model.architecture_part, model.loss_part
        position = Position(epoch=job.training.epochs)
        self.stage(f"{part}: validation")
        with _blamed(part, "forward in validation"):
            try:
                validation_loss(model, self.images, job.training, position)
            except Diverged as error:
                raise ContractError(f"{part}: {error}") from error
        self.stage(f"{network}: log")
        with _blamed(network, "log()"):
            logged(model)
        self.stage(f"{part}: trace")
        with _blamed(part, "trace"):
            trace(model, self.images[:_TRAINED], job.training, position)
        self.stage(f"{network}: evaluation")
        model.architecture.eval()
        model.loss.eval()
        target = to_range(self.images[:_BATCH].to(self.device), model.image_range)

        def means(images: Tensor, _: Tensor) -> Tensor:
            posterior = self.encode(images)
            output = self.decode(posterior.mean, images)
            seen = (posterior.mean, output.images, *output.extras.values())
            return torch.cat([each.flatten(1) for each in seen], dim=1)

        with _blamed(network, "evaluation"), torch.no_grad():
            check_independent(network, "encode and decode in evaluation", means, target, target, "")

    def score(self, specs: Mapping[str, MetricSpec], cache: Path, *, ordinary: bool) -> None:
        """Try a metric, with all of its scores, on two batches; without the model if that gives no ordinary numbers."""
        spec = next(iter(specs.values()))
        metric, part = spec.metric, spec.part
        self.stage(f"{part}: evaluation")
        images = self.images.to(self.device)
        reference = Reference(images, "preflight", cache, self.device, "test", self.images)
        with _blamed(part, "evaluation"):
            if isinstance(metric, ImageMetric):
                self.score_images(metric, specs)
            if not ordinary:
                return
            try:
                found = evaluate(self.model, specs, reference, batch_size=_BATCH, config=self.job.training)
            except NotFinite as error:
                if isinstance(metric, ImageMetric):
                    return  # some values are NaN: said already
                raise ContractError(f"{part}: {error}") from error
        for label, score in found.scores.items():
            check_range(part, "evaluation", torch.tensor([score.mean]), specs[label].score_range)

    @torch.no_grad()
    def score_images(self, metric: ImageMetric, specs: Mapping[str, MetricSpec]) -> None:
        """Try a metric of single images on the images and on disturbed ones."""
        part, names = next((spec.part, spec.names) for spec in specs.values())
        target = to_range(self.images[:_BATCH].to(self.device), (0.0, 1.0))
        decoded = to_range(to_8_bits(0.8 * target + 0.1 * target.flip(-1)), (0.0, 1.0))
        with read_only(part, "forward", decoded=decoded, target=target):
            returned = metric(decoded, target)
        values = check_scores(part, "forward", returned, len(target), names)
        lost = max(int(each.isnan().sum()) for each in values.values())
        if lost == len(target):
            raise wrong(part, "forward", "give each image a number", "it gave NaN")
        if lost:
            self.say(
                "note", f"{part}: forward gave NaN for {lost} of {len(target)} images; a job with such scores diverges"
            )
            return
        for spec in specs.values():
            check_range(part, "forward", values[spec.score], spec.score_range)

        def all_scores(first: Tensor, second: Tensor) -> Tensor:
            given = check_scores(part, "forward", metric(first.clone(), second.clone()), len(first), names)
            return torch.stack(list(given.values()), dim=1)

        check_independent(part, "forward", all_scores, decoded, target, "")
        check_unseeded(part, "forward", lambda: metric(decoded.clone(), target.clone()))

    def in_loss_range(self, images: Tensor) -> Tensor:
        return convert(images, self.model.image_range, self.model.loss_range)

    def state(self) -> list[dict[str, Tensor]]:
        return [_state(self.model.architecture), _state(self.model.loss)]

    def restore(self, state: list[dict[str, Tensor]]) -> None:
        for module, values in zip((self.model.architecture, self.model.loss), state, strict=True):
            module.load_state_dict(values)

    def same(self, part: str, call: str, one: Tensor, other: Tensor) -> None:
        exact = self.job.training.deterministic
        if not (torch.equal(one, other) if exact else torch.allclose(one, other, rtol=1e-3, atol=1e-4)):
            came = f"two calls differ by up to {float((one - other).abs().max()):g}; is there state beside its buffers?"
            raise wrong(part, call, "give the same for the same images, seed and state", came)


def _state(module: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a module's state."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def fly(flight: Flight, registry: Registry, device: torch.device, say: Say) -> None:
    """Try one method; tells ``say`` what is wrong with it."""
    job, shape = flight.job, ImageShape(*flight.shape)
    if not flight.metrics:
        job = job.model_copy(update={"metrics": {}})
    say("stage", "its parts are created")
    seed_everything(job.seed, deterministic=job.training.deterministic)
    try:
        model, metrics = build(job, registry, shape, device)
        entry = registry.get("losses", job.loss.name).entry
        assert isinstance(entry, LossEntry)
        trial = _Testbed(model, job, images_of(shape, _EVALUATED), device, entry.couples(job.loss.params), say)
        ordinary = trial.fit() if isinstance(model.architecture, Fitted) else trial.train()
        if ordinary:
            trial.evaluate()
    except RecbenchError as error:
        say("problem", str(error))
        return
    with tempfile.TemporaryDirectory() as cache:
        for specs in passes(metrics).values():
            try:
                trial.score(specs, Path(cache), ordinary=ordinary)
            except UserError as error:  # such as that there is no text in them
                say("note", f"{', '.join(specs)} could not be tried on made-up images: {error}")
            except RecbenchError as error:
                say("problem", str(error))


def _device(wanted: str, say: Say) -> torch.device:
    """Return the device that jobs are to have; the CPU stands in where it is another machine's."""
    try:
        return choose_device(wanted)
    except RecbenchError as error:
        say("note", f"preflight runs on the CPU: {error}")
        return torch.device("cpu")


def main() -> int:
    """Try the methods of a :class:`FlightPlan` on standard input. What plugins print goes to standard error."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)

    def say_of(number: int) -> Say:
        return lambda kind, text: print(json.dumps([number, kind, text]), file=out, flush=True)

    request = FlightPlan.model_validate_json(sys.stdin.buffer.read())
    try:
        files = " and ".join(request.plugin_files)
        with respected(f"the plugin file {files}" if files else "an installed plugin", "importing it"):
            plugins = load_plugins(request.plugin_files, request.blocked)
        registry = Registry(plugins)
        device = _device(request.device, say_of(-1))
    except RecbenchError as error:
        say_of(-1)("problem", str(error))
        return 0
    for number, flight in request.flights.items():
        fly(flight, registry, device, say_of(number))
        say_of(number)("end", "")
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # As processes of jobs do: the end of an interpreter that has imported torch takes seconds where a machine is busy.
    os._exit(status)
