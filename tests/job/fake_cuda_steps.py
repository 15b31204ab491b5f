"""Training and evaluation on fake CUDA tensors: what would go wrong on a GPU is found without one.

Run by test_fake_cuda.py in a process of its own.

Real kernels do not run. What is seen is which device every tensor is on, what the host would wait for, and which
operations are called, how often.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DynamicOutputShapeException

from recbench.contracts.architecture import Architecture
from recbench.contracts.entries import ImageShape, MetricEntry
from recbench.contracts.loss import Context, Loss, Setting
from recbench.contracts.metric import Reference
from recbench.contracts.numerics import allow_tf32, float32_flags, set_float32_flags
from recbench.job.evaluation import evaluate
from recbench.job.images import take, to_range
from recbench.job.parts import MetricSpec, Model
from recbench.job.step import Step
from recbench.job.training import TrainingImages, epoch_order, train
from recbench.job.training import Watch as Callbacks
from recbench.plan.model import Training
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry
from tests.fake_cuda import CUDA, Watch, fake_cuda, to_fake, unavailable
from tests.stand_in_weights import use_stand_ins

REASON = unavailable()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))

REGISTRY = Registry(load_plugins())
TRAINED = [name for name in REGISTRY.names("architectures") if REGISTRY.get("architectures", name).entry.trainable]
SHAPE = ImageShape(3, 64, 64)
GREY = ImageShape(1, 64, 64)
COUNT, BATCH = 16, 8

KERNELS = {
    "barron": 358,
    "ce": 164,
    "charbonnier": 156,
    "dists": 655,
    "ffl": 170,
    "gradient": 187,
    "l1": 150,
    "l2": 153,
    "lpips": 336,
    "mix": 487,
    "ms_ssim": 474,
    "sigma_gaussian": 191,
    "ssim": 254,
    "st_lpips": 452,
    "vgg": 398,
    "vqgan": 710,
    "watson_dct": 264,
    "watson_dft": 384,
    "wavelet": 242,
    "wiener": 267,
}
"""The most calls of operations that a step with ``vae_bredell`` and Adam may make, by loss: about 10 % above what it
does. Launching them is what a step takes on a GPU."""

COUNTED: dict[str, dict[str, Any]] = {"vqgan": {"disc_start": 0}}
"""Parameters for counting, of losses whose first steps are not what they are made of."""

OF_COLOURS = ("lpips", "watson_dct", "watson_dft")
"""Losses that do something else with images of one channel."""

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "barron": [{"representation": "pixel"}, {"representation": "dct"}, {"alpha_lo": 2.0, "alpha_hi": 2.0}],
    "ffl": [{"patch_factor": 2, "log_matrix": True, "batch_matrix": True}, {"ave_spectrum": True}],
    "lpips": [
        {"net": "vgg", "precision": "bf16"},
        {"net": "squeeze", "linear": False},
        {"implementation": "reference"},
    ],
    "mix": [{"beta": 0.0}],
    "ms_ssim": [{"scales": 2}],
    "ssim": [{"implementation": "reference"}],
    "st_lpips": [{"net": "vgg"}],
    "vgg": [{"trunk": "st"}],
    "vqgan": [
        {"disc_start": 0},
        {"disc_start": 0, "perceptual": "st_lpips", "net": "alex", "disc_layers": 2},
        {"perceptual_weight": 0.0, "disc_start": 1},
        {"disc_weight": 0.0},
    ],
    "watson_dct": [{"weights": "initial", "shift": False}],
    "watson_dft": [{"weights": "initial", "shift": False}],
    "wiener": [
        {"warmup_epochs": 0},
        {"warmup_epochs": 0, "kernel": "gaussian"},
        {"warmup_epochs": 0, "determinant": "exact", "latent_gradient": False},
    ],
}

# What torch.use_deterministic_algorithms refuses, by the name in its documentation: torch's operations on CUDA tensors.
REFUSED = {
    "AvgPool3d": ["avg_pool3d_backward"],
    "AdaptiveAvgPool2d": ["_adaptive_avg_pool2d_backward"],
    "AdaptiveAvgPool3d": ["_adaptive_avg_pool3d_backward"],
    "AdaptiveMaxPool2d": ["adaptive_max_pool2d_backward"],
    "FractionalMaxPool2d": ["fractional_max_pool2d_backward"],
    "FractionalMaxPool3d": ["fractional_max_pool3d_backward"],
    "MaxUnpool1d": ["max_unpool2d"],
    "MaxUnpool2d": ["max_unpool2d"],
    "MaxUnpool3d": ["max_unpool3d"],
    "interpolate": [
        "upsample_linear1d_backward",
        "upsample_bilinear2d_backward",
        "_upsample_bilinear2d_aa_backward",
        "upsample_bicubic2d_backward",
        "_upsample_bicubic2d_aa_backward",
        "upsample_trilinear3d_backward",
    ],
    "ReflectionPad1d": ["reflection_pad1d_backward"],
    "ReflectionPad2d": ["reflection_pad2d_backward"],
    "ReflectionPad3d": ["reflection_pad3d_backward"],
    "NLLLoss": ["nll_loss2d_forward", "nll_loss2d_backward"],
    "CTCLoss": ["_ctc_loss_backward"],
    "EmbeddingBag": ["_embedding_bag"],
    "put_": ["put_", "put"],
    "histc": ["histc"],
    "bincount": ["bincount"],
    "median": ["median", "nanmedian"],
    "grid_sample": ["grid_sampler_2d_backward", "grid_sampler_3d_backward"],
    "scatter_reduce": ["scatter_reduce", "scatter_reduce_"],
    "index_put": [],  # of other devices
    "index_reduce": [],
    "kthvalue": [],
    "Embedding": [],
    "MaxPool2d": [],
    "MaxPool3d": [],
    "resize_": [],
}
NONDETERMINISTIC = {operation for operations in REFUSED.values() for operation in operations}


@pytest.fixture(scope="module", autouse=True)
def device() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        use_stand_ins(patch)
        before = float32_flags()
        allow_tf32(allowed=False)  # as for every job
        yield
        set_float32_flags(before)


def make(architecture: str, loss: str, shape: ImageShape = SHAPE, **params: Any) -> Model:
    """A model on the fake GPU."""
    network, losses = fake_network(architecture, shape), REGISTRY.get("losses", loss)
    made = losses.create(losses.entry.complete(params), Setting(shape, network.latent_size))
    image_range = REGISTRY.get("architectures", architecture).entry.value_range
    return Model(network, to_fake(made), image_range, losses.entry.value_range, 1.0)


@functools.cache
def fake_network(name: str, shape: ImageShape) -> Architecture:
    """A network on the fake GPU; it has no values, so that no test can change it for others."""
    registered = REGISTRY.get("architectures", name)
    made = registered.create(registered.entry.complete({}), shape)
    return to_fake(made.to(memory_format=torch.channels_last))


def watched_step(
    model: Model, *, shape: ImageShape = SHAPE, epoch: int = 20, steps: int = 2, waits: bool = False, **training: Any
) -> Watch:
    """What the last step does. In the first one optimizers allocate, and plugins are checked."""
    config = Training(epochs=20, batch_size=BATCH, **training)
    with fake_cuda():
        images = torch.zeros(COUNT, shape.channels, shape.height, shape.width, dtype=torch.uint8, device="cuda")
        step, order = Step(model, config), epoch_order(COUNT, 0, 1)
        for number in range(steps):
            with Watch() as watch:
                chosen = order[number * BATCH : (number + 1) * BATCH]
                target = to_range(take(images, chosen, CUDA), model.image_range)
                step(target, epoch, number, checked=number == 0)
            assert waits or not watch.waits
    return watch


def total(watch: Watch) -> int:
    return sum(watch.kernels.values())


CASES = [
    (loss, params, shape)
    for loss in REGISTRY.names("losses")
    for params in ({}, *VARIANTS.get(loss, []))
    for shape in ((SHAPE, GREY) if not params and loss in OF_COLOURS else (SHAPE,))
]


@pytest.mark.parametrize(("loss", "params", "shape"), CASES, ids=str)
def test_a_step_of_a_loss_waits_for_nothing_and_is_deterministic(
    loss: str, params: dict[str, Any], shape: ImageShape
) -> None:
    steps = 1 if params or shape == GREY else 2
    packages = (loss, params.get("implementation")) == ("ssim", "reference")  # whose window is copied in every call
    own = COUNTED.get(loss, {})
    model = make("vae_bredell_small", loss, shape, **params) if steps == 1 else make("vae_bredell", loss, shape, **own)
    watch = watched_step(model, shape=shape, steps=steps, waits=packages)
    assert not NONDETERMINISTIC & set(watch.kernels)
    assert packages or len(watch.uploads) <= 1  # the indices of the batch's images
    if steps == 2:
        assert total(watch) <= KERNELS[loss]


@pytest.mark.parametrize("precision", ["bf16", "tf32"])  # float32: with every loss, below
@pytest.mark.parametrize("architecture", TRAINED)
def test_a_step_of_an_architecture_waits_for_nothing_and_is_deterministic(architecture: str, precision: str) -> None:
    watch = watched_step(make(architecture, "l2"), precision=precision)
    assert not NONDETERMINISTIC & set(watch.kernels)


@pytest.mark.parametrize("architecture", sorted(set(TRAINED) - {"vae_bredell"}))
def test_every_loss_takes_a_step_with_every_architecture(architecture: str) -> None:
    for loss in REGISTRY.names("losses"):
        watch = watched_step(make(architecture, loss), steps=1)
        assert not NONDETERMINISTIC & set(watch.kernels), loss


@pytest.mark.parametrize(
    ("loss", "training"),
    [
        ("wiener", {}),
        ("barron", {"optimizer": "lion"}),
        ("l1", {"optimizer": "lion", "schedule": "cosine"}),
        ("sigma_gaussian", {"schedule": "plateau"}),
        ("mix", {}),
        ("vqgan", {"schedule": "plateau", "precision": "bf16"}),
    ],
)
def test_whole_training_keeps_to_one_device(loss: str, training: dict[str, Any], tmp_path: Path) -> None:
    """Epochs with their sums, what is logged, validation and traces, from the first step to the last."""
    model = make("vae_bredell_small", loss, **COUNTED.get(loss, {}))
    config = Training(epochs=2, batch_size=BATCH, **training)
    callbacks = Callbacks(lambda *_: None, lambda _: None, lambda: False, 1e9)
    with fake_cuda(), Watch():
        images = torch.zeros(COUNT, 3, 64, 64, dtype=torch.uint8, device="cuda")
        position, traces = train(model, TrainingImages(images, images[:8], images[:4]), config, 0, tmp_path, callbacks)
    assert position.epoch == 3
    assert set(traces) == ({"kernels"} if loss == "wiener" else set())


@pytest.mark.parametrize("metric", REGISTRY.names("metrics"))
def test_every_metric_scores_on_the_gpu(metric: str, tmp_path: Path) -> None:
    registered = REGISTRY.get("metrics", metric)
    entry = cast(MetricEntry, registered.entry)
    if entry.packages:
        pytest.skip(f"{metric} works on processors, with {', '.join(entry.packages)}")
    made = registered.create(registered.entry.complete({}), SHAPE)
    model, part = make("vae_bredell_small", "sigma_gaussian"), to_fake(made)
    if hasattr(part, "extractor"):
        part.extractor.to = lambda *_: part.extractor  # type: ignore[union-attr,assignment]
    specs = {
        name or metric: MetricSpec(part, entry.samples, entry.rounded, score=name, names=entry.score_names)
        for name in entry.score_names
    }
    with fake_cuda(), Watch() as watch:
        images = torch.zeros(20, 3, 64, 64, dtype=torch.uint8, device="cuda")
        reference = Reference(images, "fake", tmp_path, CUDA, "test", images)
        found = evaluate(model, specs, reference, batch_size=16, config=Training(epochs=1))
    assert found.scores.keys() == specs.keys()
    assert not NONDETERMINISTIC & set(watch.kernels)


# What the harness is for: each of these mistakes is found


class Planted(Loss):
    """½ Σ (x − x̂)², with a mistake."""

    def __init__(self, mistake: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.mistake = mistake
        self.constant = torch.ones(64)  # no buffer: it stays where it is

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        return self.mistake(0.5 * (decoded - target).square()).sum((1, 2, 3))


def planted(mistake: Callable[[Tensor], Tensor]) -> Model:
    model = make("vae_bredell_small", "l2")
    return Model(model.architecture, Planted(mistake), model.image_range, model.loss_range, 1.0)


def test_a_constant_on_the_cpu_is_found() -> None:
    model = planted(lambda error: error * model.loss.constant)
    with pytest.raises(RuntimeError, match="device"):
        watched_step(model)


MISTAKES: dict[str, Callable[[Tensor], Tensor]] = {
    "item": lambda error: error * error.mean().item(),
    "if": lambda error: error if (error > 0).all() else -error,
    "tensor": lambda error: error * torch.tensor([2.0] * 64, device=error.device),
    "new_tensor": lambda error: error * error.new_tensor([2.0] * 64),
    "cpu": lambda error: error * error.detach().cpu().mean(),
    "mask": lambda error: error * error[error > 0].sum(),
}
FOUND = {  # apart from the mistakes, since messages quote their lines
    "item": "a value is read: tests/job/fake_cuda_steps.py",
    "if": "a value is read: ",
    "tensor": "a copy from cpu to cuda: ",
    "new_tensor": "a copy from cpu to cuda: ",
    "cpu": "a copy from cuda to cpu: ",
    "mask": "nonzero",
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_the_host_would_wait_for_is_found(name: str) -> None:
    with pytest.raises((AssertionError, DynamicOutputShapeException), match=re.escape(FOUND[name])):
        watched_step(planted(MISTAKES[name]))


def test_an_operation_without_a_deterministic_kernel_is_found() -> None:
    def resized(error: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(error, (32, 32), mode="bilinear")

    assert NONDETERMINISTIC & set(watched_step(planted(resized)).kernels) == {"upsample_bilinear2d_backward"}


def test_more_kernels_are_counted() -> None:
    def slow(error: Tensor) -> Tensor:
        for _ in range(10):
            error = error * 1.0
        return error

    few, many = (total(watched_step(planted(mistake))) for mistake in (lambda error: error, slow))
    assert many == few + 20  # forward and backward


def test_the_list_of_operations_that_torch_refuses_is_whole() -> None:
    text = inspect.getdoc(torch.use_deterministic_algorithms) or ""
    refused = text.partition("operations will throw a")[2].partition("In addition")[0]
    names = {
        name.rpartition(".")[2] for name in re.findall(r"^\s*\* :(?:class|func):`([\w.]+)`", refused, re.MULTILINE)
    }
    assert names
    assert names <= set(REFUSED)
    known: Mapping[str, Any] = {name: getattr(torch.ops.aten, name) for name in NONDETERMINISTIC}
    assert len(known) == len(NONDETERMINISTIC)
