"""The Wiener loss against float64 values of an independent implementation, and against dense linear algebra."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from recbench import ImageShape
from recbench.contracts.loss import Context, Setting
from recbench_losses_likelihood import _kernels, recbench_losses
from recbench_losses_likelihood import wiener as formulas
from recbench_losses_likelihood._kernels import kernel_fit, weighted_squared_error
from recbench_losses_likelihood.losses import KernelGenerator, Wiener
from recbench_losses_likelihood.wiener import gaussian_kernel, log_determinant, transfer_function

ENTRY = next(entry for entry in recbench_losses() if entry.name == "wiener")
CONSTANTS = (0.005, 0.025, 0.1)


@pytest.fixture(scope="module")
def pairs(golden: dict[str, Any]) -> dict[str, Any]:
    """The golden values, and the images in float64."""
    return {**golden, **{name: torch.from_numpy(golden[name]).double() for name in ("target", "pred")}}


def make(**params: Any) -> Wiener:
    setting = Setting(ImageShape(3, 64, 64), latent_size=8)
    return Wiener(setting, **ENTRY.complete({"warmup_epochs": 0, **params}))


def kernel_of(name: str, pairs: dict[str, Any]) -> Tensor:
    if name == "asym":
        return torch.tensor(pairs["wiener_asym_kernel"], dtype=torch.float64)
    return gaussian_kernel(11, float(name.removeprefix("var")))


@pytest.mark.parametrize("constant", CONSTANTS)
@pytest.mark.parametrize("name", ["var2", "var4", "asym"])
def test_terms_equal_the_golden_values(name: str, constant: float, pairs: dict[str, Any]) -> None:
    want = pairs[f"wiener_{name}_C{constant}"]
    transfer = transfer_function(kernel_of(name, pairs)[None], 64, 64)
    target, decoded = pairs["target"], pairs["pred"]
    squared = weighted_squared_error(target - decoded, transfer, constant)
    determinant = log_determinant(transfer, 0.5, 3, 64)
    fit = kernel_fit(target, decoded, transfer)
    plain = formulas.weighted_squared_error(target - decoded, transfer, constant)
    assert plain.tolist() == pytest.approx(want["weighted_sq_error"], rel=1e-9)
    plain = formulas.kernel_fit(target, decoded, transfer)
    assert plain.tolist() == pytest.approx(want["kernel_fit_sq_error"], rel=1e-9)
    assert squared.tolist() == pytest.approx(want["weighted_sq_error"], rel=1e-9)
    assert determinant.item() == pytest.approx(want["log_det_K_eps0.5"], rel=1e-9)
    assert fit.tolist() == pytest.approx(want["kernel_fit_sq_error"], rel=1e-9)


@pytest.mark.parametrize("constant", CONSTANTS)
@pytest.mark.parametrize("variance", [2, 4])
def test_the_loss_with_a_fixed_kernel_equals_the_golden_values(
    variance: int, constant: float, pairs: dict[str, Any]
) -> None:
    want = pairs[f"wiener_var{variance}_C{constant}"]
    loss = make(kernel="gaussian", variance=float(variance), C=constant)
    value = loss(pairs["pred"], pairs["target"], Context())
    log_prob = loss.log_prob(pairs["pred"], pairs["target"], Context())
    assert value.tolist() == pytest.approx([0.5 * v for v in want["weighted_sq_error"]], rel=1e-9)
    assert log_prob.tolist() == pytest.approx([-v for v in want["nll_eps0.5"]], rel=1e-9)
    single = loss(pairs["pred"].float(), pairs["target"].float(), Context())
    assert single.tolist() == pytest.approx(value.tolist(), rel=1e-4)


@pytest.mark.parametrize(("dtype", "relative"), [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=str)
@pytest.mark.parametrize(("height", "width"), [(8, 10), (7, 9)])
@pytest.mark.parametrize("one_for_all", [False, True])
def test_kernels_equal_the_formulas_in_value_and_gradients(
    height: int, width: int, one_for_all: bool, dtype: torch.dtype, relative: float
) -> None:
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(2, 2, 3, height, width, generator=generator, dtype=torch.float64)
    blur = torch.rand(1 if one_for_all else 2, 5, 5, generator=generator, dtype=torch.float64)

    def results(module: Any) -> list[Tensor]:
        found: list[Tensor] = []
        for fit in (False, True):
            target, decoded, kernel = (t.detach().to(dtype).requires_grad_() for t in (*images, blur / 25))
            transfer = transfer_function(kernel, height, width)
            if fit:
                value = module.kernel_fit(target, decoded, transfer)
            else:
                value = module.weighted_squared_error(target - decoded, transfer, 0.1)
            found += [value, *torch.autograd.grad(value.square().sum(), (target, decoded, kernel))]
        return found

    for fast, plain in zip(results(_kernels), results(formulas), strict=True):
        assert (fast - plain).norm() < relative * plain.norm()


def circulant(kernel: Tensor, height: int, width: int) -> Tensor:
    """The dense matrix K of circular convolution with a centred kernel, by convolving every unit image."""
    columns = []
    middle = kernel.shape[-1] // 2
    for place in range(height * width):
        image = torch.zeros(height, width, dtype=torch.float64)
        for row in range(kernel.shape[-2]):
            for column in range(kernel.shape[-1]):
                y = (place // width + row - middle) % height
                x = (place % width + column - middle) % width
                image[y, x] += kernel[row, column]
        columns.append(image.flatten())
    return torch.stack(columns, dim=1)


@pytest.mark.parametrize(("height", "width"), [(6, 8), (7, 5)])
def test_against_dense_matrices_of_odd_and_even_size(height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(1)
    kernel = torch.rand(3, 3, generator=generator, dtype=torch.float64)
    kernel /= kernel.sum()
    target, decoded = torch.rand(2, 1, 2, height, width, generator=generator, dtype=torch.float64)
    transfer = transfer_function(kernel[None], height, width)
    matrix = circulant(kernel, height, width)

    blurred = (matrix @ target.flatten(2).transpose(1, 2)).transpose(1, 2)
    assert kernel_fit(target, decoded, transfer).item() == pytest.approx(
        (blurred - decoded.flatten(2)).square().sum().item(), rel=1e-10
    )
    # W = K^T (K K^T + C I)^-1 is the Wiener filter as a matrix: circulant matrices commute
    identity = torch.eye(height * width, dtype=torch.float64)
    wiener = matrix.T @ torch.linalg.inv(matrix @ matrix.T + 0.025 * identity)
    error = (target - decoded).flatten(2).transpose(1, 2)
    assert weighted_squared_error(target - decoded, transfer, 0.025).item() == pytest.approx(
        (wiener @ error).square().sum().item(), rel=1e-10
    )
    dense = 2 * torch.linalg.slogdet(matrix + 0.5 * identity).logabsdet
    assert log_determinant(transfer, 0.5, 2, width).item() == pytest.approx(dense.item(), rel=1e-10)


def test_a_kernel_of_one_pixel_blurs_nothing() -> None:
    kernel = torch.zeros(1, 5, 5, dtype=torch.float64)
    kernel[0, 2, 2] = 1
    error = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    value = weighted_squared_error(error, transfer_function(kernel, 8, 8), 0.1)
    assert torch.allclose(value, error.square().sum((1, 2, 3)) / 1.1**2)


def test_warm_up_is_l2_and_ends_after_its_last_epoch() -> None:
    loss = make(warmup_epochs=3)
    decoded, target, z = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64), torch.randn(2, 8)
    l2 = 0.5 * (decoded - target).square().sum((1, 2, 3))
    assert torch.equal(loss(decoded, target, Context(z=z, epoch=3)), l2)
    assert not torch.allclose(loss(decoded, target, Context(z=z, epoch=4)), l2)
    constant = 0.5 * math.log(2 * math.pi) * 3 * 64 * 64
    assert torch.allclose(loss.log_prob(decoded, target, Context(z=z, epoch=3)), -constant - l2)


def test_the_exact_determinant_is_added_for_each_image() -> None:
    decoded, target, z = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64), torch.randn(2, 8)
    torch.manual_seed(0)
    omitted = make()
    torch.manual_seed(0)
    exact = make(determinant="exact", epsilon=0.3)
    context = Context(z=z)
    transfer = exact.transfer(target, context)
    expected = omitted(decoded, target, context) + log_determinant(transfer, 0.3, 3, 64)
    assert torch.allclose(exact(decoded, target, context), expected)


def test_generated_kernels_are_positive_with_unit_sum_unless_asked_not_to_be() -> None:
    z = torch.randn(5, 8)
    kernels = KernelGenerator(8, 11, 16, "softmax")(z)
    assert kernels.shape == (5, 11, 11)
    assert (kernels > 0).all()
    assert torch.allclose(kernels.sum((1, 2)), torch.ones(5))
    assert (KernelGenerator(8, 11, 16, "none")(z) < 0).any()


def test_g_has_two_linear_layers_with_1000_hidden_nodes() -> None:
    linear = [module for module in make().modules() if isinstance(module, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(8, 1000), (1000, 121)]


def test_equation_12_trains_the_generator_and_nothing_else() -> None:
    """G finds the blur of images that really are blurred copies, starting from noise."""
    torch.manual_seed(0)
    loss = make(kernel_size=5, hidden=32, generator_lr=1e-2)
    auxiliary = loss.auxiliary()
    assert auxiliary is not None
    assert {id(p) for p in auxiliary.parameters} == {id(p) for p in loss.parameters()}
    target = torch.rand(8, 3, 64, 64)
    true = gaussian_kernel(5, 1.0).float()
    transform = torch.fft.rfft2(target) * transfer_function(true[None], 64, 64)
    decoded = torch.fft.irfft2(transform, s=(64, 64)).requires_grad_()
    optimizer = torch.optim.Adam(auxiliary.parameters, lr=auxiliary.learning_rate)
    z = torch.randn(8, 8)
    for _ in range(300):
        value = auxiliary.objective(decoded.detach(), target, Context(z=z)).mean()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert decoded.grad is None
    assert loss.generator is not None
    assert (loss.generator(z) - true).abs().max() < 0.02


@pytest.mark.parametrize("normalize", ["softmax", "none"])
@pytest.mark.parametrize("start", ["flat", "delta", "gaussian"])
def test_g_starts_from_the_wanted_kernel_whatever_z_is(start: str, normalize: str) -> None:
    loss = make(start=start, normalize=normalize, kernel_size=7, variance=1.5)
    assert loss.generator is not None
    middle = torch.zeros(7, 7)
    middle[3, 3] = 1
    wanted = {"flat": torch.full((7, 7), 1 / 49), "delta": middle, "gaussian": gaussian_kernel(7, 1.5).float()}[start]
    kernels = loss.generator(torch.randn(5, 8) * 3)
    assert torch.equal(kernels, kernels[:1].expand_as(kernels))
    assert kernels[0].sum().item() == pytest.approx(1)
    # a softmax has no zeros, and moves a hundredth of the sum evenly over all pixels
    assert (kernels[0] - wanted).abs().max() <= (0.01 if normalize == "softmax" else 1e-6)


@pytest.mark.parametrize("variance", [1e-3, 1e4])
def test_extreme_variances_start_from_finite_layers(variance: float) -> None:
    generator = KernelGenerator(8, 11, 16, "softmax", "gaussian", variance)
    assert all(parameter.isfinite().all() for parameter in generator.parameters())
    assert generator(torch.randn(2, 8)).isfinite().all()


def test_a_random_start_differs_from_image_to_image_and_is_nearly_flat() -> None:
    torch.manual_seed(0)
    kernels = KernelGenerator(128, 11, 1000, "softmax", "random")(torch.randn(4, 128))
    assert (kernels[0] - kernels[1]).abs().max() > 1e-5
    assert kernels.max() < 3 / 121


@pytest.mark.parametrize("start", ["random", "flat", "delta", "gaussian"])
@pytest.mark.parametrize("normalize", ["softmax", "none"])
def test_g_learns_the_blur_of_each_image_from_every_start(start: str, normalize: str) -> None:
    """Two images, blurred differently: no start keeps G from telling them apart by z."""
    torch.manual_seed(0)
    loss = make(kernel_size=5, hidden=64, generator_lr=1e-2, start=start, normalize=normalize)
    auxiliary = loss.auxiliary()
    assert auxiliary is not None
    assert loss.generator is not None
    target, z = torch.rand(2, 1, 16, 16), torch.randn(2, 8)
    true = torch.stack([gaussian_kernel(5, 0.3), gaussian_kernel(5, 1.5)]).float()
    decoded = torch.fft.irfft2(torch.fft.rfft2(target) * transfer_function(true, 16, 16), s=(16, 16))
    optimizer = torch.optim.Adam(auxiliary.parameters, lr=auxiliary.learning_rate)
    for _ in range(300):
        value = auxiliary.objective(decoded, target, Context(z=z)).mean()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert (loss.generator(z) - true).abs().max() < 0.15  # the two differ by 0.6 in their centres


def test_by_default_no_gradient_reaches_the_encoder_through_the_kernel() -> None:
    assert ENTRY.complete({})["latent_gradient"] is False
    assert make().latent(Context(z=torch.randn(2, 8, requires_grad=True))).requires_grad is False


@pytest.mark.parametrize("latent_gradient", [True, False])
def test_the_determinant_trains_the_encoder_only_through_the_kernel(latent_gradient: bool) -> None:
    """So the paper's row with a small epsilon needs the gradient through G(z)."""
    gradients = []
    decoded, target, latent = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64), torch.randn(2, 8)
    for determinant in ("omitted", "exact"):
        torch.manual_seed(0)
        loss = make(determinant=determinant, epsilon=0.01, latent_gradient=latent_gradient)
        z, image = latent.clone().requires_grad_(), decoded.clone().requires_grad_()
        loss(image + 0 * z.sum(), target, Context(z=z)).sum().backward()
        assert z.grad is not None
        assert image.grad is not None
        gradients.append((image.grad, z.grad))
    (image, z), (with_determinant, z_with_determinant) = gradients
    assert torch.equal(image, with_determinant)
    assert torch.equal(z, z_with_determinant) is not latent_gradient


