"""Losses that are likelihoods with more structure than independent pixels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from recbench import ImageShape, LossEntry, Parameter, hookimpl


def _kernel_fits(shape: ImageShape, params: Mapping[str, Any]) -> Iterable[str]:
    size = params["kernel_size"]
    if size % 2 == 0:
        yield f"needs an odd kernel_size, to have a centre, not {size}"
    if size > min(shape.height, shape.width):
        yield f"needs a kernel_size of at most the image's side, not {size}"


@hookimpl
def recbench_losses() -> Iterator[LossEntry]:
    yield LossEntry(
        name="wiener",
        factory="recbench_losses_likelihood.wiener:Wiener",
        summary="Gaussian likelihood whose covariance is the blur that the model makes (Wiener deconvolution)",
        parameters=(
            Parameter(
                "kernel",
                str,
                "generator",
                "where the blur kernel k comes from: estimated from z by a network G (eq. 10), or a fixed Gaussian",
                choices=("generator", "gaussian"),
            ),
            Parameter("variance", float, 2.0, "of the fixed Gaussian kernel, in squared pixels", above=0),
            Parameter(
                "kernel_size", int, 11, "side of k in pixels, odd; the paper: 11 for 64 px, 41 for 256", minimum=1
            ),
            Parameter("C", float, 0.025, "constant of the Wiener filter (eq. 7)", above=0),
            Parameter(
                "determinant",
                str,
                "omitted",
                "log|K + epsilon I| of eq. 11: omitted, as for large epsilon, or exact",
                choices=("omitted", "exact"),
            ),
            Parameter("epsilon", float, 0.5, "epsilon of K + epsilon I, for the determinant and log_prob", above=0),
            Parameter("warmup_epochs", int, 10, "epochs with Sigma = I, while G learns; HCP: 20", minimum=0),
            Parameter(
                "normalise",
                str,
                "softmax",
                "how G's output becomes a kernel: softmax (positive, unit sum) or none",
                choices=("softmax", "none"),
            ),
            Parameter("hidden", int, 1000, "hidden nodes of G", minimum=1),
            Parameter("generator_lr", float, 1e-4, "learning rate of G's own optimiser", above=0),
            Parameter("latent_gradient", bool, True, "whether the gradient of eq. 11 reaches the encoder through G(z)"),
        ),
        check=_kernel_fits,
        family="wiener",
        citation=(
            "Bredell et al., Explicitly Minimizing the Blur Error of Variational Autoencoders, ICLR 2023, "
            "equations 7-12 and section 4.2"
        ),
        notes=(
            "The paper leaves open how k gets unit sum (section 3.1 assumes it): a softmax over G's output is our "
            "reading, 'normalise: none' takes the output as it is. Equation 11 is printed as a maximum, with the "
            "signs of a minimum; equation 3 decides. One kernel serves all channels. All convolutions are circular. "
            "During the warm-up the loss equals l2."
        ),
    )
