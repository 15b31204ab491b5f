"""Calibration: the length of the gradients of losses relative to those of ``l2``, over the first steps of training.

The suite's own network learns from ``l2`` alone on the suite's own training images, and every loss looks at the same
decoded images. What is compared is the gradient with respect to the decoded image, in the network's value range: a loss
that is divided by its scale pulls at the decoder as ``l2`` does. A loss that changes its form later, as one with a
warm-up, is measured as it begins; one that learns, learns while it is measured, as it would in training.
"""

from __future__ import annotations

import math
import random
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from recbench.contracts.architecture import Decoded
from recbench.contracts.checked import auxiliaries_of, last_layer_of
from recbench.contracts.entries import ArchitectureEntry, LossEntry, Range
from recbench.contracts.executor import JobProgress, Task
from recbench.contracts.loss import Context, Loss
from recbench.contracts.loss import Setting as LossSetting
from recbench.data.cache import prepare
from recbench.errors import RecbenchError, UserError
from recbench.files import lock, read_regular, write_atomically
from recbench.job.device import autocast, choose_device
from recbench.job.images import convert, take, to_range
from recbench.job.parts import Model, create_architecture, create_loss
from recbench.job.runner import Outcome, on_device, shape_of
from recbench.job.step import make_optimizers
from recbench.job.training import Interrupted, epoch_order, seed_everything
from recbench.plan.model import BoardSetting, ComponentSpec, Frozen
from recbench.plan.plan import Plan
from recbench.plan.tuning import REFERENCE
from recbench.plugin.isolation import described
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry
from recbench.plugin.sources import record_imports
from recbench.store import scales
from recbench.store.scales import Scale, Wanted

Progress = Callable[[int, int], None]
FAILURE = "failure.txt"
"""The file that says why scales could not be measured."""


@dataclass
class _Subject:
    """A loss that is measured, with the optimizers of its own parameters."""

    label: str
    loss: Loss
    value_range: Range
    learning: tuple[torch.nn.Parameter, ...]
    optimizer: torch.optim.Optimizer | None
    fits: tuple[torch.optim.Optimizer, ...]
    log_norms: list[float]

    def look(self, decoded: Tensor, target: Tensor, image_range: Range, context: Context) -> None:
        """Add the mean norm of the gradient for these images, and train the loss's own parameters on them."""
        if not self.loss.needs_last_layer:  # the network's own graph is left to others
            decoded, context = decoded.detach().requires_grad_(), replace(context, last_layer=None)
        seen = convert(decoded, image_range, self.value_range)
        wanted = convert(target, image_range, self.value_range)
        value = self.loss(seen, wanted, context)
        gradient, *others = torch.autograd.grad(value.sum(), [decoded, *self.learning], allow_unused=True)
        norm = 0.0 if gradient is None else float(gradient.flatten(1).norm(dim=1).mean())
        if not (math.isfinite(norm) and norm > 0):
            raise UserError(
                f"{self.label} has no scale: in step {len(self.log_norms) + 1} of calibration its gradient has norm "
                f"{norm:g}; give it one, as in {{name: {self.label}, scale: 1}}"
            )
        self.log_norms.append(math.log(norm))
        if self.optimizer is not None:
            for parameter, slope in zip(self.learning, others, strict=True):
                parameter.grad = None if slope is None else slope / len(value)
            self.optimizer.step()
        for auxiliary, fit in zip(auxiliaries_of(self.label, self.loss), self.fits, strict=True):
            for _ in range(auxiliary.steps_after(context.step)):
                fit.zero_grad(set_to_none=True)
                objective = auxiliary.objective(seen.detach(), wanted, context.detached()).mean()
                objective.backward()  # type: ignore[no-untyped-call]
                fit.step()