def test_the_latent_gradient_is_a_choice() -> None:
    decoded, target = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64)
    for wanted in (True, False):
        z = torch.randn(2, 8, requires_grad=True)
        make(latent_gradient=wanted)(decoded.requires_grad_(), target, Context(z=z)).sum().backward()
        assert (z.grad is not None) is wanted


@pytest.mark.parametrize("params", [{}, {"kernel": "gaussian"}, {"determinant": "exact"}])
def test_gradients_are_right_and_finite_at_identity_and_on_constant_images(params: dict[str, Any]) -> None:
    torch.manual_seed(0)
    loss = Wiener(
        Setting(ImageShape(2, 6, 6), latent_size=3),
        **ENTRY.complete({"warmup_epochs": 0, "kernel_size": 3, "hidden": 4, "latent_gradient": True, **params}),
    ).double()
    target = torch.rand(2, 2, 6, 6, dtype=torch.float64)
    z = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    decoded = torch.rand(2, 2, 6, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda d, z: loss(d, target, Context(z=z)), (decoded, z))
    for same in (target, torch.full_like(target, 0.5), torch.zeros_like(target), torch.ones_like(target)):
        decoded = same.clone().requires_grad_()
        value = loss(decoded, same, Context(z=z))
        value.sum().backward()
        assert decoded.grad is not None
        assert decoded.grad.abs().max() < 1e-12  # the minimum over decoded images is at identity
        assert value.isfinite().all()


