"""Losses that compare pixel by pixel."""

from __future__ import annotations

from collections.abc import Iterator

from recbench import LossEntry, Parameter, Tunable, hookimpl

_SUM = "A sum over pixels and channels, of images in 0 to 1: it grows with the image, and its KL weight need not."


@hookimpl
def recbench_losses() -> Iterator[LossEntry]:
    yield LossEntry(
        name="l2",
        factory="recbench_losses_pixel.losses:L2",
        summary="half the sum of squared differences: Gaussian likelihood with unit variance",
        citation="Kingma & Welling, Auto-Encoding Variational Bayes, ICLR 2014, appendix C.2",
        notes=_SUM,
    )
    yield LossEntry(
        name="l1",
        factory="recbench_losses_pixel.losses:L1",
        summary="sum of absolute differences: Laplace likelihood with unit scale",
        citation="Boyd & Vandenberghe, Convex Optimization, Cambridge University Press 2004, section 7.1.1",
        notes=_SUM,
    )
    yield LossEntry(
        name="ce",
        factory="recbench_losses_pixel.losses:CE",
        summary="cross-entropy of pixels in 0 to 1: Bernoulli likelihood",
        citation="Kingma & Welling, Auto-Encoding Variational Bayes, ICLR 2014, appendix C.1",
        notes=(
            "Computed by torch.nn.functional.binary_cross_entropy, which bounds each logarithm at -100, so that a "
            "decoded pixel of exactly 0 or 1 costs at most 100 nats. At decoded = target the value is the entropy of "
            "the target's pixels, not zero."
        ),
    )
    yield LossEntry(
        name="charbonnier",
        factory="recbench_losses_pixel.losses:Charbonnier",
        summary="sum of sqrt(difference² + epsilon²) - epsilon: L1 that is smooth at zero",
        parameters=(
            Parameter(
                "epsilon",
                float,
                1e-3,
                "width of the smooth part, in the 0 to 1 range",
                above=0,
                tunable=Tunable(1e-4, 0.1, log=True),
            ),
        ),
        citation=(
            "Charbonnier et al., Two deterministic half-quadratic regularization algorithms for computed imaging, "
            "ICIP 1994"
        ),
        notes=_SUM,
    )
