"""The structural losses against pytorch-msssim, scikit-image and finite differences."""

import importlib
import inspect
import itertools
import math

import numpy as np
import pytest
import torch
from pytorch_msssim import ms_ssim, ssim
from scipy.ndimage import gaussian_filter
from skimage import data, filters
from skimage.metrics import structural_similarity
from torch.utils._python_dispatch import TorchDispatchMode

from recbench.contracts.entries import ImageShape
from recbench.contracts.loss import Context, Loss, Setting
from recbench_losses_structural import recbench_losses, room_for_scales, scale_weights
from recbench_losses_structural import ssim as formulas
from recbench_losses_structural._kernels import Filter, banded, ms_ssim_error, ssim_error
from recbench_losses_structural.ssim import Constants, gaussian_window

ENTRIES = {entry.name: entry for entry in recbench_losses()}
WEIGHTS = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333]
RADIUS = 5  # of the 11 x 11 window
WINDOW_ROUNDING = 5e-5  # pytorch-msssim makes its window in float32, whatever the images are in
SINGLE = 2e-6  # what float32 costs on photographs, whose flat regions have small variances; the package loses as much
PER_IMAGE = (1, 2, 3)


def create(name: str, shape: tuple[int, ...] = (3, 64, 64), **params: object) -> Loss:
    """The loss as recbench makes it for images of that shape."""
    entry, setting = ENTRIES[name], Setting(ImageShape(*shape), latent_size=8)
    completed = entry.complete(params)
    assert not entry.refusals(setting.shape, completed)
    module, _, factory = entry.factory.partition(":")
    loss: Loss = getattr(importlib.import_module(module), factory)(setting, **completed)
    return loss