@pytest.mark.parametrize(("height", "width"), [(3, 4), (4, 3)])
@pytest.mark.parametrize("one_for_all", [False, True])
def test_closed_gradients_are_right_once_and_twice(height: int, width: int, one_for_all: bool) -> None:
    """With respect to images and to kernels, of one kernel for each image and of one for all."""
    generator = torch.Generator().manual_seed(2)
    target, decoded = torch.rand(2, 2, 2, height, width, generator=generator, dtype=torch.float64).requires_grad_()
    kernel = torch.rand(1 if one_for_all else 2, 3, 3, generator=generator, dtype=torch.float64, requires_grad=True)

    def squared(decoded: Tensor, kernel: Tensor) -> Tensor:
        return weighted_squared_error(target.detach() - decoded, transfer_function(kernel, height, width), 0.1)

    def fit(target: Tensor, decoded: Tensor, kernel: Tensor) -> Tensor:
        return kernel_fit(target, decoded, transfer_function(kernel, height, width))

    def fit_of_kernel_alone(kernel: Tensor) -> Tensor:
        return fit(target.detach(), decoded.detach(), kernel)

    for function, inputs in (
        (squared, (decoded, kernel)),
        (fit, (target, decoded, kernel)),
        (fit_of_kernel_alone, (kernel,)),
    ):
        assert torch.autograd.gradcheck(function, inputs)
        assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


