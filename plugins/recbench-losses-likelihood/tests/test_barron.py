"""barron against closed forms, published filters, SciPy's integrals and transforms, and dense matrices."""

from __future__ import annotations

import math
from typing import Any

import pytest
import scipy.fft
import scipy.integrate
import scipy.special
import torch
from torch import Tensor
from torch.distributions import Cauchy, Normal

from recbench import ImageShape
from recbench.contracts.loss import Context, Setting
from recbench_losses_likelihood import recbench_losses
from recbench_losses_likelihood._kernels import summed_loss
from recbench_losses_likelihood.barron import general_loss, log_partition, negative_log_density, partition_table
from recbench_losses_likelihood.losses import Barron
from recbench_losses_likelihood.representation import Representation, dct_matrix, wavelet_matrix, yuv_matrix

ENTRY = next(entry for entry in recbench_losses() if entry.name == "barron")
CONTEXT = Context(epoch=1, training=True)


PIXEL = ImageShape(1, 1, 1)


def make(shape: ImageShape = PIXEL, **params: Any) -> Barron:
    torch.manual_seed(0)
    return Barron(Setting(shape, 4), **ENTRY.complete({"representation": "pixel", "scale_init": 0.1, **params}))


def fixed(alpha: float, **params: Any) -> Barron:
    return make(alpha_lo=alpha, alpha_hi=alpha, **params)


def pixels(values: Tensor) -> Tensor:
    return values.reshape(-1, 1, 1, 1)


