"""Autoencoders of the papers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import hypot
from typing import Any

from recbench import ArchitectureEntry, ImageShape, Parameter, Requirements, hookimpl
from recbench.contracts.entries import ShapeCheck
from recbench_architectures.layout import block_widths


def _halves_evenly(shape: ImageShape, params: Mapping[str, Any]) -> Iterable[str]:
    """For networks that halve their input in every block: ``widths``, and ``blocks`` where they have it."""
    networks = [params[name] for name in ("widths", "mapping_widths") if name in params]
    halvings = max(len(block_widths(widths, params.get("blocks", len(widths)), shape)) for widths in networks)
    factor = 2**halvings
    if shape.height % factor or shape.width % factor:
        yield f"halves its input {halvings} times: sides must be multiples of {factor}"


def _halves_and_filters(shape: ImageShape, params: Mapping[str, Any]) -> Iterable[str]:
    yield from _halves_evenly(shape, params)
    corner = hypot(shape.height // 2, shape.width // 2)
    if params["cutoff"] >= corner:
        yield f"its high-pass filter would leave nothing: the spectrum's corner is {corner:.1f} pixels from the origin"


def _widths(name: str, default: list[int], doc: str) -> Parameter:
    return Parameter(name, list[int], default, doc, minimum=1, maximum=4096)


def _latent_size(doc: str = "entries of z") -> Parameter:
    return Parameter("latent_size", int, 256, doc, minimum=1, maximum=65536)


def _hidden(default: int) -> Parameter:
    return Parameter("hidden", int, default, "hidden nodes of the perceptrons around z", minimum=1, maximum=65536)


_BLOCKS = Parameter(
    "blocks",
    int,
    0,
    "how many blocks, of which later ones repeat the last width; 0: one for each width, and above 64 pixels as many as "
    "leave a code of at least 4x4 (128 pixels: five, 256: six)",
    minimum=0,
    maximum=8,
)

_DECODER_WIDTHS = Parameter(
    "decoder_widths",
    str,
    "outputs",
    "whether the reversed widths are the decoder blocks' outputs, or their inputs (cheaper)",
    choices=("outputs", "inputs"),
)


def _kl_f(halvings: int) -> ShapeCheck:
    """Return the check of a network that halves its input so many times."""

    def check(shape: ImageShape, params: Mapping[str, Any]) -> Iterable[str]:
        if len(params["multipliers"]) != halvings + 1:
            yield f"halves its input {halvings} times: it takes {halvings + 1} multipliers, not {params['multipliers']}"
        yield from _divides(shape, halvings)

    return check


def _halves(shape: ImageShape, params: Mapping[str, Any]) -> Iterable[str]:
    yield from _divides(shape, params["halvings"])


def _divides(shape: ImageShape, halvings: int) -> Iterable[str]:
    factor = 2**halvings
    if shape.height % factor or shape.width % factor:
        yield f"halves its input {halvings} times: sides must be multiples of {factor}"


def _kl_f_parameters(multipliers: list[int], latent_channels: int) -> tuple[Parameter, ...]:
    return (
        Parameter("channels", int, 128, "channels of the first convolution", minimum=4, maximum=1024),
        Parameter(
            "multipliers",
            list[int],
            multipliers,
            "channels at each resolution, from the image's to the lowest, in multiples of 'channels'",
            minimum=1,
            maximum=16,
        ),
        Parameter(
            "blocks", int, 2, "residual blocks at each resolution; the decoder has one more", minimum=1, maximum=8
        ),
        Parameter("latent_channels", int, latent_channels, "channels of z", minimum=1, maximum=64),
    )


_KL_F = "Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models, CVPR 2022, appendix"
_KL_F_NOTES = (
    "Layers are those of the authors' configuration {name}, and with default sizes parameters are as many. z is a map "
    "with a Gaussian at each position; log-variances are clamped to -30 to 20, as theirs. Without an activation at the "
    "end, images may leave -1 to 1. Below 128 channels, group norms have fewer than 32 groups, so that four channels "
    "share one. For processors: {{channels: 32, multipliers: {small}, blocks: 1}}. The authors train with L1, LPIPS "
    "and a discriminator, and a KL weight of 1e-6."
)

_BREDELL = "Bredell et al., Explicitly Minimizing the Blur Error of Variational Autoencoders, ICLR 2023, appendix A"
_KIM_JO = "Kim and Jo, Two Proposed Solutions for Mitigating Blurred Output of Autoencoder"
_SIZES = Requirements(minimum_size=16, maximum_size=256)


_MAP_SIZES = Requirements(minimum_size=16, maximum_size=1024)

MOST_DIMENSIONS = 16384
"""Largest number of values of an image for pca: its covariance in float64 takes 2 GiB then."""


def _has_components(shape: ImageShape, params: Mapping[str, Any]) -> Iterable[str]:
    values = shape.channels * shape.height * shape.width
    if params["latent_size"] > values:
        yield f"has at most as many components as an image has values, {values}, not {params['latent_size']}"
    if values > MOST_DIMENSIONS:
        yield (
            f"computes the whole covariance of images, which takes {8 * values**2 / 2**30:.0f} GiB for {values} values "
            f"an image: at most {MOST_DIMENSIONS} are accepted (3 x 73 x 73)"
        )


def _has_pixels(shape: ImageShape, params: Mapping[str, Any]) -> Iterable[str]:
    if params["latent_size"] < shape.channels:
        yield f"needs a latent_size of at least one pixel, {shape.channels} values, not {params['latent_size']}"


@hookimpl
def recbench_architectures() -> Iterator[ArchitectureEntry]:
    yield ArchitectureEntry(
        name="vae_bredell",
        factory="recbench_architectures.bredell:VAEBredell",
        summary="convolutional VAE with stride-2 blocks and two-layer perceptrons around the latent",
        parameters=(
            _widths("widths", [64, 128, 256, 512], "channels of the encoder's blocks"),
            _BLOCKS,
            _latent_size(),
            _hidden(1024),
            _DECODER_WIDTHS,
        ),
        requirements=_SIZES,
        check=_halves_evenly,
        citation=f"{_BREDELL}, first architecture",
        notes=(
            "Four blocks up to 64 pixels and six at 256, as published; five at 128 are ours. The paper gives the "
            "latent's size, 256, but neither the perceptrons' hidden size (ours: 1024), nor the widths of blocks five "
            "and six (ours: the last one repeated), nor the slope of the Leaky-ReLUs (ours: 0.01, torch's default). "
            "It says that vae_czolbe has a factor of three more parameters: that is so with 'hidden: 2048' (3.1 at 64 "
            "pixels), and 5.2 with ours."
        ),
    )
    yield ArchitectureEntry(
        name="vae_bredell_small",
        factory="recbench_architectures.bredell:VAEBredellSmall",
        summary="convolutional VAE with stride-2 blocks, bilinear upsampling and one linear layer either side of z",
        parameters=(
            _widths("widths", [32, 64, 128, 256, 512], "channels of the encoder's blocks"),
            _latent_size(),
            _DECODER_WIDTHS,
        ),
        requirements=_SIZES,
        check=_halves_evenly,
        citation=f"{_BREDELL}, second architecture (Table 4)",
        notes=(
            "The paper uses it for 64 pixels, and leaves open its latent's size (ours: 256, as of the first), the "
            "slope of the Leaky-ReLUs (0.01) and how upsampling treats borders (ours: corners not aligned, torch's "
            "default). There is no activation between the decoder's linear layer and its first block."
        ),
    )
    yield ArchitectureEntry(
        name="vae_czolbe",
        factory="recbench_architectures.czolbe:VAECzolbe",
        summary="convolutional VAE with max pooling, a wide perceptron around the latent and bilinear upsampling",
        parameters=(
            _widths("widths", [64, 128], "channels of the encoder's stages, each of which halves the image"),
            _latent_size(),
            _hidden(2048),
        ),
        requirements=_SIZES,
        check=_halves_evenly,
        value_range=(0.0, 1.0),
        citation=(
            "Czolbe et al., A Loss Function for Generative Neural Networks Based on Watson's Perceptual Model, NeurIPS "
            "2020, CelebA model"
        ),
        notes=(
            "As in the authors' code, which differs from what it seems to intend in one point: it adds two batch norms "
            "of the decoder to the list of the encoder's layers, too late to be part of either; here, too, the decoder "
            "has none. It was made for 64 pixels: its perceptron keeps a quarter of each side, which takes 136 million "
            "parameters there and 2150 million at 256."
        ),
    )
    yield ArchitectureEntry(
        name="standard_ae",
        factory="recbench_architectures.kim_jo:StandardAE",
        has_kl=False,
        summary="deterministic convolutional autoencoder; the KL term is zero",
        parameters=(
            _widths("widths", [64, 128, 256, 512], "channels of the encoder's blocks; the decoder mirrors them"),
            _BLOCKS,
            _latent_size("entries of the latent vector"),
        ),
        requirements=_SIZES,
        check=_halves_evenly,
        citation=f"{_KIM_JO}, figure 7",
        notes=(
            "The paper says 'deep convolutional autoencoder' for 256 pixels, and no sizes in its text. Ours: blocks "
            "and widths of vae_bredell, one linear layer either side of a latent vector of 256, tanh."
        ),
    )
    yield ArchitectureEntry(
        name="freq_latent_ae",
        factory="recbench_architectures.kim_jo:FreqLatentAE",
        has_kl=False,
        summary="standard_ae, to whose latent vector a code of the phase spectrum and high-passed image is added",
        parameters=(
            _widths("widths", [64, 128, 256, 512], "channels of the encoder's blocks; the decoder mirrors them"),
            _widths("mapping_widths", [64, 128, 256, 512], "channels of the information-mapping network's blocks"),
            _BLOCKS,
            _latent_size("entries of the latent vector"),
            Parameter(
                "cutoff",
                float,
                20.0,
                "radius f_c of the ideal high-pass filter, in pixels of the centred spectrum (cycles per image)",
                minimum=0,
            ),
        ),
        requirements=_SIZES,
        check=_halves_and_filters,
        citation=f"{_KIM_JO}, section III.A and figure 6",
        notes=(
            "The paper gives the cut-off, 20 pixels for images of 256. It is not scaled with the image: 5 is the same "
            "frequency in cycles per pixel at 64 pixels. Ours are the sizes (as of standard_ae) and the "
            "information-mapping network (built like the encoder, of its own weights). Phase and high-passed image are "
            "taken of each channel, the phase centred and divided by pi, both stacked as 2C channels, in float32 also "
            "under bf16. The filter removes the radius f_c itself, and with it always the mean."
        ),
    )
    yield ArchitectureEntry(
        name="kl_f4",
        factory="recbench_architectures.kl_f:KLF",
        summary="autoencoder of latent diffusion: residual blocks, attention, z of a quarter of the sides",
        parameters=_kl_f_parameters([1, 2, 4], 3),
        requirements=_MAP_SIZES,
        check=_kl_f(2),
        citation=f"{_KL_F} E",
        notes=_KL_F_NOTES.format(name="autoencoder_kl_64x64x3", small="[1, 2, 2]"),
    )
    yield ArchitectureEntry(
        name="kl_f8",
        factory="recbench_architectures.kl_f:KLF",
        summary="autoencoder of latent diffusion: residual blocks, attention, z of an eighth of the sides",
        parameters=_kl_f_parameters([1, 2, 4, 4], 4),
        requirements=_MAP_SIZES,
        check=_kl_f(3),
        citation=f"{_KL_F} E",
        notes=_KL_F_NOTES.format(name="autoencoder_kl_32x32x4", small="[1, 2, 2, 2]"),
    )
    yield ArchitectureEntry(
        name="vq",
        factory="recbench_architectures.vq:VQ",
        summary="vector-quantized autoencoder: each position of z is the nearest of some codes",
        parameters=(
            Parameter("width", int, 256, "channels of all layers", minimum=1, maximum=4096),
            Parameter("halvings", int, 2, "convolutions of stride 2", minimum=1, maximum=6),
            Parameter("blocks", int, 2, "residual blocks of the encoder, and of the decoder", minimum=0, maximum=16),
            Parameter("codes", int, 512, "number of codes, K", minimum=2, maximum=65536),
            Parameter("dim", int, 64, "entries of a code, D", minimum=1, maximum=4096),
            Parameter("beta", float, 0.25, "weight of the commitment", minimum=0),
            Parameter(
                "decay", float, 0.99, "gamma, by which the codes' moving averages forget", above=0, maximum=0.999999
            ),
        ),
        has_prior=False,
        has_kl=False,
        requirements=_MAP_SIZES,
        check=_halves,
        citation="van den Oord, Vinyals and Kavukcuoglu, Neural Discrete Representation Learning, NeurIPS 2017",
        notes=(
            "Layers of section 4.1, codes by moving averages (appendix A.1). The commitment is a sum over positions "
            "and entries, as reconstruction losses are sums over pixels; no KL weight multiplies it, and the KL weight "
            "of a suite has no effect. There is no KL divergence and no prior: no kl, no bits_per_dim, no metrics of "
            "samples. history.jsonl has the usage and perplexity of the codes in each epoch. Not in the paper: the "
            "entries of a code (ours: 64), how codes begin (uniform, of variance 1/D), and the 1e-5 that is added to "
            "the count of each code, both as in the authors' code. Its networks have 8 x 8 codes for 32 pixels, and 32 "
            "x 32 for 128."
        ),
    )
    yield ArchitectureEntry(
        name="pca",
        factory="recbench_architectures.baselines:PCA",
        has_kl=False,
        summary="principal components, fitted exactly and without training: the best linear autoencoder by MSE",
        parameters=(_latent_size("components"),),
        trainable=False,
        check=_has_components,
        citation="Pearson, On Lines and Planes of Closest Fit to Systems of Points in Space, 1901",
        notes=(
            "A baseline (key baselines of suites). The mean, the covariance (float64, in batches) and its largest "
            "eigenpairs: LAPACK up to 4,096 values an image, ARPACK to machine precision above, at most 16,384 (64 "
            "pixels in colour have 12,288: 1.2 GB and some minutes). z is scaled to unit variance, so that samples "
            "from the prior are draws from a Gaussian with the images' mean and their variances along the components."
        ),
    )
    yield ArchitectureEntry(
        name="downsample",
        factory="recbench_architectures.baselines:Downsample",
        has_kl=False,
        summary="a smaller image of at most latent_size values, enlarged again by bicubic interpolation",
        parameters=(_latent_size("values of the smaller image, at most"),),
        trainable=False,
        check=_has_pixels,
        notes="A baseline (key baselines of suites). Of 32 pixels in colour and 128 values, 6 x 6 pixels are kept.",
    )