def measure(
    setting: BoardSetting,
    losses: Sequence[tuple[str, ComponentSpec]],
    registry: Registry,
    cache: Path,
    *,
    seed: int = 0,
    steps: int = scales.STEPS,
    device: torch.device | None = None,
    progress: Progress = lambda done, total: None,
) -> list[Scale]:
    """Measure the scale of each loss under one setting; deterministic for the same arguments on the same machine.

    Args:
        losses: label and component of each. What is found for one does not depend on the others.
        cache: folder of the image caches.
        steps: of training, over as many epochs as that takes.
        progress: told the steps done, and of how many.

    Raises:
        UserError: a loss's gradient is zero, infinite or NaN, so that its scale is undefined; or ``l2`` is missing.
    """
    device = device or torch.device("cpu")
    config = setting.training
    prepared = prepare(setting.dataset, registry, cache)
    shape = shape_of(prepared)
    registered = registry.get("architectures", setting.architecture.name)
    image_range = cast(ArchitectureEntry, registered.entry).value_range
    seed_everything(seed, deterministic=config.deterministic)
    architecture = create_architecture(registered, setting.architecture.params, shape)
    architecture = architecture.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    loss_setting = LossSetting(shape, architecture.latent_size, architecture.latent_shape)

    def subject(label: str, part: ComponentSpec) -> _Subject:
        entry = registry.get("losses", part.name)
        value_range = cast(LossEntry, entry.entry).value_range
        with _own_randomness(seed, device):
            loss = create_loss(entry, part.params, loss_setting).to(device)
        loss.train()
        auxiliaries = auxiliaries_of(label, loss)
        apart = {id(parameter) for auxiliary in auxiliaries for parameter in auxiliary.parameters}
        learning = tuple(p for p in loss.parameters() if p.requires_grad and id(p) not in apart)
        betas = config.beta1, config.beta2
        optimizer = torch.optim.Adam(learning, lr=config.learning_rate, betas=betas) if learning else None
        fits = tuple(each.optimizer() for each in auxiliaries)
        return _Subject(label, loss, value_range, learning, optimizer, fits, [])

    reference = subject(REFERENCE, scales.reference(registry))
    subjects = [subject(label, part) for label, part in losses]
    looked_at = (last_layer_of(str(registered), architecture, each.label, each.loss) for each in subjects)
    last_layer = next((weight for weight in looked_at if weight is not None), None)
    model = Model(architecture, reference.loss, image_range, reference.value_range, kl_weight=0.0)
    optimizer = make_optimizers(model, config, ())[0]
    architecture.train()
    images = on_device(prepared, "train", device)
    for step, (epoch, chosen) in enumerate(_batches(len(images), config.batch_size, seed, steps)):
        target = to_range(take(images, chosen, device), image_range)
        with autocast(device, config.precision):
            encoded = architecture.encode(target)
        posterior = encoded.float()
        z = posterior.sample()
        with autocast(device, config.precision):
            output = Decoded.of(architecture.decode(z))
        decoded = output.images
        context = Context(z=z.flatten(1), epoch=epoch, step=step, training=True, extras=output.extras).detached()
        context = replace(context, last_layer=last_layer)
        for each in (reference, *subjects):
            with _own_randomness(seed + 1 + step, device), _blamed(each.label):
                each.look(decoded, target, image_range, context)
        optimizer.zero_grad(set_to_none=True)
        seen = convert(decoded, image_range, reference.value_range)
        objective = reference.loss(seen, convert(target, image_range, reference.value_range), context).mean()
        (objective + posterior.penalty().mean() if posterior.has_penalty else objective).backward()
        optimizer.step()
        progress(step + 1, steps)
    base = math.fsum(reference.log_norms) / steps
    found = []
    for each, (_, part) in zip(subjects, losses, strict=True):
        mean = math.fsum(each.log_norms) / steps
        scale = float(f"{math.exp(mean - base):.2g}")
        found.append(Scale(loss=part.name, scale=scale, norm=math.exp(mean), reference=math.exp(base)))
    return found


def _batches(count: int, batch_size: int, seed: int, steps: int) -> Iterator[tuple[int, Tensor]]:
    """Yield the epoch and the indices of the images of each step, as in training."""
    batch_size = min(batch_size, count)
    batches = count // batch_size
    for step in range(steps):
        epoch, batch = step // batches + 1, step % batches
        yield epoch, epoch_order(count, seed, epoch)[batch * batch_size : (batch + 1) * batch_size]


