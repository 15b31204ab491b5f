"""The Watson losses against float64 values of the authors' code, and against a literal formulation of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

from recbench import ImageShape
from recbench.contracts.loss import Context, Setting
from recbench.data.weights import WeightsError, load_weights
from recbench_losses_frequency import recbench_losses
from recbench_losses_frequency.watson.blocks import (
    cut,
    dct_matrix,
    dft_matrix,
    for_relative_pixels,
    for_sums_and_differences,
    join,
    sums_and_differences,
)
from recbench_losses_frequency.watson.equations import watson
from recbench_losses_frequency.watson.losses import Watson, WatsonDCT, WatsonDFT
from recbench_losses_frequency.watson.parameters import initial
from recbench_losses_frequency.watson.pretrained import Transform, file, files
from recbench_losses_frequency.watson.shift import before_shift, shifted

ENTRIES = {entry.name: entry for entry in recbench_losses() if entry.family == "watson"}
TRANSFORMS: tuple[Transform, ...] = ("dft", "dct")
LUMA = (0.299, 0.587, 0.114)
PATTERNS = ("ramp", "edge", "stripes", "checker")
GOLDEN = ("dft_rgb_pretrained", "dft_rgb_initial", "dft_gray_pretrained", "dct_rgb_pretrained", "dct_rgb_initial")


@pytest.fixture(scope="module")
def pairs(golden: dict[str, Any]) -> dict[str, Any]:
    """The golden values, and the images in float64."""
    return {**golden, **{name: torch.from_numpy(golden[name]).double() for name in ("target", "pred")}}


def make(transform: Transform, channels: int = 3, size: int = 64, **params: Any) -> Watson:
    entry = ENTRIES[f"watson_{transform}"]
    shape = ImageShape(channels, size, size)
    complete = entry.complete({"shift": False, **params})
    assert entry.refusals(shape, complete) == []
    kind = {"dft": WatsonDFT, "dct": WatsonDCT}[transform]
    return kind(Setting(shape, latent_size=8), **complete)


def evaluated(loss: Callable[[Tensor, Tensor], Tensor], decoded: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Values and gradients, float64."""
    decoded = decoded.detach().clone().requires_grad_()
    value = loss(decoded, target)
    value.sum().backward()
    assert decoded.grad is not None
    return value.detach().double(), decoded.grad.double()


def of(loss: Watson) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda decoded, target: loss(decoded, target, Context())


def written_out(transform: Transform, channels: int, choice: str) -> Callable[[Tensor, Tensor], Tensor]:
    pretrained = choice == "pretrained"
    state = load_weights(file(transform, channels)) if pretrained else initial(transform, channels)
    return lambda decoded, target: watson(transform, decoded, target, state)


