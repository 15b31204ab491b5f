"""VGG, LPIPS and ST-LPIPS against the packages lpips and stlpips-pytorch, and the definition of Czolbe et al."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import recbench_losses_perceptual as plugin
from recbench import ImageShape, LossEntry, MetricEntry
from recbench.contracts.loss import Context, Loss, Setting
from recbench.contracts.metric import ImageMetric
from recbench.data.weights import VARIABLE, find, load_weights
from recbench_losses_perceptual import losses, metrics, pretrained
from recbench_losses_perceptual.distance import unit_length

LOSSES: dict[str, LossEntry] = {entry.name: entry for entry in plugin.recbench_losses()}
METRICS: dict[str, MetricEntry] = {entry.name: entry for entry in plugin.recbench_metrics()}
CLASSES: dict[str, type[Loss]] = {"vgg": losses.VGG, "lpips": losses.LPIPSLoss, "st_lpips": losses.STLPIPSLoss}
RGB = ImageShape(3, 64, 64)


def make(name: str, shape: ImageShape = RGB, **params: Any) -> Loss:
    return CLASSES[name](Setting(shape, latent_size=8), **LOSSES[name].complete(params))


@pytest.fixture(scope="session")
def pairs(golden: dict[str, Any]) -> dict[str, Any]:
    """The golden values, and the images in float64."""
    return {**golden, **{name: torch.from_numpy(golden[name]).double() for name in ("target", "pred")}}


def pair(channels: int = 3, size: int = 64) -> tuple[Tensor, Tensor]:
    """A decoded and a target batch in 0 to 1, float64."""
    generator = torch.Generator().manual_seed(1)
    target = torch.rand(2, channels, size, size, generator=generator, dtype=torch.float64)
    noise = torch.randn(target.shape, generator=generator, dtype=torch.float64)
    return (target + 0.1 * noise).clamp(0, 1), target


# Values


@pytest.mark.usefixtures("shift_tolerant")
@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_st_lpips_equals_the_package(net: str, pairs: dict[str, Any]) -> None:
    decoded, target = pairs["pred"], pairs["target"]
    want = pairs[f"st_lpips_{net}"]["values"]
    loss = make("st_lpips", net=net)
    with torch.no_grad():
        single = loss(2 * decoded.float() - 1, 2 * target.float() - 1, Context())
        double = loss.double()(2 * decoded - 1, 2 * target - 1, Context())
        metric = metrics.STLPIPSMetric(RGB, net=net, linear=True)(decoded.float(), target.float())
    assert double.tolist() == pytest.approx(want, abs=1e-6)
    assert single.tolist() == pytest.approx(want, abs=1e-6)
    assert metric.tolist() == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize("net", ["alex", "vgg", "squeeze"])
def test_lpips_equals_the_package(net: str, random_trunk: Callable[[str], Any]) -> None:
    """Values and gradients, with the same random trunk."""
    model = copy.deepcopy(random_trunk(net)).double()
    loss = make("lpips", net=net).double()
    decoded, target = (2 * images - 1 for images in pair())
    mine, theirs = decoded.clone().requires_grad_(), decoded.clone().requires_grad_()
    found, expected = loss(mine, target, Context()), model(theirs, target).flatten()
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)
    found.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-6, atol=1e-12)
    with torch.no_grad():
        metric = metrics.LPIPSMetric(RGB, net=net, linear=True, implementation="fast")(
            *(images.float() for images in pair())
        )
    torch.testing.assert_close(metric.double(), expected.detach(), rtol=1e-5, atol=0)


def test_lpips_without_linear_weights_equals_the_packages_baseline(random_trunk: Callable[[str], Any]) -> None:
    model = random_trunk("squeeze")
    decoded, target = (2 * images.float() - 1 for images in pair())
    model.lpips = False  # what its argument of that name sets
    try:
        with torch.no_grad():
            torch.testing.assert_close(
                make("lpips", net="squeeze", linear=False)(decoded, target, Context()), model(decoded, target).flatten()
            )
    finally:
        model.lpips = True


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize(("net", "linear"), [("alex", True), ("squeeze", True), ("squeeze", False)])
@pytest.mark.parametrize(("dtype", "relative"), [(torch.float64, 1e-6), (torch.float32, 1e-4)], ids=str)
def test_both_implementations_of_lpips_agree(
    net: str, linear: bool, channels: int, dtype: torch.dtype, relative: float, random_trunk: Callable[[str], Any]
) -> None:
    """Values and gradients, and nothing of the package is trained, saved or changed by training mode."""
    random_trunk(net)
    decoded, target = ((2 * images - 1).to(dtype) for images in pair(channels))
    found = []
    for implementation in ("fast", "reference"):
        state = torch.get_rng_state()
        shape = ImageShape(channels, 64, 64)
        loss = make("lpips", shape, net=net, linear=linear, implementation=implementation).to(dtype).train()
        assert torch.equal(torch.get_rng_state(), state)
        assert not list(loss.parameters())
        assert not loss.state_dict()
        mine = decoded.clone().requires_grad_()
        value = loss(mine, target, Context())
        value.sum().backward()
        metric = metrics.LPIPSMetric(shape, net=net, linear=linear, implementation=implementation).to(dtype)
        with torch.no_grad():
            torch.testing.assert_close(metric((decoded + 1) / 2, (target + 1) / 2), value, rtol=1e-5, atol=0)
        found.append((value, mine.grad))
    (value, slope), (expected, wanted) = found
    torch.testing.assert_close(value, expected, rtol=relative, atol=0)
    assert (slope - wanted).norm() < 10 * relative * wanted.norm()


def test_the_package_is_refused_in_bf16() -> None:
    entry = LOSSES["lpips"]
    (reason,) = entry.refusals(RGB, entry.complete({"implementation": "reference", "precision": "bf16"}))
    assert "precision: float32" in reason


def by_definition(decoded: Tensor, target: Tensor, trunk: dict[str, Tensor], linear: dict[str, Tensor]) -> Tensor:
    """Deeploss-VGG step by step: 0-1 images through LPIPS's scaling, VGG16's five stages, each pixel's features over
    their length + 1e-10, squared differences times the learned weights, mean over pixels, sum over stages."""

    def stages(images: Tensor) -> list[Tensor]:
        shift = torch.tensor([-0.030, -0.088, -0.188], dtype=images.dtype).reshape(1, 3, 1, 1)
        scale = torch.tensor([0.458, 0.448, 0.450], dtype=images.dtype).reshape(1, 3, 1, 1)
        x = (images.repeat(1, 3 // images.shape[1], 1, 1) - shift) / scale
        found = []
        for stage in ([0, 2], [5, 7], [10, 12, 14], [17, 19, 21], [24, 26, 28]):
            if stage[0]:
                x = nn.functional.max_pool2d(x, kernel_size=2, stride=2)
            for index in stage:
                weight, bias = (trunk[f"features.{index}.{part}"].to(x) for part in ("weight", "bias"))
                x = torch.relu(nn.functional.conv2d(x, weight, bias, padding=1))
            found.append(x)
        return found

    total = torch.zeros(len(decoded), dtype=decoded.dtype)
    for number, (ours, theirs) in enumerate(zip(stages(decoded), stages(target), strict=True)):
        a = ours / (torch.sqrt((ours**2).sum(1, keepdim=True)) + 1e-10)
        b = theirs / (torch.sqrt((theirs**2).sum(1, keepdim=True)) + 1e-10)
        weights = linear[f"lin{number}.model.1.weight"].to(decoded).reshape(1, -1, 1, 1)
        total = total + ((a - b) ** 2 * weights).sum(1).mean((1, 2))
    return total


@pytest.mark.usefixtures("czolbe")
@pytest.mark.parametrize("channels", [3, 1])
def test_vgg_equals_the_authors_definition(channels: int, random_trunk: Callable[[str], Any]) -> None:
    random_trunk("vgg")
    decoded, target = pair(channels, 32)
    trunk, linear = load_weights(pretrained.IMAGENET["vgg"]), load_weights(pretrained.CZOLBE[channels])
    loss = make("vgg", ImageShape(channels, 32, 32)).double()
    mine, theirs = decoded.clone().requires_grad_(), decoded.clone().requires_grad_()
    found, expected = loss(mine, target, Context()), by_definition(theirs, target, trunk, linear)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    found.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-5, atol=1e-10)


@pytest.mark.usefixtures("shift_tolerant")
def test_vgg_with_the_shift_tolerant_trunk_is_st_lpips(pairs: dict[str, Any]) -> None:
    decoded, target = pairs["pred"].float(), pairs["target"].float()
    with torch.no_grad():
        value = make("vgg", trunk="st")(decoded, target, Context())
    assert value.tolist() == pytest.approx(pairs["st_lpips_vgg"]["values"], abs=1e-6)


@pytest.mark.usefixtures("shift_tolerant")
def test_grey_images_are_repeated() -> None:
    decoded, target = (images.float() for images in pair(1))
    with torch.no_grad():
        grey = make("st_lpips", ImageShape(1, 64, 64))(decoded, target, Context())
        colour = make("st_lpips")(decoded.repeat(1, 3, 1, 1), target.repeat(1, 3, 1, 1), Context())
    assert torch.equal(grey, colour)


# Details


def test_vectors_of_zeros_have_a_finite_gradient() -> None:
    features = torch.rand(1, 4, 2, 2, dtype=torch.float64)
    features[:, :, 0, 0] = 0
    features.requires_grad_()
    unit = unit_length(features)
    assert unit[:, :, 0, 0].eq(0).all()
    unit.square().sum().backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()


@pytest.mark.usefixtures("shift_tolerant")
def test_nothing_of_the_trunk_is_trained_or_saved() -> None:
    loss = make("st_lpips").train()
    assert not list(loss.parameters())
    assert not loss.state_dict()
    assert sum(buffer.numel() for buffer in loss.buffers()) > 2_000_000
    target = torch.rand(1, 3, 64, 64)
    decoded = torch.rand(1, 3, 64, 64)
    value = loss(decoded, target, Context())
    assert not value.requires_grad
    assert torch.equal(value, loss.eval()(decoded, target, Context()))


@pytest.mark.slow  # without hardware for bfloat16
@pytest.mark.usefixtures("shift_tolerant")
def test_bf16_turns_the_gradient_by_what_the_notes_say(pairs: dict[str, Any]) -> None:
    decoded, target = pairs["pred"].float(), pairs["target"].float()
    gradients = {}
    for precision in ("float32", "bf16"):
        mine = decoded.clone().requires_grad_()
        value = make("vgg", trunk="st", precision=precision)(mine, target, Context())
        assert value.dtype == torch.float32
        value.sum().backward()
        assert mine.grad is not None
        gradients[precision] = mine.grad.flatten(1).double()
    cosine = nn.functional.cosine_similarity(gradients["float32"], gradients["bf16"])
    degrees = [math.degrees(math.acos(value)) for value in cosine.tolist()]
    assert min(degrees) > 0
    assert max(degrees) < 4


# What it takes


@pytest.mark.parametrize(
    ("name", "params", "smallest"),
    [
        ("vgg", {"trunk": "imagenet"}, 16),
        ("vgg", {"trunk": "st"}, 18),
        ("lpips", {"net": "vgg"}, 16),
        ("lpips", {"net": "alex"}, 31),
        ("lpips", {"net": "squeeze"}, 17),
        ("st_lpips", {"net": "vgg"}, 18),
        ("st_lpips", {"net": "alex"}, 21),
    ],
)
def test_the_smallest_image_that_is_declared_works_and_no_smaller_one(
    name: str,
    params: dict[str, Any],
    smallest: int,
    random_trunk: Callable[[str], Any],
    shift_tolerant: None,
    czolbe: None,
) -> None:
    entry = LOSSES[name]
    complete = entry.complete(params)
    assert not entry.refusals(ImageShape(3, smallest, 64), complete)
    assert entry.refusals(ImageShape(3, smallest - 1, 64), complete)
    if "st" not in (params.get("trunk"), name.partition("_")[0]):
        random_trunk(params.get("net", "vgg"))
    loss = make(name, **params)
    with torch.no_grad():
        images = torch.rand(1, 3, smallest, smallest)
        assert loss(images, images.flip(-1), Context()).isfinite().all()
        with pytest.raises((RuntimeError, IndexError)):
            loss(images[..., :-1, :-1], images[..., :-1, :-1], Context())


@pytest.mark.parametrize(
    ("entry", "shape", "params", "files"),
    [
        (LOSSES["vgg"], RGB, {}, {"vgg16-397923af.pth", "rgb_pnet_lin_vgg_trial0.pth"}),
        (LOSSES["vgg"], ImageShape(1, 64, 64), {}, {"vgg16-397923af.pth", "gray_pnet_lin_vgg_trial0.pth"}),
        (LOSSES["vgg"], RGB, {"trunk": "st"}, {"vgg_shift_tolerant.pth"}),
        (LOSSES["lpips"], RGB, {}, {"alexnet-owt-7be5be79.pth", "lpips_v0.1_alex.pth"}),
        (LOSSES["lpips"], RGB, {"linear": False}, {"alexnet-owt-7be5be79.pth"}),
        (METRICS["lpips"], RGB, {"net": "squeeze"}, {"squeezenet1_1-b8a52dc0.pth", "lpips_v0.1_squeeze.pth"}),
        (METRICS["st_lpips"], RGB, {}, {"alex_shift_tolerant.pth"}),
    ],
)
def test_only_what_is_needed_is_asked_for(
    entry: LossEntry | MetricEntry, shape: ImageShape, params: dict[str, Any], files: set[str]
) -> None:
    needed = entry.needed_weights(shape, entry.complete(params))
    assert {weights.file for weights in needed} == files
    assert set(needed) <= set(entry.weights)


def test_the_linear_weights_of_lpips_come_with_the_installed_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    for weights in pretrained.LPIPS.values():
        assert find(weights) is not None


def test_torchvisions_file_names_hold_the_start_of_their_hash() -> None:
    for weights in pretrained.IMAGENET.values():
        assert weights.file.removesuffix(".pth").endswith(f"-{weights.sha256[:8]}")


def test_metrics_are_metrics_of_images() -> None:
    assert issubclass(metrics.LPIPSMetric, ImageMetric)
    assert issubclass(metrics.STLPIPSMetric, ImageMetric)
    assert {entry.family for entry in [*LOSSES.values(), *METRICS.values()]} == {"perceptual"}