def test_estimated_kernels_are_traced_in_the_warm_up_too() -> None:
    loss = make(warmup_epochs=3)
    images, z = torch.rand(2, 3, 64, 64), torch.randn(2, 8)
    trace = loss.trace(images, images, Context(z=z, epoch=1))
    assert loss.generator is not None
    assert torch.equal(trace["kernels"], loss.generator(z))
    assert trace["kernels"].shape == (2, 11, 11)
    assert not make(kernel="gaussian").trace(images, images, Context())
    with pytest.raises(ValueError, match="latent z"):
        loss.trace(images, images, Context())


def test_without_z_a_generated_kernel_is_refused() -> None:
    images = torch.rand(1, 3, 64, 64)
    with pytest.raises(ValueError, match="kernel=gaussian"):
        make()(images, images, Context())


@pytest.mark.parametrize(
    ("shape", "params", "reason"),
    [
        (ImageShape(3, 8, 8), {}, "kernel_size of at most"),
        (ImageShape(3, 64, 64), {"kernel_size": 10}, "odd"),
    ],
)
def test_kernels_that_do_not_fit_are_refused_before_anything_runs(
    shape: ImageShape, params: dict[str, Any], reason: str
) -> None:
    refusals = ENTRY.refusals(shape, ENTRY.complete(params))
    assert len(refusals) == 1
    assert reason in refusals[0]
