"""VGG, LPIPS and ST-LPIPS against the packages lpips and stlpips-pytorch, and the definition of Czolbe et al."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import recbench_losses_perceptual as plugin
from recbench import ImageShape, LossEntry, MetricEntry, Weights
from recbench.contracts.loss import Context, Loss, Setting
from recbench.contracts.metric import ImageMetric
from recbench.data.weights import VARIABLE, WeightsError, fetch, find, load_weights
from recbench.testing import Case, imports_no_torch, loss_cases
from recbench_losses_perceptual import losses, metrics, pretrained
from recbench_losses_perceptual.distance import unit_length

LOSSES: dict[str, LossEntry] = {entry.name: entry for entry in plugin.recbench_losses()}
METRICS: dict[str, MetricEntry] = {entry.name: entry for entry in plugin.recbench_metrics()}
CLASSES: dict[str, type[Loss]] = {"vgg": losses.VGG, "lpips": losses.LPIPS, "st_lpips": losses.STLPIPS}
RGB = ImageShape(3, 64, 64)


def make(name: str, shape: ImageShape = RGB, **params: Any) -> Loss:
    return CLASSES[name](Setting(shape, latent_size=8), **LOSSES[name].complete(params))


@pytest.fixture(scope="session")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of weights that RECBENCH_WEIGHTS names beside what it named before."""
    folder = tmp_path_factory.mktemp("weights")
    with pytest.MonkeyPatch.context() as patch:
        before = os.environ.get(VARIABLE)
        patch.setenv(VARIABLE, os.pathsep.join([str(folder), *([before] if before else [])]))
        yield folder


@pytest.fixture(scope="session")
def shift_tolerant(fetched: Path) -> None:
    """The weights of ST-LPIPS, from the wheel of stlpips-pytorch if they are nowhere else."""
    for weights in pretrained.SHIFT_TOLERANT.values():
        try:
            find(weights) or fetch(weights, fetched)
        except WeightsError as error:
            pytest.skip(str(error))


@pytest.fixture(scope="session")
def czolbe() -> None:
    for weights in pretrained.CZOLBE.values():
        if find(weights) is None:
            pytest.skip(f"no folder in {VARIABLE} holds {weights.file}")


@pytest.fixture(scope="session")
def package() -> Callable[[str], Any]:
    """The package lpips with its linear weights and a trunk of random weights; the same one for the same net."""
    made: dict[str, Any] = {}

    def get(net: str) -> Any:
        if net not in made:
            import lpips

            with (
                warnings.catch_warnings(),
                torch.random.fork_rng(devices=[]),
                pytest.MonkeyPatch.context() as patch,
            ):
                warnings.simplefilter("ignore")  # of torchvision, about the arguments that lpips gives it
                torch.manual_seed(0)
                # The classifiers, 500 MB that lpips throws away, need no random values.
                patch.setattr(nn.Linear, "reset_parameters", lambda self: None)
                patch.setattr(nn.init, "normal_", lambda tensor, *_, **__: tensor)
                made[net] = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
        return made[net]

    return get