def pictures(count: int = 3, channels: int = 3, size: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    target = torch.rand(count, channels, size, size, generator=generator, dtype=torch.float64)
    noise = torch.randn(target.shape, generator=generator, dtype=torch.float64)
    return (target + 0.05 * noise).clamp(0, 1), target


def pattern(name: str, size: int = 64) -> Tensor:
    """Coloured image (1, 3, size, size), float32, many of whose Fourier coefficients are exactly zero."""
    across, down = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="xy")
    levels = {
        "ramp": across / (size - 1),
        "edge": 0.1 + 0.8 * (across > size // 2 + 2),
        "stripes": 0.2 + 0.7 * (across // 3 % 2),
        "checker": ((across + down) % 2).float(),
    }
    return levels[name] * torch.tensor([1.0, 0.7, 0.4])[None, :, None, None]


def noisy(images: Tensor) -> Tensor:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(1), dtype=images.dtype)
    return (images + 0.05 * noise).clamp(0, 1)


def parts(name: str) -> tuple[Transform, int, str]:
    transform, colour, choice = name.split("_")
    return ("dft" if transform == "dft" else "dct"), (3 if colour == "rgb" else 1), choice


@pytest.mark.usefixtures("learned_weights")
@pytest.mark.parametrize("name", GOLDEN)
def test_values_and_gradients_are_those_of_the_authors_code(name: str, pairs: dict[str, Any]) -> None:
    transform, channels, choice = parts(name)
    decoded, target = pairs["pred"], pairs["target"]
    if channels == 1:
        luma = torch.tensor(LUMA, dtype=torch.float64)[:, None, None]
        decoded, target = (decoded * luma).sum(1, keepdim=True), (target * luma).sum(1, keepdim=True)
    loss = of(make(transform, channels, weights=choice))
    want = pairs[f"watson_{name}"]
    value, gradient = evaluated(loss, decoded, target)
    assert value.tolist() == pytest.approx(want["values"], rel=1e-9)
    assert gradient.flatten(1).norm(dim=1).tolist() == pytest.approx(want["grad_l2_per_image"], rel=1e-9)
    with torch.no_grad():
        assert torch.equal(loss(decoded, target).double(), value)  # without the gradient, the value is the same
    plain, slope = evaluated(written_out(transform, channels, choice), decoded, target)
    assert plain.tolist() == pytest.approx(want["values"], rel=1e-9)
    assert slope.flatten(1).norm(dim=1).tolist() == pytest.approx(want["grad_l2_per_image"], rel=1e-6)
    single, slope = evaluated(loss, decoded.float(), target.float())
    assert single.tolist() == pytest.approx(want["values"], rel=1e-4)
    # 1.05e-4 on a processor with avx512_bf16
    assert slope.flatten(1).norm(dim=1).tolist() == pytest.approx(want["grad_l2_per_image"], rel=3e-4)


@pytest.mark.parametrize(("dtype", "relative"), [(torch.float64, 1e-7), (torch.float32, 1e-2)], ids=str)
@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_kernels_equal_the_equations_in_value_and_gradient(
    transform: Transform, channels: int, dtype: torch.dtype, relative: float
) -> None:
    decoded, target = (images.to(dtype) for images in pictures(3, channels))
    value, gradient = evaluated(of(make(transform, channels, weights="initial")), decoded, target)
    expected, slope = evaluated(written_out(transform, channels, "initial"), decoded, target)
    torch.testing.assert_close(value, expected, rtol=relative / 10, atol=0)
    assert (gradient - slope).norm() < relative * slope.norm()


@pytest.mark.usefixtures("learned_weights")
@pytest.mark.parametrize("choice", ["pretrained", "initial"])
@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_equals_the_formulation_on_flat_blocks_and_at_the_ends_of_the_range(
    transform: Transform, channels: int, choice: str
) -> None:
    decoded, target = pictures(6, channels)
    colours = [(0.5, 0.5, 0.5), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (1.0, 1.0, 0.0), (0.2, 0.7, 0.4)]
    for image, colour in zip(target, colours, strict=False):
        image[:] = torch.tensor(colour[:channels], dtype=torch.float64)[:, None, None]
    target[0, :, :8, :8] = decoded[0, :, :8, :8].mean(0)  # grey, with a pattern
    loss, written = of(make(transform, channels, weights=choice)), written_out(transform, channels, choice)
    value, gradient = evaluated(loss, decoded, target)
    expected, slope = evaluated(written, decoded, target)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)
    assert (gradient - slope).norm() < 1e-6 * slope.norm()


@pytest.mark.usefixtures("learned_weights")
@pytest.mark.parametrize(
    ("transform", "images"),
    [
        *itertools.product(TRANSFORMS, ("golden 4", "flat target", "flat decoded", "both flat")),
        *(("dft", name) for name in PATTERNS),  # where there are phases of coefficients that cancel
    ],
)
def test_float32_is_no_further_from_float64_than_the_formulation(
    transform: Transform, images: str, pairs: dict[str, Any]
) -> None:
    decoded, target = pairs["pred"].float()[3:], pairs["target"].float()[3:]
    if images in ("flat target", "both flat"):
        target = torch.full_like(target, 0.3)
    if images in ("flat decoded", "both flat"):
        decoded = torch.full_like(target, 0.4)
    if images in PATTERNS:
        target = pattern(images)
        decoded = noisy(target)
    ours, written = of(make(transform)), written_out(transform, 3, "pretrained")
    value, gradient = evaluated(ours, decoded.double(), target.double())
    errors = []
    for loss in (ours, written):
        single, slope = evaluated(loss, decoded, target)
        errors.append(((single / value - 1).abs().item(), ((slope - gradient).norm() / gradient.norm()).item()))
    assert errors[0][0] <= max(errors[1][0], 1e-6)
    assert errors[0][1] <= errors[1][1]
    # Where only the decoded blocks are flat, the slope of their phases is 1e10 and hangs on the last digit of a pixel.
    if images != "flat decoded":
        assert errors[0][1] < 1e-3