def images(shape: ImageShape, count: int = 2) -> tuple[Tensor, Tensor]:
    size = count, shape.channels, shape.height, shape.width
    target = torch.rand(size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    noise = torch.randn(size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return target + 0.1 * noise, target


# What the author's code (robust_loss_pytorch, on the processor in float64) gives for the image of the test below: the
# value, and the norms of its gradients with respect to the error, the latent shapes (if any) and the latent scales.
GOLDEN = [
    ("pixel", 0.0, 3.0, 1.0, 6452.80258464791, 5245.033644, 230.171322, 216.899011),
    ("pixel", 0.001, 1.999, 0.4, 611.1417935230323, 2716.999689, 42.495914, 69.771922),
    ("pixel", 0.0, 0.0, 1.0, -964.3816085127621, 2058.611187, 29.813178),
    ("dct", 0.0, 3.0, 1.0, 882.6704770217116, 4467.002314, 497.214275, 270.89856),
    ("dct", 0.001, 1.999, 0.4, -4365.064883814267, 2788.679333, 65.76521, 61.383155),
    ("dct", 2.0, 2.0, 1.0, 92211.28151141523, 56007.151498, 6777.948747),
    ("wavelet", 0.0, 3.0, 1.0, -590.4172866272344, 4880.399211, 700.814787, 287.225417),
    ("wavelet", 0.001, 1.999, 0.4, -4883.75032293316, 3404.904857, 68.167609, 54.797786),
    ("wavelet", 0.0, 0.0, 1.0, -5530.644876093613, 3078.54064, 25.995915),
]


@pytest.mark.parametrize(("kind", "low", "high", "first", "value", "norms"), [(*row[:5], row[5:]) for row in GOLDEN])
def test_values_and_gradients_are_the_authors(
    kind: str, low: float, high: float, first: float, value: float, norms: tuple[float, ...]
) -> None:
    """To 1e-5: the author's code takes a float32 constant and a table right to 1e-5 into float64."""
    c, i, j = (places.double() for places in torch.meshgrid(torch.arange(3), *[torch.arange(32)] * 2, indexing="ij"))
    error = 0.1 * torch.sin(1 + 2 * c + 0.05 * i * j) + 0.01 * torch.cos(i * i + 3 * j + c)
    bounds = {"alpha_lo": low, "alpha_hi": high, "alpha_init": first, "scale_init": 0.01}
    loss = make(shape=ImageShape(3, 32, 32), representation=kind, **bounds).double()
    decoded = torch.zeros_like(error)[None].requires_grad_()
    found = loss(decoded, error[None], CONTEXT).sum()
    gradients = torch.autograd.grad(found, [decoded, *loss.parameters()])
    assert found.item() == pytest.approx(value, rel=1e-5)
    assert [gradient.norm().item() for gradient in gradients] == pytest.approx(norms, rel=1e-5)


@pytest.mark.parametrize(("dtype", "relative"), [(torch.float64, 1e-9), (torch.float32, 1e-4)], ids=str)
def test_the_kernel_equals_the_formula_in_value_and_gradients(dtype: torch.dtype, relative: float) -> None:
    x = 0.1 * torch.randn(5, 64, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    alpha, scale = torch.linspace(0.2, 3.5, 64), torch.linspace(0.01, 0.2, 64)
    results = []
    for function in (summed_loss, lambda x, alpha, scale: general_loss(x, alpha, scale).sum(1)):
        inputs = [tensor.detach().to(dtype).requires_grad_() for tensor in (x, alpha, scale)]
        value = function(*inputs)
        results.append([value, *torch.autograd.grad(value.square().sum(), inputs)])
    for found, expected in zip(*results, strict=True):
        assert (found - expected).norm() < relative * expected.norm()


@pytest.mark.parametrize("scale", [0.1, 3.0])
def test_the_general_loss_has_its_published_special_cases(scale: float) -> None:
    x = torch.linspace(-5, 5, 101, dtype=torch.float64)
    squared = (x / scale).square()
    cases = {0: torch.log1p(squared / 2), 1: torch.sqrt(squared + 1) - 1, 2: squared / 2}
    for alpha, expected in cases.items():
        for near in (0.0, 1e-13):  # the limits are approached, too
            value = general_loss(x, torch.tensor(alpha + near, dtype=torch.float64), torch.tensor(scale))
            torch.testing.assert_close(value, expected, rtol=1e-7, atol=1e-12)


def rho(x: float, alpha: float) -> float:
    """Equation 1 with c = 1, letter by letter."""
    beta = abs(alpha - 2)
    return beta / alpha * ((x**2 / beta + 1) ** (alpha / 2) - 1)


@pytest.mark.parametrize("alpha", [0.3, 0.5, 0.9, 1.3, 1.5, 1.9, 1.99, 2.01, 2.5, 3.0, 3.9])
def test_the_partition_function_is_the_integral(alpha: float) -> None:
    half, error = scipy.integrate.quad(lambda x: math.exp(-rho(x, alpha)), 0, math.inf, epsabs=1e-11, limit=500)
    assert error < 1e-7
    found = log_partition(torch.tensor(alpha, dtype=torch.float64), partition_table())
    assert found.item() == pytest.approx(math.log(2 * half), abs=2e-7)


def test_the_partition_function_has_its_closed_forms() -> None:
    known = {0.0: math.pi * math.sqrt(2), 1.0: 2 * math.e * scipy.special.k1(1), 2.0: math.sqrt(2 * math.pi)}
    found = log_partition(torch.tensor(list(known), dtype=torch.float64), partition_table())
    assert found.tolist() == pytest.approx([math.log(z) for z in known.values()], abs=1e-7)


def test_the_partition_functions_slope_is_right() -> None:
    alpha = torch.tensor([0.01, 0.1, 0.7, 1.0, 1.6, 1.97, 1.999, 2.001, 2.2, 3.5], dtype=torch.float64)
    moved = alpha.clone().requires_grad_()
    log_partition(moved, partition_table()).sum().backward()
    w = torch.linspace(0, 60, 60_001, dtype=torch.float64)[:, None]
    x = torch.sinh(w)  # d log Z / dα is −E[dρ/dα]
    learned = alpha.expand(len(x), -1).clone().requires_grad_()
    value = general_loss(x, learned, torch.ones((), dtype=torch.float64))
    (slope,) = torch.autograd.grad(value.sum(), learned)
    density = torch.exp(-value.detach() + w + torch.log1p(torch.exp(-2 * w)))
    expected = -(torch.where(density > 0, density * slope, 0).sum(0) / density.sum(0))
    torch.testing.assert_close(moved.grad, expected, rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0, 1.5, 1.99, 2.0, 3.0])
def test_the_density_of_a_pixel_integrates_to_one(alpha: float) -> None:
    w = torch.linspace(-45, 45, 9_001, dtype=torch.float64)
    target = 0.5 + 0.1 * torch.sinh(w)
    log_prob = fixed(alpha).log_prob(pixels(torch.full_like(target, 0.5)), pixels(target), CONTEXT)
    total = torch.trapezoid((log_prob + torch.log(0.1 * torch.cosh(w))).exp(), w)
    assert total.item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("alpha", "known"), [(2.0, lambda c: Normal(0.0, c)), (0.0, lambda c: Cauchy(0.0, c * math.sqrt(2)))]
)
def test_the_ends_are_torchs_normal_and_cauchy(alpha: float, known: Any) -> None:
    shape = ImageShape(3, 4, 5)
    decoded, target = images(shape)
    expected = known(0.1).log_prob(target - decoded).sum((1, 2, 3))
    torch.testing.assert_close(fixed(alpha, shape=shape).log_prob(decoded, target, CONTEXT), expected)
    single = fixed(alpha, shape=shape)(decoded.float(), target.float(), CONTEXT)
    torch.testing.assert_close(single, -expected.float(), rtol=1e-5, atol=0)


def test_shapes_and_scales_begin_where_they_are_told_and_stay_in_their_bounds() -> None:
    image = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    loss = make(shape=ImageShape(1, 4, 4), alpha_lo=0.5, alpha_hi=1.5, alpha_init=0.7, scale_lo=0.01)
    assert loss.latent_alpha is not None
    assert loss.latent_scale is not None
    torch.testing.assert_close(loss.alpha(image), torch.full((16,), 0.7, dtype=torch.float64), rtol=1e-6, atol=0)
    torch.testing.assert_close(loss.scale(image), torch.full((16,), 0.1, dtype=torch.float64), rtol=1e-6, atol=0)
    for extreme, alpha in ((-1e3, 0.5), (1e3, 1.5)):
        loss.latent_alpha.data.fill_(extreme)
        assert torch.equal(loss.alpha(image), torch.full((16,), alpha, dtype=torch.float64))
    loss.latent_scale.data.fill_(-1e3)
    assert loss.scale(image).tolist() == pytest.approx([0.01] * 16)
    assert not list(fixed(1.0, scale_lo=0.1).parameters())


def test_the_dct_is_scipys() -> None:
    x = torch.rand(2, 1, 6, 9, dtype=torch.float64)
    expected = torch.from_numpy(scipy.fft.dctn(x.numpy(), axes=(2, 3), norm="ortho"))
    torch.testing.assert_close(Representation("dct", 5, (1, 6, 9))(x), expected)
    torch.testing.assert_close(dct_matrix(7) @ dct_matrix(7).T, torch.eye(7, dtype=torch.float64))


def test_the_wavelets_are_the_published_filters() -> None:
    """Table 6.2 of Cohen, Daubechies and Feauveau 1992, as low-pass of 9 and high-pass of 7 taps; the DC gain is √2."""
    low = [0.852698679009, 0.377402855613, -0.110624404418, -0.023849465020, 0.037828455507]
    high = [0.788485616406, -0.418092273222, -0.040689417609, 0.064538882629]
    matrix = wavelet_matrix(16)
    assert matrix[4, 8:13].tolist() == pytest.approx(low, abs=1e-9)
    assert matrix[4, 4:9].flip(0).tolist() == pytest.approx(low, abs=1e-9)
    assert matrix[8 + 3, 7:11].tolist() == pytest.approx(high, abs=1e-9)
    assert matrix[4].sum().item() == pytest.approx(math.sqrt(2))
    smooth = torch.arange(16, dtype=torch.float64)[:, None] ** torch.arange(4)  # four vanishing moments
    assert (matrix[8 + 2 : 8 + 5] @ smooth).abs().max() < 1e-8
    for size in (2, 3, 5, 16):
        flat = wavelet_matrix(size) @ torch.ones(size, dtype=torch.float64)  # mirrored ends keep a constant constant
        torch.testing.assert_close(flat[: (size + 1) // 2], torch.full_like(flat[: (size + 1) // 2], math.sqrt(2)))
        assert flat[(size + 1) // 2 :].abs().max() < 1e-12


def test_yuv_keeps_volumes_and_takes_grey_to_luminance() -> None:
    matrix = yuv_matrix()
    assert torch.linalg.det(matrix).item() == pytest.approx(1)
    grey = matrix @ torch.ones(3, dtype=torch.float64)
    assert grey[0].item() == pytest.approx(1.580227820074)  # the factor that the author's code has as a number
    assert grey[1:].abs().max() < 1e-12


@pytest.mark.parametrize("kind", ["pixel", "dct", "wavelet"])
@pytest.mark.parametrize("shape", [ImageShape(3, 8, 6), ImageShape(1, 5, 7), ImageShape(2, 4, 4)])
def test_log_prob_is_a_density_of_pixels(kind: str, shape: ImageShape) -> None:
    """With its volume from the dense matrix of the whole transform, and each coefficient's own shape and scale."""
    loss = make(shape=shape, representation=kind, levels=2).double()
    for parameter in loss.parameters():
        parameter.data.normal_()
    decoded, target = images(shape)
    count = target[0].numel()
    columns = loss.represent(torch.eye(count, dtype=torch.float64).reshape(count, *target.shape[1:])).flatten(1)
    volume = torch.linalg.slogdet(columns).logabsdet
    assert loss.represent.log_volume == pytest.approx(volume.item(), abs=1e-9)
    coefficients = (target - decoded).flatten(1) @ columns
    alpha, scale = loss.alpha(target), loss.scale(target)
    nll = negative_log_density(coefficients, alpha, scale, partition_table())
    torch.testing.assert_close(loss.log_prob(decoded, target, CONTEXT), volume - nll)
    assert torch.equal(loss(decoded, target, CONTEXT), -loss.log_prob(decoded, target, CONTEXT))


@pytest.mark.parametrize("kind", ["pixel", "dct", "wavelet"])
def test_gradients_of_images_shapes_and_scales_are_right_once_and_twice(kind: str) -> None:
    shape = ImageShape(1, 3, 2)
    loss = make(shape=shape, representation=kind, levels=1, alpha_hi=3.0).double()
    decoded, target = images(shape)
    alpha, scale = (torch.randn(1, 3, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))

    def value(decoded: Tensor, alpha: Tensor, scale: Tensor) -> Tensor:
        latents = {"latent_alpha": alpha, "latent_scale": scale}
        result: Tensor = torch.func.functional_call(loss, latents, (decoded, target, CONTEXT))
        return result

    inputs = (decoded.requires_grad_(), alpha, scale)
    assert torch.autograd.gradcheck(value, inputs)
    assert torch.autograd.gradgradcheck(value, inputs, fast_mode=True)


@pytest.mark.parametrize(
    ("alpha", "tolerance"),
    [(1e-4, 1e-2), (1e-2, 1e-4), (1.0, 1e-5), (1.99, 1e-5), (1.999999, 1e-5), (2.000001, 1e-5), (2.5, 1e-5)],
)
def test_float32_is_stable_at_all_shapes(alpha: float, tolerance: float) -> None:
    """Values and gradients against float64 at the shape that float32 makes of it."""
    x = 0.1 * torch.randn(5, 64, generator=torch.Generator().manual_seed(3))
    learned, scale = torch.full((64,), alpha), torch.full((64,), 0.02)
    results = []
    for dtype in (torch.float32, torch.float64):
        inputs = [tensor.to(dtype).requires_grad_() for tensor in (x, learned, scale)]
        value = summed_loss(*inputs)
        slope = log_partition(inputs[1], partition_table())
        results.append([value, *torch.autograd.grad(value.sum() + 5 * slope.sum(), inputs)])
    for single, double, bound in zip(*results, (1e-5, 1e-5, tolerance, 1e-5), strict=True):
        assert (single - double).abs().max() <= bound * double.abs().max()


@pytest.mark.parametrize("alpha", [0.0, 2.0])
def test_gradients_are_finite_at_the_ends_themselves(alpha: float) -> None:
    inputs = [tensor.requires_grad_() for tensor in (torch.randn(2, 8), torch.full((8,), alpha), torch.ones(8))]
    value = summed_loss(*inputs).sum() + log_partition(inputs[1], partition_table()).sum()
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(value, inputs))


def test_shapes_and_scales_learn_the_noise_they_see() -> None:
    """Normal noise ends with a higher shape than heavy-tailed noise, and with its own standard deviation."""
    generator = torch.Generator().manual_seed(0)
    normal = 0.05 * torch.randn(2000, generator=generator)
    target = torch.stack([normal, normal / (torch.rand(2000, generator=generator) + 0.04)], dim=1).reshape(-1, 1, 1, 2)
    free, gaussian = make(shape=ImageShape(1, 1, 2), alpha_hi=2.0), fixed(2.0, shape=ImageShape(1, 1, 2))
    for loss in (free, gaussian):
        optimizer = torch.optim.Adam(loss.parameters(), lr=0.1)
        for _ in range(100):
            optimizer.zero_grad()
            loss(torch.zeros_like(target), target, CONTEXT).mean().backward()
            optimizer.step()
    shapes = free.alpha(target)
    assert shapes[0] > 1.5
    assert shapes[1] < 1.0
    assert gaussian.scale(target).tolist() == pytest.approx(target.square().mean(0).sqrt().flatten().tolist(), rel=0.02)


@pytest.mark.parametrize(
    ("shape", "params", "reason"),
    [
        (ImageShape(3, 16, 64), {}, "at most 4 levels"),
        (ImageShape(3, 64, 64), {"levels": 7}, "at most 6 levels"),
        (ImageShape(3, 64, 64), {"alpha_lo": 2.0, "alpha_hi": 1.0}, "at most alpha_hi"),
        (ImageShape(3, 64, 64), {"alpha_init": 3.0}, "between alpha_lo and alpha_hi"),
        (ImageShape(3, 64, 64), {"scale_lo": 0.1}, "at least scale_lo"),
    ],
)
def test_what_cannot_work_is_refused(shape: ImageShape, params: dict[str, Any], reason: str) -> None:
    (refusal,) = ENTRY.refusals(shape, ENTRY.complete(params))
    assert reason in refusal


def test_small_images_and_fixed_shapes_are_taken() -> None:
    assert not ENTRY.refusals(ImageShape(1, 16, 16), ENTRY.complete({"levels": 4}))
    assert not ENTRY.refusals(ImageShape(3, 17, 99), ENTRY.complete({}))
    assert not ENTRY.refusals(ImageShape(3, 2, 2), ENTRY.complete({"representation": "dct", "alpha_hi": 0.0}))