@pytest.fixture
def random_trunk(fetched: Path, package: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """``random_trunk("vgg")`` gives the package's model with random weights and puts these weights, by torchvision's
    names, in the place of torchvision's file."""

    def place(net: str) -> Any:
        model = package(net)
        state = OrderedDict(
            (f"features.{name.partition('.')[2]}", value.contiguous()) for name, value in model.net.state_dict().items()
        )
        file = fetched / f"random_{net}.pth"
        if not file.exists():
            torch.save(state, file)
        facts = Weights(
            file=file.name,
            address=f"https://example.org/{file.name}",
            sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
            size=file.stat().st_size,
            licence="none",
        )
        monkeypatch.setitem(pretrained.IMAGENET, net, facts)
        return model

    return place


@pytest.fixture(scope="session")
def golden() -> dict[str, Any]:
    folder = os.environ.get("RECBENCH_SHARED")
    if not folder or not (Path(folder) / "golden").is_dir():
        pytest.skip("RECBENCH_SHARED names no folder with the shared golden values")
    values = json.loads((Path(folder) / "golden" / "pairs_64.json").read_text())
    with np.load(Path(folder) / "golden" / "pairs_64.npz") as pairs:
        images = {name: torch.from_numpy(pairs[name]).double() for name in ("target", "pred")}
    return {**values, **images}


def pair(channels: int = 3, size: int = 64) -> tuple[Tensor, Tensor]:
    """A decoded and a target batch in 0 to 1, float64."""
    generator = torch.Generator().manual_seed(1)
    target = torch.rand(2, channels, size, size, generator=generator, dtype=torch.float64)
    noise = torch.randn(target.shape, generator=generator, dtype=torch.float64)
    return (target + 0.1 * noise).clamp(0, 1), target


# Values


@pytest.mark.usefixtures("shift_tolerant")
@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_st_lpips_equals_the_package(net: str, golden: dict[str, Any]) -> None:
    decoded, target = golden["pred"], golden["target"]
    want = golden[f"st_lpips_{net}"]["values"]
    loss = make("st_lpips", net=net)
    with torch.no_grad():
        single = loss(2 * decoded.float() - 1, 2 * target.float() - 1, Context())
        double = loss.double()(2 * decoded - 1, 2 * target - 1, Context())
        metric = metrics.STLPIPS(RGB, net=net, linear=True)(decoded.float(), target.float())
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
        metric = metrics.LPIPS(RGB, net=net, linear=True)(*(images.float() for images in pair()))
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
def test_vgg_with_the_shift_tolerant_trunk_is_st_lpips(golden: dict[str, Any]) -> None:
    decoded, target = golden["pred"].float(), golden["target"].float()
    with torch.no_grad():
        value = make("vgg", trunk="st")(decoded, target, Context())
    assert value.tolist() == pytest.approx(golden["st_lpips_vgg"]["values"], abs=1e-6)


@pytest.mark.usefixtures("shift_tolerant")
def test_grey_images_are_repeated() -> None:
    decoded, target = (images.float() for images in pair(1))
    with torch.no_grad():
        grey = make("st_lpips", ImageShape(1, 64, 64))(decoded, target, Context())
        colour = make("st_lpips")(decoded.repeat(1, 3, 1, 1), target.repeat(1, 3, 1, 1), Context())
    assert torch.equal(grey, colour)


# What a loss must be


def cases(name: str, params: dict[str, Any], but: tuple[str, ...]) -> list[Case]:
    return [case for case in loss_cases([LOSSES[name]], {name: [params]}) if case.check.__name__ not in but]


ST_LPIPS_CASES = cases("st_lpips", {"net": "alex"}, but=())
# Central differences of a gradient that jumps at every kink of a deep network say nothing of its second derivative.
# The shallower network above, made of the same parts, has so few kinks that it is put to that test.
VGG_CASES = cases("vgg", {"trunk": "st"}, but=("differentiable_twice_or_refused",))
# What random weights make of more blur and noise is their own affair, and with biases of zero they have so many
# kinks, and vectors of almost no length, that differences miss even the first derivative: the package's stands for it.
LPIPS_CASES = cases(
    "lpips",
    {"net": "squeeze"},
    but=("differentiable_twice_or_refused", "gradient_is_the_slope", "grows_with_noise", "grows_with_blur"),
)


@pytest.mark.usefixtures("shift_tolerant")
@pytest.mark.parametrize(
    "case", [*ST_LPIPS_CASES, *(pytest.param(case, marks=pytest.mark.slow) for case in VGG_CASES)], ids=str
)
def test_conformance(case: Case) -> None:
    case.run()


@pytest.mark.parametrize("case", LPIPS_CASES, ids=str)
def test_conformance_with_a_random_trunk(case: Case, random_trunk: Callable[[str], Any]) -> None:
    random_trunk("squeeze")
    case.run()


def test_listing_the_plugin_imports_no_torch() -> None:
    imports_no_torch(plugin)


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
def test_bf16_turns_the_gradient_by_what_the_notes_say(golden: dict[str, Any]) -> None:
    decoded, target = golden["pred"].float(), golden["target"].float()
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
    assert issubclass(metrics.LPIPS, ImageMetric)
    assert issubclass(metrics.STLPIPS, ImageMetric)
    assert {entry.family for entry in [*LOSSES.values(), *METRICS.values()]} == {"perceptual"}
