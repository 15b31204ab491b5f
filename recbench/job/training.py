"""Training one model, on one page.

What is random is drawn from the global states of Python, NumPy and torch, which are seeded once and kept in every
checkpoint; the order of images is drawn from seed and epoch. A resumed job therefore makes the same steps as an
undisturbed one.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from recbench.contracts.architecture import Decoded, Posterior
from recbench.contracts.checked import (
    ContractError,
    check_decoded,
    check_epoch_log,
    check_posterior,
    check_trace,
    check_values,
    respected,
)
from recbench.contracts.loss import Context, Loss
from recbench.contracts.numerics import allow_tf32
from recbench.errors import OutOfSpaceError, RecbenchError
from recbench.files import FULL
from recbench.job.accidents import reason_of
from recbench.job.checkpoint import TERMS, Checkpoint, Position
from recbench.job.device import autocast, precision_on
from recbench.job.epochs import EpochWatch
from recbench.job.graph import ReplayedStep, recorder_for
from recbench.job.guard import Diverged, Guard
from recbench.job.images import convert, take, to_range
from recbench.job.logs import Logs
from recbench.job.parts import Model, seed_globally
from recbench.job.step import Step, make_schedule, rate_factor
from recbench.plan.model import NEEDS_VALIDATION, Training
from recbench.store.artifacts import HISTORY
from recbench.store.attempt import warn

CHECKPOINT_SHARE = 0.02
"""The most of the time of training that writing checkpoints may take."""
WARM_UP_STEPS = 20
"""The first steps of a process, which the duration of a step leaves out."""


class Interrupted(RecbenchError):
    """Training was asked to stop, and wrote a checkpoint."""


@dataclass(frozen=True)
class Watch:
    """Callbacks of training, and the request to stop it.

    Attributes:
        progress: called with ``(epoch, loss, images/s, seconds left)`` a few times a second at most.
        epoch_ended: called with the line that was added to the history.
        stop: asked after every step; training ends with a checkpoint once it says True.
        checkpoint_seconds: seconds between checkpoints, or more where writing them would take more than
            ``CHECKPOINT_SHARE`` of the time.
        begins: called before the first step with what the network computes in, where the suite says ``auto``.
    """

    progress: Callable[[int, float, float, float], None]
    epoch_ended: Callable[[Mapping[str, float]], None]
    stop: Callable[[], bool]
    checkpoint_seconds: float
    begins: Callable[[str], None] = lambda _: None


def seed_everything(seed: int, *, deterministic: bool) -> None:
    """Seed Python, NumPy and torch on all devices, and choose deterministic algorithms if wanted."""
    seed_globally(seed)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # What use_deterministic_algorithms does, but for importing the compiler for two seconds; a Step that compiles does.
    torch.set_deterministic_debug_mode("error" if deterministic else "default")
    # Deterministic mode would also fill all memory that it allocates, which no operation here reads before writing.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic
    allow_tf32(allowed=False)  # but in a network whose suite says so


@dataclass(frozen=True)
class TrainingImages:
    """The images of training, each uint8 (N, C, H, W), on the model's device or on the CPU.

    Attributes:
        train: what the model learns from.
        validation: what a schedule of the learning rate goes by, and what is scored after every epoch.
        traced: a few images for which the loss's own state is kept after every epoch; nothing is learned from them.
    """

    train: Tensor
    validation: Tensor
    traced: Tensor

    def bytes_on(self, device: torch.device) -> int:
        """Return the bytes of the images that lie on a device."""
        kept = (self.train, self.validation, self.traced)
        return sum(images.nbytes for images in kept if images.device.type == device.type)


def train(
    model: Model,
    data: TrainingImages,
    config: Training,
    seed: int,
    folder: Path,
    watch: Watch,
    work: Path | None = None,
    origin: str = "",
) -> tuple[Position, dict[str, Tensor]]:
    """Train to the last epoch, from the checkpoint in ``folder`` if there is one.

    Args:
        model: on the device where it is to be trained; seeded already.
        folder: of the job: gets ``history.jsonl``, ``epochs.npz`` when all epochs are over, and ``checkpoint/`` while
            unfinished.
        work, origin: as of :class:`~recbench.job.checkpoint.Checkpoint`.

    Returns:
        Where training ended, and what the loss traced, (epochs, B, …) by name.

    Raises:
        RecbenchError: a schedule needs validation images, and there are none.
        Diverged: the objective became NaN or infinite.
        ContractError: in the first step of an epoch, or in validation, a plugin was seen to break its contract.
        Interrupted: ``watch.stop()`` said so; the checkpoint is written.
    """
    device = next(model.architecture.parameters()).device
    images = data.train
    batch_size = min(config.batch_size, len(images))
    batches = len(images) // batch_size
    step = Step(model, config)
    schedule = make_schedule(step.optimizers[0], config)
    if schedule and not len(data.validation):
        raise RecbenchError(NEEDS_VALIDATION)
    modules = nn.ModuleDict({"architecture": model.architecture, "loss": model.loss})
    checkpoint = Checkpoint(folder, modules, [*step.optimizers, *([schedule] if schedule else [])], work, origin)
    position = checkpoint.load()
    if config.precision == "auto":
        position.precision = position.precision or precision_on("auto", device)
        step.config = config = config.model_copy(update={"precision": position.precision})
        watch.begins(position.precision)
    step.settle()
    recorder = recorder_for(device)
    take_step = step if recorder is None else ReplayedStep(step, recorder, print)
    seen = EpochWatch(data.validation, data.traced, config.epochs, config.batch_size, checkpoint.pictures)
    guard = Guard(device)
    model.architecture.train()
    model.loss.train()
    tick = saved = shown = time.perf_counter()
    pause = watch.checkpoint_seconds
    told: set[str] = set()
    began, cold = position.step, True
    counted = position.step, position.seconds
    while position.epoch <= config.epochs:
        order = epoch_order(len(images), seed, position.epoch).to(images.device)
        sums = torch.tensor(position.sums, dtype=torch.float64, device=device)
        logs = Logs(device, position.logged)
        first = True
        while position.batch < batches:
            chosen = order[position.batch * batch_size : (position.batch + 1) * batch_size]
            target = to_range(take(images, chosen, device), model.image_range)
            if config.schedule == "cosine":
                factor = rate_factor(config, position.step, config.epochs * batches)
                step.rate = config.learning_rate * factor
            with _refusing(guard, step, position):
                terms = take_step(target, position.epoch, position.step, checked=first)
            first = False
            sums += terms
            logs.see(step.logged)
            position.batch += 1
            position.step += 1
            guard.see(terms, position)
            if cold and position.step - began >= WARM_UP_STEPS:
                guard.check()  # waits for the device
                tick, cold = _clock(position, tick), False
                _warm_up(position, counted)
            now = time.perf_counter()
            if now - shown > 0.5:
                done = (position.epoch - 1) * batches + position.batch
                running = position.seconds + now - tick
                left = running / done * (config.epochs * batches - done)
                loss = float(sums[0]) / position.batch
                watch.progress(position.epoch, loss, done * batch_size / running, left)
                shown = now
            stop = watch.stop()
            if stop or now - saved >= pause:
                guard.check()
                position.sums, position.logged = sums.tolist(), logs.sums()
                now = _clock(position, tick)
                counted = _warm_up(position, counted) if cold else counted
                checkpoint.save(position)
                tick = saved = time.perf_counter()
                pause = max(watch.checkpoint_seconds, (saved - now) / CHECKPOINT_SHARE)
                if stop:
                    raise Interrupted(f"stopped in epoch {position.epoch}, after {position.step} steps")
        guard.check()
        position.sums = sums.tolist()
        tick = _clock(position, tick)
        values = _epoch_values(position, batches, batch_size)
        values["learning_rate"] = step.rate
        with _refusing(guard, step, position):
            values.update(logged(model))
        if schedule:
            with _refusing(guard, step, position):
                values["validation"] = validation_loss(model, data.validation, config, position)
            schedule.step(values["validation"])
        with _refusing(guard, step, position), _aside(model, seed=0):
            values |= seen.look(position.epoch, partial(decoded_unit, model, precision=config.precision))
        with _refusing(guard, step, position):
            traces = trace(model, data.traced, config, position)
        for name, traced in traces.items():
            checkpoint.traces.setdefault(name, []).append(traced)
        means, lost = logs.means()
        for name in means.keys() & values.keys():
            raise ContractError(f"{model.loss_part}: log() has the name {name!r}, as {model.architecture_part} has")
        values |= means
        for name in lost.keys() - told:
            warn(folder, f"epoch {position.epoch}: the loss logged {name} = {lost[name]}, which {HISTORY} leaves out")
        told |= lost.keys()
        checkpoint.add_history(values)
        watch.epoch_ended(values)
        position.epoch, position.batch = position.epoch + 1, 0
        position.sums, position.logged, position.epoch_seconds = [0.0] * len(TERMS), [], 0.0
        tick = time.perf_counter()
    if cold:
        _warm_up(position, counted)
    seen.write(checkpoint.work)
    return position, {name: torch.stack(values) for name, values in checkpoint.traces.items()}


@contextmanager
def _aside(model: Model, seed: int) -> Iterator[None]:
    """Evaluate the model without side effects on training: mode, gradients and random states are restored."""
    device = next(model.architecture.parameters()).device
    with torch.no_grad(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        model.architecture.eval()
        model.loss.eval()
        try:
            yield
        finally:
            model.architecture.train()
            model.loss.train()


def reconstruct(model: Model, images: Tensor, precision: str) -> tuple[Posterior, Decoded, Tensor]:
    """Return the posterior of uint8 images, its decoded mean, and the images in the architecture's value range.

    Raises:
        ContractError: the architecture writes into the images, or returns something else.
    """
    device, part = next(model.architecture.parameters()).device, model.architecture_part
    target = to_range(images.to(device), model.image_range)
    with respected(part, "encode", images=target), autocast(device, precision):
        posterior = model.architecture.encode(target)
    check_posterior(part, posterior, len(images), model.architecture.latent_shape)
    posterior = posterior.float()
    with respected(part, "decode", z=posterior.mean), autocast(device, precision):
        decoded = model.architecture.decode(posterior.mean)
    check_decoded(part, decoded, target)
    return posterior, Decoded.of(decoded), target


def decoded_unit(model: Model, images: Tensor, precision: str) -> Tensor:
    """Return the decoded posterior means of uint8 images, in 0 to 1."""
    return convert(reconstruct(model, images, precision)[1].images, model.image_range, (0.0, 1.0))


def validation_loss(model: Model, images: Tensor, config: Training, position: Position) -> float:
    """Return the objective on the validation images, reconstructed from posterior means, as a mean over images."""
    total = torch.zeros((), dtype=torch.float64)
    with _aside(model, seed=0):
        for start in range(0, len(images), config.batch_size):
            posterior, output, target = reconstruct(model, images[start : start + config.batch_size], config.precision)
            decoded, target, context = _seen(model, posterior, output, target, position)
            with respected(model.loss_part, "forward", decoded=decoded, target=target):
                values = model.loss(decoded, target, context)
            check_values(model.loss_part, "forward", values, decoded)
            values = values + model.kl_weight * posterior.kl()
            total += (values + posterior.penalty() if posterior.has_penalty else values).sum().double().cpu()
    mean = float(total) / len(images)
    if not math.isfinite(mean):
        raise Diverged(f"the validation loss became {mean} after epoch {position.epoch}", position.epoch, position.step)
    return mean


def trace(model: Model, images: Tensor, config: Training, position: Position) -> dict[str, Tensor]:
    """Return the traces of the loss for these images after an epoch, on the CPU."""
    if type(model.loss).trace is Loss.trace or not len(images):
        return {}
    with _aside(model, seed=0):
        decoded, target, context = _seen(model, *reconstruct(model, images, config.precision), position)
        # A copy: what is shown may be a view of a parameter, which the next step changes.
        with respected(model.loss_part, "trace", decoded=decoded, target=target):
            traced = model.loss.trace(decoded, target, context)
        check_trace(model.loss_part, "trace", traced, len(images))
        return {name: value.cpu().clone() for name, value in traced.items()}


def _seen(
    model: Model, posterior: Posterior, output: Decoded, target: Tensor, position: Position
) -> tuple[Tensor, Tensor, Context]:
    """Return decoded and target images in the loss's value range, and the context, outside of training steps."""
    context = Context(z=posterior.mean.flatten(1), epoch=position.epoch, step=position.step, extras=output.extras)
    decoded = convert(output.images, model.image_range, model.loss_range)
    return decoded, convert(target, model.image_range, model.loss_range), context