@pytest.mark.usefixtures("learned_weights")
@pytest.mark.parametrize("choice", ["pretrained", "initial"])
@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_equals_the_formulation_where_coefficients_of_the_target_cancel(
    transform: Transform, name: str, choice: str
) -> None:
    target = pattern(name).double()
    written = written_out(transform, 3, choice)
    value, gradient = evaluated(of(make(transform, weights=choice)), noisy(target), target)
    expected, slope = evaluated(written, noisy(target), target)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)
    assert (gradient - slope).norm() < 1e-6 * slope.norm()


@pytest.mark.usefixtures("learned_weights")
@pytest.mark.parametrize("choice", ["pretrained", "initial"])
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_of_grey_images_in_rgb_the_formulation_has_the_same_values(transform: Transform, choice: str) -> None:
    decoded, target = (images.expand(-1, 3, -1, -1) for images in pictures(channels=1))
    value, gradient = evaluated(of(make(transform, size=16, weights=choice)), decoded, target)
    expected, _ = evaluated(written_out(transform, 3, choice), decoded, target)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)
    if choice == "initial":  # Cb and Cr are zero, so all that changes the value is Y, which weighs a third
        grey = of(make(transform, 1, 16, weights="initial"))
        _, slope = evaluated(grey, decoded[:, :1], target[:, :1])
        luma = torch.tensor(LUMA, dtype=torch.float64)[:, None, None]
        torch.testing.assert_close(gradient, luma * slope / 3, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("size", [2, 4, 6, 8, 12])
def test_sums_and_differences_give_the_spectrum(size: int) -> None:
    pixels = torch.rand(2, 3, size**2, 5, dtype=torch.float64)
    matrix = for_sums_and_differences(dft_matrix(size))
    for_real, for_imaginary = sums_and_differences(pixels, size)
    count = for_real.shape[2]
    found = torch.complex(matrix[:, :count] @ for_real, matrix[:, count:] @ for_imaginary)
    blocks = pixels.unflatten(2, (size, size)).movedim(-1, 2)
    spectrum = torch.fft.rfft2(blocks, norm="forward").flatten(3).movedim(2, -1)
    torch.testing.assert_close(found, spectrum)


@pytest.mark.parametrize("size", [2, 4, 8])
def test_blocks_of_equal_rows_have_exactly_one_row_of_frequencies(size: int) -> None:
    row = torch.rand(size, generator=torch.Generator().manual_seed(0))
    pixels = row.repeat(size)[None, None, :, None]
    matrix = for_sums_and_differences(dft_matrix(size)).float()
    for_real, for_imaginary = sums_and_differences(pixels - pixels[:, :, :1], size)
    count = for_real.shape[2]
    for found in (matrix[:, :count] @ for_real, matrix[:, count:] @ for_imaginary):
        assert torch.count_nonzero(found[:, :, size // 2 + 1 :]) == 0


@pytest.mark.parametrize(("channels", "block_size"), [(3, 4), (1, 2), (1, 8)])
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_the_closed_gradient_and_the_second_derivative_are_right(
    transform: Transform, channels: int, block_size: int
) -> None:
    decoded, target = pictures(1, channels, 8)
    loss = make(transform, channels, 8, weights="initial", block_size=block_size)
    decoded.requires_grad_()
    assert torch.autograd.gradcheck(lambda d: loss(d, target, Context()), decoded)
    assert torch.autograd.gradgradcheck(lambda d: loss(d, target, Context()), decoded, atol=1e-4, fast_mode=True)
    recorded, _ = loss.distance(decoded, target, (0, 0), gradient=False)
    (expected,) = torch.autograd.grad(recorded.sum(), decoded)
    (closed,) = torch.autograd.grad(loss(decoded, target, Context()).sum(), decoded)
    torch.testing.assert_close(closed, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_target_can_have_a_gradient_too(transform: Transform) -> None:
    decoded, target = pictures(2, 1, 8)
    loss = make(transform, 1, 8, weights="initial")
    both = (decoded.requires_grad_(), target.requires_grad_())
    assert torch.autograd.gradcheck(lambda a, b: loss(a, b, Context()), both)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_at_identity_the_gradient_is_zero_and_the_value_least(transform: Transform) -> None:
    _, target = pictures(2)
    for dtype in (torch.float32, torch.float64):
        loss = of(make(transform, weights="initial"))
        images = target.to(dtype)
        best, gradient = evaluated(loss, images, images)
        assert gradient.abs().max() == 0
        for amount in (1e-6, 1e-4, 1e-2):
            assert (loss(images + amount * torch.randn_like(images), images).double() >= best).all()


@pytest.mark.usefixtures("learned_weights")
@pytest.mark.parametrize("choice", ["pretrained", "initial"])
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_gradients_are_finite_for_pure_colours(transform: Transform, choice: str) -> None:
    """Yellow has no Cb, cyan no Cr, black no Y: what luminance masking takes a power of."""
    loss = of(make(transform, size=8, weights=choice))
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)[:, :, None, None].expand(8, 3, 8, 8)
    textured = 0.5 * corners + 0.5 * torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for decoded, target in ((corners, corners), (corners.flip(0), corners), (textured, corners), (corners, textured)):
        value, gradient = evaluated(loss, decoded, target)
        assert value.isfinite().all()
        assert gradient.isfinite().all()


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_luminance_masking_divides_by_the_mean_of_the_batch(transform: Transform) -> None:
    decoded, target = pictures()
    target[1] *= 0.1
    loss = of(make(transform, weights="initial"))
    together = loss(decoded, target)
    alone = torch.cat([loss(decoded[[i]], target[[i]]) for i in range(3)])
    assert (alone / together - 1).abs().max() > 1e-3
    written = written_out(transform, 3, "initial")
    torch.testing.assert_close(alone, torch.cat([written(decoded[[i]], target[[i]]) for i in range(3)]))
    assert ENTRIES[f"watson_{transform}"].couples_batch


@pytest.mark.parametrize("size", [2, 6, 16])
def test_a_shift_is_a_window_on_the_image_with_edges_repeated(size: int) -> None:
    images = torch.rand(2, 3, size, size + 2, dtype=torch.float64)
    slope = torch.rand_like(images)
    padded = pad(images, (4, 4, 4, 4), mode="replicate")
    for down in range(-4, 4):
        for across in range(-4, 4):
            moved = shifted(images, (down, across))
            assert torch.equal(moved, padded[:, :, 4 + down :, 4 + across :][:, :, :size, : size + 2])
            adjoint = before_shift(slope, (down, across))
            assert (moved * slope).sum().item() == pytest.approx((images * adjoint).sum().item(), rel=1e-12)
            on_gpu = torch.tensor([down, across])  # as it is drawn there
            assert torch.equal(shifted(images, on_gpu), moved)
            torch.testing.assert_close(before_shift(slope, on_gpu), adjoint, rtol=1e-12, atol=0)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_the_shift_is_random_the_same_with_a_seed_and_over_the_whole_range(transform: Transform) -> None:
    decoded, target = pictures(1, 3, 8)
    loss = of(make(transform, size=8, weights="initial", shift=True))
    written = initial(transform, 3)
    possible = [
        watson(transform, decoded, target, written, (down, across)).item() for down in range(8) for across in range(8)
    ]
    torch.manual_seed(0)
    drawn = [loss(decoded, target).item() for _ in range(400)]
    torch.manual_seed(0)
    assert drawn[:5] == [loss(decoded, target).item() for _ in range(5)]
    met = {min(range(64), key=lambda i: abs(possible[i] - value)) for value in drawn}
    assert all(min(abs(one / value - 1) for one in possible) < 1e-9 for value in drawn)
    assert len(met) > 55
    torch.manual_seed(3)
    value, gradient = evaluated(loss, decoded, target)
    torch.manual_seed(3)
    at = [index for index in range(64) if abs(possible[index] / value.item() - 1) < 1e-9]
    assert len(at) == 1
    _, slope = evaluated(lambda d, t: watson(transform, d, t, written, divmod(at[0], 8)), decoded, target)
    torch.testing.assert_close(gradient, slope, rtol=1e-6, atol=1e-9)


def test_matrices_are_the_transforms_of_blocks() -> None:
    image = torch.rand(1, 1, 16, 24, dtype=torch.float64)
    blocks = cut(image, 8)
    assert torch.equal(blocks[0, 0, :, 4].view(8, 8), image[0, 0, 8:, 8:16])
    assert torch.equal(join(blocks, 8, 16, 24), image)
    spectrum = torch.fft.rfft2(image[0, 0, 8:, 8:16]).flatten() / 64
    parts = dft_matrix(8) @ blocks[0, 0, :, 4]
    torch.testing.assert_close(torch.complex(parts[:40], parts[40:]), spectrum)
    relative = blocks - blocks[:, :, :1]
    relative[:, :, 0] = blocks[:, :, 0]
    for matrix in (dft_matrix(8), dct_matrix(8)):
        torch.testing.assert_close(for_relative_pixels(matrix) @ relative, matrix @ blocks)
    torch.testing.assert_close(dct_matrix(8) @ dct_matrix(8).T, torch.eye(64, dtype=torch.float64), atol=1e-6, rtol=0)
    flat = torch.full((1, 1, 64, 1), 0.3)
    flat[:, :, 1:] = 0
    assert torch.count_nonzero(for_relative_pixels(dft_matrix(8)).float() @ flat) == 1


def test_parameters_are_never_trained(learned_weights: str) -> None:
    for transform in TRANSFORMS:
        assert list(make(transform).parameters()) == []


def test_a_gradient_is_not_computed_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded, target = pictures()
    loss = make("dft", weights="initial")
    asked: list[bool] = []
    distance = loss.distance

    def watched(*args: Any, gradient: bool) -> Any:
        asked.append(gradient)
        return distance(*args, gradient=gradient)

    monkeypatch.setattr(loss, "distance", watched)
    loss(decoded, target, Context())
    with torch.no_grad():
        loss(decoded.requires_grad_(), target, Context())
    loss(decoded, target, Context())
    assert asked == [False, False, True]


def test_missing_weights_are_named_with_the_ways_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RECBENCH_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WeightsError, match=r"rgb_watson_fft_trial0\.pth.*recbench weights fetch.*weights: initial"):
        make("dft")
    with pytest.raises(WeightsError, match=r"gray_watson_dct_trial0\.pth"):
        make("dct", 1)
    make("dct", weights="initial")


def test_only_what_is_needed_is_asked_for() -> None:
    colour, grey = ImageShape(3, 64, 64), ImageShape(1, 64, 64)
    for transform in TRANSFORMS:
        entry = ENTRIES[f"watson_{transform}"]
        assert entry.weights == files(transform)
        assert entry.needed_weights(colour, entry.complete({})) == (file(transform, 3),)
        assert entry.needed_weights(grey, entry.complete({})) == (file(transform, 1),)
        assert entry.needed_weights(colour, entry.complete({"weights": "initial"})) == ()


@pytest.mark.parametrize(
    ("shape", "params", "reason"),
    [
        (ImageShape(3, 64, 60), {}, "block_size divides"),
        (ImageShape(3, 4, 4), {}, "block_size divides"),
        (ImageShape(2, 64, 64), {}, "1 or 3 channels"),
        (ImageShape(3, 64, 64), {"block_size": 16}, "weights: initial"),
    ],
)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_what_cannot_work_is_refused_before_anything_runs(
    transform: Transform, shape: ImageShape, params: dict[str, Any], reason: str
) -> None:
    entry = ENTRIES[f"watson_{transform}"]
    (refusal,) = entry.refusals(shape, entry.complete(params))
    assert reason in refusal


def test_odd_blocks_are_for_the_dct_only() -> None:
    shape, params = ImageShape(1, 63, 63), {"block_size": 7, "weights": "initial"}
    (refusal,) = ENTRIES["watson_dft"].refusals(shape, ENTRIES["watson_dft"].complete(params))
    assert "even" in refusal
    decoded, target = torch.rand(2, 2, 1, 63, 63)
    assert make("dct", 1, 63, block_size=7, weights="initial")(decoded, target, Context()).isfinite().all()