def photographs(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Three crops of a photograph, and blurred, noisy copies: float64 (3, H, W, 3) in 0 to 1."""
    photograph = data.astronaut() / 255.0
    target = np.stack([photograph[a : a + height, a : a + width] for a in (60, 130, 200)])
    noise = np.random.default_rng(0).normal(0, 0.02, target.shape)
    blurred = [filters.gaussian(t, 0.5 * (i + 1), channel_axis=-1) for i, t in enumerate(target)]
    return np.clip(np.stack(blurred) + noise, 0, 1), target


def torch_images(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


def torch_pair(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    decoded, target = map(torch_images, photographs(height, width))
    return decoded, target


def package_without_its_assertion():
    """pytorch-msssim's ms_ssim refuses 160 pixels and less by an assertion, whatever the number of its weights."""
    module = importlib.import_module("pytorch_msssim.ssim")
    namespace: dict[str, object] = {}
    exec(compile(inspect.getsource(module), module.__file__, "exec", optimize=1), namespace)
    return namespace["ms_ssim"]


def value_and_gradient(loss, decoded, target, epoch=None):
    decoded = decoded.clone().requires_grad_()
    value = loss(decoded, target, Context(epoch=epoch)) if isinstance(loss, Loss) else loss(decoded, target)
    value.sum().backward()
    return value.detach(), decoded.grad


# SSIM


def by_scikit_image(decoded: np.ndarray, target: np.ndarray) -> float:
    """SSIM with the window of Wang et al., over pixels whose window lies inside the image; scikit-image pads."""
    _, values = structural_similarity(
        decoded,
        target,
        win_size=2 * RADIUS + 1,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1.0,
        channel_axis=-1,
        full=True,
    )
    return values[RADIUS:-RADIUS, RADIUS:-RADIUS].mean()


def by_equation_13(decoded: np.ndarray, target: np.ndarray, sigma: float) -> float:
    """The same for windows of any sigma, for which scikit-image would take another size."""

    def local_mean(image: np.ndarray) -> np.ndarray:
        return gaussian_filter(image, sigma, radius=RADIUS, axes=(0, 1))[RADIUS:-RADIUS, RADIUS:-RADIUS]

    one, other = local_mean(decoded), local_mean(target)
    variance_one, variance_other = local_mean(decoded**2) - one**2, local_mean(target**2) - other**2
    covariance = local_mean(decoded * target) - one * other
    c1, c2 = 0.01**2, 0.03**2
    values = (2 * one * other + c1) * (2 * covariance + c2)
    return (values / ((one**2 + other**2 + c1) * (variance_one + variance_other + c2))).mean()


def test_ssim_is_one_minus_that_of_scikit_image():
    pair = photographs(64, 64)
    expected = [by_scikit_image(*images) for images in zip(*pair, strict=True)]
    value = create("ssim")(*map(torch_images, pair), Context())
    np.testing.assert_allclose(1 - value.numpy(), expected, atol=WINDOW_ROUNDING)


@pytest.mark.parametrize("sigma", [0.5, 1.5, 2.5])
def test_sigma_is_that_of_the_window(sigma):
    pair = photographs(64, 64)
    expected = [by_equation_13(*images, sigma) for images in zip(*pair, strict=True)]
    value = create("ssim", sigma=sigma)(*map(torch_images, pair), Context())
    np.testing.assert_allclose(1 - value.numpy(), expected, atol=WINDOW_ROUNDING)


def test_ssim_has_the_published_values(golden):
    want = golden["ssim"]["values"]
    decoded, target = (torch.from_numpy(golden[name]).double() for name in ("pred", "target"))
    value = create("ssim")(decoded, target, Context())
    np.testing.assert_allclose(1 - value.numpy(), want, rtol=1e-12)
    single = create("ssim")(decoded.float(), target.float(), Context())
    np.testing.assert_allclose(1 - single.numpy(), want, rtol=SINGLE)


@pytest.mark.parametrize(
    ("params", "theirs"),
    [
        ({}, {}),
        ({"sigma": 0.8, "window": 7}, {"win_sigma": 0.8, "win_size": 7}),
        ({"K1": 0.05, "K2": 0.4}, {"K": (0.05, 0.4)}),
    ],
)
@pytest.mark.parametrize(("height", "width"), [(64, 64), (61, 49), (30, 33)])
def test_ssim_equals_the_package_in_value_and_gradient(height, width, params, theirs):
    pair = torch_pair(height, width)
    found = value_and_gradient(create("ssim", (3, height, width), **params), *pair)
    expected = value_and_gradient(lambda d, t: 1 - ssim(d, t, data_range=1, size_average=False, **theirs), *pair)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("size", [32, 64])
def test_ssim_in_float32_is_close_to_float64_and_to_the_package(size):
    """Two sizes: the smaller one is filtered by matrices, the larger one by depthwise convolutions."""
    pair = torch_pair(size, size)
    value, gradient = value_and_gradient(create("ssim", (3, size, size)), *pair)
    single, single_gradient = value_and_gradient(create("ssim", (3, size, size)), *(images.float() for images in pair))
    theirs = 1 - ssim(*(images.float() for images in pair), data_range=1, size_average=False)
    torch.testing.assert_close(single.double(), value, rtol=0, atol=SINGLE)
    torch.testing.assert_close(single, theirs, rtol=0, atol=2 * SINGLE)
    assert (single_gradient - gradient).norm() < 5e-5 * gradient.norm()


@pytest.mark.parametrize("depthwise", [True, False])
@pytest.mark.parametrize(("batch", "channels", "height", "width"), [(2, 3, 20, 31), (1, 1, 48, 50)])
def test_both_filters_are_products_with_the_window_and_have_its_adjoint(depthwise, batch, channels, height, width):
    window = gaussian_window(11, 1.5)
    means = Filter(window, depthwise=depthwise)
    images = torch.rand(batch, channels, height, width, generator=torch.Generator().manual_seed(0))
    planes = means.planes(images)
    expected = [gaussian_filter(plane, 1.5, radius=RADIUS)[RADIUS:-RADIUS, RADIUS:-RADIUS] for plane in planes[0]]
    found = means.means(planes)
    np.testing.assert_allclose(found[0].numpy(), np.stack(expected), rtol=1e-5)
    other = torch.rand(found.shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close((found * other).sum(), (planes * means.adjoint(other)).sum())


def test_a_banded_matrix_holds_the_window_in_each_row():
    matrix = banded(torch.tensor([1.0, 2.0, 3.0]), 5)
    assert matrix.tolist() == [[1, 2, 3, 0, 0], [0, 1, 2, 3, 0], [0, 0, 1, 2, 3]]
    assert banded(torch.tensor([1.0, 2.0, 3.0]), 3).tolist() == [[1, 2, 3]]


# MS-SSIM


def test_ms_ssim_equals_the_package_at_five_scales():
    pair = torch_pair(256, 256)
    found = value_and_gradient(create("ms_ssim", (3, 256, 256)), *pair)
    expected = value_and_gradient(lambda d, t: 1 - ms_ssim(d, t, data_range=1, size_average=False), *pair)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)
    single = create("ms_ssim", (3, 256, 256))(*(images.float() for images in pair), Context())
    torch.testing.assert_close(single.double(), found[0], rtol=0, atol=SINGLE)


@pytest.mark.parametrize(
    ("height", "width", "count", "params", "theirs"),
    [
        (64, 64, 3, {}, {}),
        (47, 83, 3, {}, {}),
        (32, 32, 2, {}, {}),
        (20, 11, 1, {}, {}),
        (64, 64, 2, {"scales": 2}, {}),
        (67, 35, 5, {"window": 3, "sigma": 0.7, "K2": 0.1}, {"win_size": 3, "win_sigma": 0.7, "K": (0.01, 0.1)}),
    ],
)
def test_ms_ssim_of_small_images_equals_the_package_with_the_first_weights(height, width, count, params, theirs):
    pair = torch_pair(height, width)
    used = WEIGHTS if count == 5 else [weight / sum(WEIGHTS[:count]) for weight in WEIGHTS[:count]]
    package = package_without_its_assertion()
    found = value_and_gradient(create("ms_ssim", (3, height, width), **params), *pair)
    expected = value_and_gradient(
        lambda d, t: 1 - package(d, t, data_range=1, size_average=False, weights=used, **theirs), *pair
    )
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)