@contextmanager
def _own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the random state inside, and restore it outside."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - a plugin may use the global state
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


@contextmanager
def _blamed(label: str) -> Iterator[None]:
    """Name the loss in whose code an exception was raised."""
    try:
        yield
    except RecbenchError:
        raise
    except Exception as error:
        raise UserError(f"the loss {label} fails: {described(error)}") from error


class CalibrationRequest(Frozen):
    """The work of a calibration: the content of its job's ``job.json``, written by a coordinator without torch.

    The job's folder is ``calibration/jobs/<id>`` in that of the suite.
    """

    plan: Plan
    seed: int = 0
    steps: int = scales.STEPS


def complete(
    plan: Plan, losses: Sequence[Wanted], registry: Registry, root: Path, cache: Path, *, seed: int, steps: int,
    device: torch.device, progress: Progress = lambda done, total: None,
) -> dict[tuple[int, str], Scale]:  # fmt: skip
    """Return the scales of losses by setting and label; unknown ones are measured and stored."""
    reference = scales.reference(registry)
    found = scales.known(plan, losses, reference, root, seed, steps)
    missing = [loss for loss in losses if (loss.setting, loss.label) not in found]
    for index, group in scales.by_setting(missing).items():
        parts = [(loss.label, loss.loss) for loss in group]
        measured = measure(
            plan.settings[index], parts, registry, cache, seed=seed, steps=steps, device=device, progress=progress
        )
        _check_code(plan.settings[index], parts, registry)
        key = scales.setting_key(plan.settings[index], reference, seed, steps)
        scales.add(root, key, {scales.loss_key(loss.loss): one for loss, one in zip(group, measured, strict=True)})
        found.update({(index, loss.label): one for loss, one in zip(group, measured, strict=True)})
    return found


def _check_code(setting: BoardSetting, losses: Sequence[tuple[str, ComponentSpec]], registry: Registry) -> None:
    """Refuse scales of code that was edited meanwhile, as they are stored under that which was planned."""
    parts = [("datasets", setting.dataset), ("architectures", setting.architecture)]
    parts += [("losses", loss) for _, loss in losses]
    now = Registry(registry.plugins)
    changed = [part.name for kind, part in parts if part.code and now.get(kind, part.name).code != part.code]
    if changed:
        raise UserError(f"the code of {', '.join(changed)} was edited while it was calibrated; run the suite again")


def calibrate(task: Task, progress: Callable[[JobProgress], None], stop: Callable[[], bool]) -> Outcome:
    """Measure the scales that a job's :class:`CalibrationRequest` lacks, and store them with the suite's results.

    A mistake of the suite's or of a plugin's is told in the file ``FAILURE`` of the job's folder.
    """
    folder = Path(task.folder)
    with lock(folder) as mine:
        if not mine:
            return "busy"
        try:
            request = CalibrationRequest.model_validate_json(read_regular(folder / "job.json", 1 << 26))
            record_imports()

            def tell(done: int, total: int) -> None:
                progress(JobProgress(task.job_id, done, total, 0.0, 0.0, 0.0))
                if stop():
                    raise Interrupted(f"stopped after {done} of {total} steps")

            complete(
                request.plan,
                [loss for loss in scales.wanted(request.plan) if loss.given is None],
                Registry(load_plugins(task.plugin_files, task.blocked)),
                folder.parents[2],
                Path(task.cache),
                seed=request.seed,
                steps=request.steps,
                device=choose_device(task.device),
                progress=tell,
            )
        except Interrupted:
            return "interrupted"
        except RecbenchError as error:
            write_atomically(folder / FAILURE, str(error).encode())
        except Exception as error:  # noqa: BLE001 - a plugin's
            traceback.print_exc()
            write_atomically(folder / FAILURE, described(error).encode())
    return "recorded"