def logged(model: Model) -> dict[str, float]:
    """Return what the architecture logs at the end of an epoch.

    Raises:
        ContractError: it is something other than finite numbers by name.
    """
    found = model.architecture.log()
    check_epoch_log(model.architecture_part, found)
    return {name: float(value) for name, value in found.items()}


@contextmanager
def _refusing(guard: Guard, step: Step, position: Position) -> Iterator[None]:
    """Report a model that diverged as such, where an operation or a check refuses its NaN before the guard looks."""
    try:
        yield
    except (Diverged, Interrupted, OutOfSpaceError):
        raise
    except Exception as error:
        if reason_of(error) == "out of memory" or (isinstance(error, OSError) and error.errno in FULL):
            raise
        guard.check()
        parts = (step.model.architecture, step.model.loss)
        numbers = [each for part in parts for each in (*part.parameters(), *part.buffers())]
        if step.decoded is not None and not isinstance(error, RecbenchError):  # a contract may be broken without NaN
            numbers.append(step.decoded)
        if all(bool(each.isfinite().all()) for each in numbers):
            raise
        place = f"in epoch {position.epoch}, after {position.step} steps"
        why = f"the model became NaN or infinite {place}, which {type(error).__name__} says: {error}"
        raise Diverged(why, position.epoch, position.step + 1) from error


def _clock(position: Position, tick: float) -> float:
    """Add the time since ``tick`` to the position; return the time now."""
    now = time.perf_counter()
    position.seconds += now - tick
    position.epoch_seconds += now - tick
    return now


def _warm_up(position: Position, counted: tuple[int, float]) -> tuple[int, float]:
    """Count the steps and seconds since ``counted`` as warm-up; return those of the position."""
    position.warm_steps += position.step - counted[0]
    position.warm_seconds += position.seconds - counted[1]
    return position.step, position.seconds


def _epoch_values(position: Position, batches: int, batch_size: int) -> dict[str, float]:
    sums = dict(zip(TERMS, position.sums, strict=True))
    # Of the architectures that have a penalty alone: that of others is zero in every step.
    means = {term: total / batches for term, total in sums.items() if total or term != "penalty"}
    speed = batches * batch_size / position.epoch_seconds
    return {"epoch": position.epoch, "step": position.step, **means, "images_per_second": round(speed, 2)}


def epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    """Return the order of the training images in an epoch, as a function of its arguments only."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
    return torch.randperm(count, generator=generator)