def test_weights_are_a_parameter():
    pair = torch_pair(64, 64)
    weights = [0.5, 0.25]
    value = create("ms_ssim", weights=weights)(*pair, Context())
    expected = package_without_its_assertion()(*pair, data_range=1, size_average=False, weights=weights)
    torch.testing.assert_close(1 - value, expected)


@pytest.mark.parametrize("window", [3, 7, 11])
def test_the_room_for_scales_is_where_the_halved_image_still_holds_the_window(window):
    for side in range(window, 400):
        scales = 0
        halved = side
        while halved >= window:
            scales, halved = scales + 1, (halved + 1) // 2
        assert room_for_scales(ImageShape(1, side, 2 * side), window) == scales
        assert side > (window - 1) * 2 ** (scales - 1)  # the package's condition, for five scales
        assert not side > (window - 1) * 2**scales


def test_fewer_scales_have_weights_of_unit_sum_and_all_of_them_have_the_published_ones():
    counts = {}
    for side in (32, 64, 128, 160, 161, 256):
        weights = scale_weights(ImageShape(3, side, side), 0, WEIGHTS, 11)
        counts[side] = len(weights)
        assert weights == WEIGHTS if len(weights) == 5 else sum(weights) == pytest.approx(1)
    assert counts == {32: 2, 64: 3, 128: 4, 160: 4, 161: 5, 256: 5}


