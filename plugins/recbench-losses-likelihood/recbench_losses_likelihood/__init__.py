"""Losses that are likelihoods with more structure than independent pixels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from recbench import ImageShape, LossEntry, Parameter, Tunable, hookimpl


def _kernel_fits(shape: ImageShape, params: Mapping[str, Any]) -> Iterable[str]:
    size = params["kernel_size"]
    if size % 2 == 0:
        yield f"needs an odd kernel_size, to have a centre, not {size}"
    if size > min(shape.height, shape.width):
        yield f"needs a kernel_size of at most the image's shorter side, {min(shape.height, shape.width)}, not {size}"


def _barron_fits(shape: ImageShape, params: Mapping[str, Any]) -> Iterable[str]:
    low, high, first = (params[f"alpha_{name}"] for name in ("lo", "hi", "init"))
    if low > high:
        yield f"needs alpha_lo of at most alpha_hi, not {low:g} and {high:g}"
    elif low < high and not low < first < high:
        yield f"needs an alpha_init between alpha_lo and alpha_hi, {low:g} and {high:g}, not {first:g}"
    if params["scale_init"] < params["scale_lo"]:
        yield f"needs a scale_init of at least scale_lo, {params['scale_lo']:g}, not {params['scale_init']:g}"
    side = min(shape.height, shape.width)
    most = (side - 1).bit_length()  # each level halves the side, and needs two pixels
    if params["representation"] == "wavelet" and params["levels"] > most:
        yield f"takes at most {most} levels of wavelets for images of {side} pixels, not {params['levels']}"


@hookimpl
def recbench_losses() -> Iterator[LossEntry]:
    yield LossEntry(
        name="sigma_gaussian",
        factory="recbench_losses_likelihood.losses:SigmaGaussian",
        summary="Gaussian likelihood with the optimal variance, shared by all pixels (optimal sigma-VAE)",
        parameters=(
            Parameter("log_sigma_min", float, -6.0, "soft lower bound of log sigma, images in 0 to 1", maximum=0),
        ),
        couples_batch=True,
        family="pixel",
        citation=(
            "Rybkin, Daniilidis, Levine, Simple and Effective VAE Training with Calibrated Decoders, ICML 2021, "
            "section 3.2; the bound: the authors' code"
        ),
        notes=(
            "Negative log-density in nats per image with all constants, so it can be negative; a kl_weight of 1 is the "
            "evidence lower bound. In training, sigma is the root mean square error over the whole batch, with its "
            "gradient: an image's value depends on its batch. In evaluation it is the running mean of the training "
            "batches (decay 0.99, unbiased), saved with the model. For two given images it is their own. The bound is "
            "in units of the image range: the authors' -6 on 0 to 1 is less than a grey level of 8 bits."
        ),
    )
    yield LossEntry(
        name="barron",
        factory="recbench_losses_likelihood.losses:Barron",
        summary="robust likelihood between Cauchy and normal, with shapes and scales learned during training",
        parameters=(
            Parameter(
                "representation",
                str,
                "wavelet",
                "what each shape and scale belongs to: RGB pixels, or coefficients in YUV of the DCT or of wavelets "
                "(CDF 9/7)",
                choices=("pixel", "dct", "wavelet"),
            ),
            Parameter("levels", int, 5, "levels of the wavelet pyramid", minimum=1),
            Parameter("alpha_lo", float, 0.0, "lowest shape; equal to alpha_hi: fixed", minimum=0, maximum=4),
            Parameter("alpha_hi", float, 3.0, "highest shape", minimum=0, maximum=4),
            Parameter("alpha_init", float, 1.0, "shape at the start; without meaning where the shape is fixed"),
            Parameter("scale_lo", float, 1e-8, "lowest scale; equal to scale_init: fixed", above=0),
            Parameter("scale_init", float, 0.01, "scale at the start, images in 0 to 1", above=0),
        ),
        check=_barron_fits,
        family="pixel",
        citation=("Barron, A General and Adaptive Robust Loss Function, CVPR 2019, equations 1 and 16 and section 3.1"),
        notes=(
            "Negative log-density of the pixels in nats per image with all constants, so it can be negative; a "
            "kl_weight of 1 is the evidence lower bound. One shape and one scale for each coefficient, trained with "
            "the model's optimizer. The defaults are those of the author's script for the paper's VAE experiment; his "
            "library's are alpha_lo 0.001, alpha_hi 1.999, scale_lo 1e-5 and scale_init 1. The paper's Cauchy rows are "
            "alpha_lo = alpha_hi = 0, its normal ones 2. YUV has determinant 1 and the DCT is orthonormal; wavelets of "
            "odd sizes have another determinant, which his code leaves out and this one counts. Images that have not "
            "three channels stay in their own colours. His wavelet_scale_base is 1 here, as a density needs, and his "
            "Student's t-distribution is left out."
        ),
    )
    yield LossEntry(
        name="wiener",
        factory="recbench_losses_likelihood.losses:Wiener",
        summary="Gaussian likelihood whose covariance is the blur that the model makes (Wiener deconvolution)",
        parameters=(
            Parameter(
                "kernel",
                str,
                "generator",
                "where the blur kernel k comes from: estimated from z by a network G (eq. 10), or a fixed Gaussian",
                choices=("generator", "gaussian"),
            ),
            Parameter(
                "variance", float, 2.0, "of the Gaussian kernel, fixed or at the start, in squared pixels", above=0
            ),
            Parameter(
                "kernel_size", int, 11, "side of k in pixels, odd; the paper: 11 for 64 px, 41 for 256", minimum=1
            ),
            Parameter(
                "C",
                float,
                0.025,
                "constant of the Wiener filter (eq. 7)",
                above=0,
                tunable=Tunable(0.001, 0.25, log=True),
            ),
            Parameter(
                "determinant",
                str,
                "omitted",
                "log|K + epsilon I| of eq. 11: omitted, as for large epsilon, or exact",
                choices=("omitted", "exact"),
            ),
            Parameter("epsilon", float, 0.5, "epsilon of K + epsilon I, for the determinant and log_prob", above=0),
            Parameter(
                "warmup_epochs",
                int,
                10,
                "epochs with Sigma = I, while G learns; HCP: 20; fewer in short trainings",
                minimum=0,
            ),
            Parameter(
                "normalize",
                str,
                "softmax",
                "how G's output becomes a kernel: softmax (positive, unit sum) or none",
                choices=("softmax", "none"),
            ),
            Parameter(
                "start",
                str,
                "random",
                "what G makes of z before its first step: what random layers give (with softmax nearly flat kernels), "
                "or one kernel for all z: flat, delta (one pixel) or gaussian",
                choices=("random", "flat", "delta", "gaussian"),
            ),
            Parameter("hidden", int, 1000, "hidden nodes of G", minimum=1),
            Parameter("generator_lr", float, 1e-4, "learning rate of G's own optimizer", above=0),
            Parameter(
                "latent_gradient", bool, False, "whether the gradient of eq. 11 reaches the encoder through G(z)"
            ),
        ),
        check=_kernel_fits,
        family="wiener",
        citation=(
            "Bredell et al., Explicitly Minimizing the Blur Error of Variational Autoencoders, ICLR 2023, "
            "equations 7-12 and section 4.2"
        ),
        notes=(
            "The paper leaves open how k gets unit sum (section 3.1 assumes it): a softmax over G's output is our "
            "reading, 'normalize: none' takes the output as it is. Equation 11 is printed as a maximum, with the "
            "signs of a minimum; equation 3 decides. G's activation (LeakyReLU, as in the encoder) and learning rate "
            "(the model's) are our reading, too. So is that no gradient of equation 11 reaches the encoder through "
            "G(z): with 'latent_gradient: true' the encoder learns z at which the kernel hides the error, and KL "
            "explodes (docs/wiener.md). Cut from z, nothing that is trained feels the determinant, and 'determinant: "
            "exact' changes values but no training. One kernel serves all channels. All convolutions are circular. A "
            "squared error weighs about as in l2 where k blurs nothing, and up to 1 / (4 C) times that. During the "
            "warm-up the loss equals l2, with a fixed kernel too. log_prob takes log|Sigma| / 2 = log|K + epsilon I|; "
            "the paper's table 6 has epsilon 0.5, and its table 1 a small epsilon without a number."
        ),
    )