def test_an_inverted_image_has_a_value_of_one_and_no_gradient_as_in_the_package():
    """The first image is a negative, so that its structure is inverted; the second one is not."""
    target, noise = torch.rand(2, 2, 3, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    decoded = torch.stack([1 - target[0], target[1] + 0.2 * noise[1]])
    weights = scale_weights(ImageShape(3, 64, 64), 0, WEIGHTS, 11)
    package = package_without_its_assertion()
    value, gradient = value_and_gradient(create("ms_ssim"), decoded, target)
    expected = value_and_gradient(
        lambda d, t: 1 - package(d, t, data_range=1, size_average=False, weights=weights), decoded, target
    )
    torch.testing.assert_close((value, gradient), expected, rtol=1e-10, atol=1e-14)
    assert value[0] == 1
    assert (gradient[0] == 0).all()
    assert (gradient[1] != 0).any()


def test_only_the_inverted_channel_loses_its_gradient():
    target, noise = torch.rand(2, 2, 3, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    decoded = target + 0.2 * noise
    decoded[:, 1] = 1 - target[:, 1]
    _, gradient = value_and_gradient(create("ms_ssim"), decoded, target)
    assert (gradient[:, 1] == 0).all()
    assert (gradient[:, [0, 2]].abs().amax((2, 3)) > 0).all()


# Formula, kernel, and the package


@pytest.mark.parametrize(("dtype", "relative"), [(torch.float64, 1e-10), (torch.float32, 2e-4)], ids=str)
@pytest.mark.parametrize(("height", "width"), [(64, 64), (47, 83), (32, 33)])
def test_kernels_equal_the_formulas_in_value_and_gradient(height, width, dtype, relative):
    pair = [images.to(dtype) for images in torch_pair(height, width)]
    window, constants, weights = gaussian_window(11, 1.5), Constants(1e-4, 9e-4), torch.tensor([0.4, 0.6]).double()
    for kernel, formula, more in (
        (ssim_error, formulas.ssim, ()),
        (ms_ssim_error, formulas.ms_ssim, (weights,)),
    ):
        value, slope = value_and_gradient(lambda d, t: kernel(d, t, window, constants, *more), *pair)  # noqa: B023
        want, wanted = value_and_gradient(lambda d, t: 1 - formula(d, t, window, constants, *more), *pair)  # noqa: B023
        torch.testing.assert_close(value, want, rtol=relative, atol=SINGLE if dtype == torch.float32 else 0)
        assert (slope - wanted).norm() < relative * wanted.norm()


def test_the_formula_has_the_published_values(golden):
    decoded, target = (torch.from_numpy(golden[name]).double() for name in ("pred", "target"))
    value = formulas.ssim(decoded, target, gaussian_window(11, 1.5), Constants(0.01**2, 0.03**2))
    np.testing.assert_allclose(value.numpy(), golden["ssim"]["values"], rtol=1e-12)


@pytest.mark.parametrize(("dtype", "relative"), [(torch.float64, 1e-10), (torch.float32, 5e-5)], ids=str)
@pytest.mark.parametrize(
    ("name", "shape", "params"),
    [
        ("ssim", (3, 64, 64), {}),
        ("ssim", (3, 32, 37), {"window": 7, "sigma": 0.8, "K1": 0.05, "K2": 0.4}),
        ("ms_ssim", (3, 176, 180), {}),
        ("ms_ssim", (3, 64, 64), {"window": 3, "scales": 2, "weights": [0.5, 0.25, 0.25]}),
    ],
)
def test_both_implementations_agree_in_value_and_gradient(name, shape, params, dtype, relative):
    pair = [images.to(dtype) for images in torch_pair(*shape[1:])]
    value, slope = value_and_gradient(create(name, shape, **params), *pair)
    want, wanted = value_and_gradient(create(name, shape, implementation="reference", **params), *pair)
    torch.testing.assert_close(value, want, rtol=relative, atol=2 * SINGLE if dtype == torch.float32 else 0)
    assert (slope - wanted).norm() < relative * wanted.norm()


# Mix


@pytest.mark.parametrize(
    ("beta", "epoch", "squared"),
    [
        (100.0, 1, False),
        (100.0, 100, False),
        (100.0, 101, True),
        (100.0, None, False),
        (float("inf"), 10**6, False),
        (0.0, 1, True),
        (0.0, None, True),
    ],
)
@pytest.mark.parametrize("alpha", [0.0, 0.64, 1.0])
def test_mix_is_equation_11_by_hand(alpha, beta, epoch, squared):
    decoded, target = torch_pair(64, 64)
    package, weights = package_without_its_assertion(), [weight / sum(WEIGHTS[:3]) for weight in WEIGHTS[:3]]

    def by_hand(decoded, target):
        structure = 1 - package(decoded, target, data_range=1, size_average=False, weights=weights)
        difference = decoded - target
        pixels = (difference**2 if squared else abs(difference)).sum(PER_IMAGE) / (3 * 64 * 64)
        return alpha * structure + (1 - alpha) * pixels

    found = value_and_gradient(create("mix", alpha=alpha, beta=beta), decoded, target, epoch)
    torch.testing.assert_close(found, value_and_gradient(by_hand, decoded, target), rtol=1e-10, atol=1e-14)


def test_mix_switches_after_epoch_100_with_alpha_064_unless_told_otherwise():
    assert {name: ENTRIES["mix"].complete({})[name] for name in ("alpha", "beta")} == {"alpha": 0.64, "beta": 100.0}


# All


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("ssim", {"window": 3}),
        ("ms_ssim", {"window": 3}),
        ("ms_ssim", {"window": 3, "scales": 1}),
        ("mix", {"window": 3, "beta": 0}),
    ],
)
def test_first_and_second_derivatives_are_right(name, params):
    """Sides of 5 and 6 pixels have room for two scales of a window of 3, and are odd once."""
    shape = (1, 5, 6)
    loss = create(name, shape, **params).double()
    target, noise = torch.rand(2, 1, *shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    decoded = (target + 0.2 * noise).requires_grad_()

    def value(decoded):
        return loss(decoded, target, Context(epoch=1))

    assert torch.autograd.gradcheck(value, decoded)
    assert torch.autograd.gradgradcheck(value, decoded)


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_a_target_that_wants_a_gradient_gets_it(name):
    """The losses are symmetric, so exchanging the images exchanges their gradients."""
    decoded, target = torch_pair(32, 32)
    loss = create(name, (3, 32, 32))
    _, expected = value_and_gradient(loss, decoded, target)
    decoded.requires_grad_()
    target.requires_grad_()
    loss(target, decoded, Context()).sum().backward()
    torch.testing.assert_close(decoded.grad, torch.autograd.grad(loss(decoded, target, Context()).sum(), decoded)[0])
    torch.testing.assert_close(decoded.grad, expected)


@pytest.mark.parametrize("name", sorted(ENTRIES))
@pytest.mark.parametrize("size", [32, 64])
def test_no_image_makes_a_value_or_gradient_that_is_not_a_number(name, size):
    """In both directions, in the precision of training."""
    generator = torch.Generator().manual_seed(0)
    picture = torch.rand(1, 3, size, size, generator=generator)
    dot = torch.zeros_like(picture)
    dot[0, 0, size // 2, size // 2] = 1
    images = {
        "picture": picture,
        "negative": 1 - picture,
        "black": torch.zeros_like(picture),
        "white": torch.ones_like(picture),
        "dot": dot,
        "beyond the range": 3 * picture - 1,
    }
    loss = create(name, (3, size, size))
    for (one, decoded), (other, target) in itertools.product(images.items(), images.items()):
        value, gradient = value_and_gradient(loss, decoded, target)
        assert value.isfinite().all(), f"{one} for {other}"
        assert gradient.isfinite().all(), f"{one} for {other}"
        most = math.inf if name == "gradient" else 2.01 + 2 * (one != other)  # gradient is a sum over pixels
        assert -1e-6 <= value.item() <= most, f"{one} for {other}"
        if one == other:
            assert value.abs().item() == 0, one
            assert (gradient == 0).all(), one


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_one_wrong_pixel_is_seen(name):
    _, target = torch_pair(64, 64)
    decoded = target.clone()
    decoded[0, 0, 30, 30] += 0.2
    value, gradient = value_and_gradient(create(name), decoded, target)
    assert value[0] > 0
    assert gradient[0, 0, 30, 30] > 0
    torch.testing.assert_close(value[1:], torch.zeros(2, dtype=torch.float64))


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_nothing_waits_for_the_device(name):
    """No value is read back, and no shape depends on one."""

    class Refusing(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            called = func.overloadpacket.__name__
            assert called not in {"_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "unique_dim"}, called
            return func(*args, **(kwargs or {}))

    pair = (images.float() for images in torch_pair(64, 64))
    loss = create(name)
    with Refusing():
        value_and_gradient(loss, *pair)


@pytest.mark.parametrize(
    ("name", "shape", "params", "reason"),
    [
        ("ssim", ImageShape(1, 10, 11), {}, "at least 11 pixels"),
        ("ssim", ImageShape(1, 64, 64), {"window": 10}, "odd"),
        ("ms_ssim", ImageShape(1, 64, 10), {}, "at least 11 pixels"),
        ("ms_ssim", ImageShape(3, 64, 64), {"window": 8}, "odd"),
        ("ms_ssim", ImageShape(3, 160, 256), {"scales": 5}, "more than 160 pixels"),
        ("ms_ssim", ImageShape(3, 64, 64), {"scales": 4}, "more than 80 pixels"),
        ("ms_ssim", ImageShape(3, 256, 256), {"scales": 6}, "a weight for each scale"),
        ("ms_ssim", ImageShape(3, 160, 256), {"implementation": "reference"}, "more than 160 pixels"),
        ("mix", ImageShape(3, 64, 64), {"scales": 4}, "more than 80 pixels"),
        ("mix", ImageShape(3, 64, 64), {"beta": 1.5}, "whole number"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_runs(name, shape, params, reason):
    (refusal,) = ENTRIES[name].refusals(shape, ENTRIES[name].complete(params))
    assert reason in refusal


@pytest.mark.parametrize(
    ("name", "shape", "params"),
    [
        ("ssim", (1, 11, 11), {}),
        ("ms_ssim", (1, 11, 12), {}),
        ("ms_ssim", (1, 161, 161), {"scales": 5}),
        ("mix", (1, 21, 21), {"scales": 2, "beta": float("inf")}),
    ],
)
def test_the_smallest_images_work(name, shape, params):
    images = torch.rand(2, 2, *shape, generator=torch.Generator().manual_seed(0))
    assert create(name, shape, **params)(*images, Context()).isfinite().all()


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("ssim", {"sigma": 0}),
        ("ssim", {"K1": 0}),
        ("ms_ssim", {"weights": [0.5, 0]}),
        ("ms_ssim", {"scales": -1}),
        ("mix", {"alpha": 1.1}),
        ("mix", {"beta": -1}),
    ],
)
def test_parameters_are_bounded(name, params):
    with pytest.raises(ValueError, match=r"minimum|above|maximum"):
        ENTRIES[name].complete(params)
