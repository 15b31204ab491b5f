"""Perceptual losses and metrics: distances between the features of a pretrained network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import inf
from typing import Any

from recbench import ImageShape, LossEntry, MetricEntry, Parameter, Requirements, Tunable, Weights, hookimpl
from recbench_losses_perceptual.pretrained import CZOLBE, DISTS, IMAGENET, LPIPS, SHIFT_TOLERANT

_CHANNELS = (1, 3)
_SMALLEST = {"vgg": 16, "alex": 31, "squeeze": 17}
_SMALLEST_SHIFT_TOLERANT = {"vgg": 18, "alex": 21}

_ZHANG = "Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, CVPR 2018, equation 1"
_GHILDYAL = "Ghildyal & Liu, Shift-tolerant Perceptual Similarity Metric, ECCV 2022"
_DING = (
    "Ding et al., Image Quality Assessment: Unifying Structure and Texture Similarity, TPAMI 2022 (arXiv:2004.07728)"
)
_GREY = "Grey images are repeated to three channels."
_SCALE = "A mean over pixels, below about 1 whatever the images' size: KL weights are far smaller than those of l2."
_DISTS_NOTE = (
    "Equal to the authors' package dists-pytorch, whose wheel the learned weights are taken from. Statistics are those "
    "of whole images, so that textures need not agree pixel by pixel. The authors advise to bring larger images to a "
    "shorter side of 256 pixels before, which is not done here."
)
_PRECISION_NOTE = (
    "'precision: bf16' runs all convolutions but those of the first block in bfloat16. Measured with the "
    "shift-tolerant VGG on 64x64 photographs with blur and noise, it turns the gradient by 1.4 to 2.9 degrees and "
    "moves the value by up to 0.3% (with the first block in bfloat16 too: 4.1 to 7.8 degrees); with a VGG of random "
    "weights it is 13 to 27 degrees. So float32 is the default. bf16 pays on GPUs and on processors with AMX or "
    "avx512_bf16; on others it is many times slower than float32."
)

_ESSER = (
    "Esser, Rombach & Ommer, Taming Transformers for High-Resolution Image Synthesis, CVPR 2021, equations 5 to 7; "
    "discriminator: Isola et al., Image-to-Image Translation with Conditional Adversarial Networks, CVPR 2017"
)
_VQGAN_NOTE = (
    "As in the authors' code: means over pixels, hinge loss, weight from the gradients at the decoder's last layer, "
    "clamped to 0 to 1e4, and no adversarial term in validation. disc_start is that of their configuration for one's "
    "own images; they wait 250,001 steps on ImageNet, and find that waiting longer gives better reconstructions. A job "
    "with fewer steps never meets the discriminator. Their learning rate is the model's, 4.5e-6 for each image of the "
    "batch, and their model's Adam has the betas 0.5 and 0.9 too (keys beta1 and beta2 of training). Latent diffusion "
    "(Rombach et al. 2022) sums over pixels instead: their KL weight of 1e-6 is one of 1e-6 / (C H W) here, and their "
    "disc_weight 0.5. For 32 pixels take disc_layers: 1 or 2; with 3 a logit sees more than the image. Batch norm "
    "takes the statistics of the batch, always. history.jsonl has the terms, the adaptive weight, and the loss and "
    "logits of the discriminator. 'perceptual: st_lpips' has its weights on PyPI."
)

_PRECISION = Parameter(
    "precision", str, "float32", "of the network after its first block; see below", choices=("float32", "bf16")
)
_LINEAR = Parameter("linear", bool, True, "whether learned weights weigh the channels; otherwise all weigh 1")
_LPIPS_NET = Parameter(
    "net",
    str,
    "alex",
    "network of the features; its authors advise alex for judging images and vgg for optimizing them",
    choices=("alex", "vgg", "squeeze"),
)
_IMPLEMENTATION = Parameter(
    "implementation",
    str,
    "fast",
    "fast: recbench's own; reference: the package lpips, equal to rounding, whose gradient is NaN where all features "
    "of a pixel are zero",
    choices=("fast", "reference"),
)
_ST_NET = Parameter("net", str, "alex", "network of the features", choices=("alex", "vgg"))


def _needed_by_vgg(shape: ImageShape, params: Mapping[str, Any]) -> Iterable[Weights]:
    if params["trunk"] == "st":
        return (SHIFT_TOLERANT["vgg"],)
    return (IMAGENET["vgg"], CZOLBE[shape.channels])


def _needed_by_lpips(shape: ImageShape, params: Mapping[str, Any]) -> Iterable[Weights]:
    net = params["net"]
    return (IMAGENET[net], LPIPS[net]) if params["linear"] else (IMAGENET[net],)


def _needed_by_st_lpips(shape: ImageShape, params: Mapping[str, Any]) -> Iterable[Weights]:
    return (SHIFT_TOLERANT[params["net"]],)


def _needed_by_dists(shape: ImageShape, params: Mapping[str, Any]) -> Iterable[Weights]:
    return (IMAGENET["vgg"], DISTS["vgg"])


def _too_small(shape: ImageShape, smallest: int, what: str) -> Iterator[str]:
    if min(shape.height, shape.width) < smallest:
        yield f"needs at least {smallest} pixels a side with {what}, not {shape.height}x{shape.width}"


def _vgg_fits(shape: ImageShape, params: Mapping[str, Any]) -> Iterable[str]:
    if params["trunk"] == "st":
        return _too_small(shape, _SMALLEST_SHIFT_TOLERANT["vgg"], "trunk: st")
    return ()


def _lpips_fits(shape: ImageShape, params: Mapping[str, Any]) -> Iterable[str]:
    yield from _too_small(shape, _SMALLEST[params["net"]], f"net: {params['net']}")
    if params["implementation"] == "reference" and params.get("precision") == "bf16":
        yield "needs precision: float32 with implementation: reference, because the package lpips has no bf16"


def _st_lpips_fits(shape: ImageShape, params: Mapping[str, Any]) -> Iterable[str]:
    return _too_small(shape, _SMALLEST_SHIFT_TOLERANT[params["net"]], f"net: {params['net']}")


def _needed_by_vqgan(shape: ImageShape, params: Mapping[str, Any]) -> Iterable[Weights]:
    if params["perceptual_weight"] == 0 or not _offered(params):
        return ()
    linear = {**params, "linear": True}
    return (_needed_by_lpips if params["perceptual"] == "lpips" else _needed_by_st_lpips)(shape, linear)


def _has_discriminator(params: Mapping[str, Any]) -> bool:
    return bool(params["disc_weight"] > 0)


def _offered(params: Mapping[str, Any]) -> bool:
    return params["perceptual"] == "lpips" or params["net"] in _SMALLEST_SHIFT_TOLERANT


def _vqgan_fits(shape: ImageShape, params: Mapping[str, Any]) -> Iterable[str]:
    if params["perceptual_weight"] > 0:
        if not _offered(params):
            yield f"needs net: {' or '.join(_SMALLEST_SHIFT_TOLERANT)} with perceptual: st_lpips"
            return
        smallest = _SMALLEST if params["perceptual"] == "lpips" else _SMALLEST_SHIFT_TOLERANT
        yield from _too_small(shape, smallest[params["net"]], f"perceptual: {params['perceptual']}")
    if params["disc_weight"] > 0:
        layers = params["disc_layers"]
        yield from _too_small(shape, 3 * 2**layers, f"disc_layers: {layers} (fewer layers need less)")


@hookimpl
def recbench_losses() -> Iterator[LossEntry]:
    yield LossEntry(
        name="vgg",
        factory="recbench_losses_perceptual.losses:VGG",
        summary="learned distance of VGG16 features, with the weights of Czolbe et al.",
        parameters=(
            Parameter(
                "trunk",
                str,
                "imagenet",
                "imagenet: torchvision's VGG16 with the authors' weights; st: shift-tolerant VGG16 with its own",
                choices=("imagenet", "st"),
            ),
            _PRECISION,
        ),
        requirements=Requirements(channels=_CHANNELS, minimum_size=_SMALLEST["vgg"]),
        check=_vgg_fits,
        weights=(IMAGENET["vgg"], *CZOLBE.values(), SHIFT_TOLERANT["vgg"]),
        needed=_needed_by_vgg,
        family="perceptual",
        citation=(
            "Czolbe et al., A Loss Function for Generative Neural Networks Based on Watson's Perceptual Model, "
            "NeurIPS 2020 (Deeploss-VGG), after Zhang et al., CVPR 2018"
        ),
        notes=(
            "Grey images are repeated to three channels and have weights of their own, as with the authors. The "
            "authors' licence for their weights is not stated. 'trunk: st' equals st_lpips with 'net: vgg', trunk and "
            "linear weights, which come from PyPI: it is the choice where nothing else can be reached, and another "
            "loss than the authors'. Its trunk was trained from random values, so that the authors' weights, which "
            f"belong to the channels of the ImageNet trunk, do not fit its channels. {_SCALE}\n\n"
            f"{_PRECISION_NOTE}"
        ),
    )
    yield LossEntry(
        name="lpips",
        factory="recbench_losses_perceptual.losses:LPIPSLoss",
        summary="learned perceptual image patch similarity, version 0.1",
        parameters=(_LPIPS_NET, _LINEAR, _PRECISION, _IMPLEMENTATION),
        requirements=Requirements(channels=_CHANNELS, minimum_size=min(_SMALLEST.values())),
        check=_lpips_fits,
        weights=(*IMAGENET.values(), *LPIPS.values()),
        needed=_needed_by_lpips,
        value_range=(-1.0, 1.0),
        family="perceptual",
        citation=_ZHANG,
        notes=f"{_GREY} Equal to the package lpips, which brings the linear weights. {_SCALE}\n\n{_PRECISION_NOTE}",
    )
    yield LossEntry(
        name="st_lpips",
        factory="recbench_losses_perceptual.losses:STLPIPSLoss",
        summary="shift-tolerant LPIPS: networks with anti-aliased down-sampling",
        parameters=(_ST_NET, _LINEAR, _PRECISION),
        requirements=Requirements(channels=_CHANNELS, minimum_size=min(_SMALLEST_SHIFT_TOLERANT.values())),
        check=_st_lpips_fits,
        weights=tuple(SHIFT_TOLERANT.values()),
        needed=_needed_by_st_lpips,
        value_range=(-1.0, 1.0),
        family="perceptual",
        citation=_GHILDYAL,
        notes=(
            f"{_GREY} Equal to the package stlpips-pytorch, whose wheel the weights are taken from; the package itself "
            f"is not needed. {_SCALE}\n\n{_PRECISION_NOTE}"
        ),
    )
    yield LossEntry(
        name="dists",
        factory="recbench_losses_perceptual.dists:DISTSLoss",
        summary="deep image structure and texture similarity: means and covariances of VGG16 features",
        requirements=Requirements(channels=_CHANNELS, minimum_size=_SMALLEST["vgg"]),
        weights=(IMAGENET["vgg"], *DISTS.values()),
        needed=_needed_by_dists,
        family="perceptual",
        citation=_DING,
        notes=f"{_GREY} {_DISTS_NOTE} {_SCALE}",
    )
    yield LossEntry(
        name="vqgan",
        factory="recbench_losses_perceptual.vqgan:VQGANLoss",
        summary="L1 + LPIPS + a PatchGAN with adaptive weight and delayed start",
        parameters=(
            Parameter("perceptual", str, "lpips", "the perceptual distance", choices=("lpips", "st_lpips")),
            Parameter(
                "net",
                str,
                "vgg",
                "network of its features; st_lpips has no squeeze",
                choices=("vgg", "alex", "squeeze"),
            ),
            Parameter(
                "perceptual_weight",
                float,
                1.0,
                "of the perceptual distance beside L1; 0: none, and no weights",
                minimum=0,
                tunable=Tunable(0.1, 10.0, log=True),
            ),
            Parameter(
                "disc_weight",
                float,
                0.8,
                "of the discriminator, times the adaptive weight; 0: none",
                minimum=0,
                tunable=Tunable(0.08, 8.0, log=True),
            ),
            Parameter("disc_start", int, 10_000, "steps of the model before the discriminator starts", minimum=0),
            Parameter("disc_learning_rate", float, 1e-4, "of its own Adam, with betas 0.5 and 0.9", above=0),
            Parameter("disc_width", int, 64, "channels of its first layer", minimum=1, maximum=1024),
            Parameter(
                "disc_layers",
                int,
                3,
                "its layers of stride 2; a logit sees 70 pixels with 3, 34 with 2, 16 with 1",
                minimum=1,
                maximum=6,
            ),
        ),
        requirements=Requirements(channels=_CHANNELS),
        check=_vqgan_fits,
        weights=(*IMAGENET.values(), *LPIPS.values(), *SHIFT_TOLERANT.values()),
        needed=_needed_by_vqgan,
        value_range=(-1.0, 1.0),
        family="perceptual",
        families=frozenset({"adversarial", "perceptual", "pixel"}),
        couples_batch=_has_discriminator,
        stops_gradient=True,
        citation=_ESSER,
        notes=_VQGAN_NOTE,
    )


@hookimpl
def recbench_metrics() -> Iterator[MetricEntry]:
    yield MetricEntry(
        name="lpips",
        score_range=(0, inf),
        factory="recbench_losses_perceptual.metrics:LPIPSMetric",
        summary="learned perceptual image patch similarity, version 0.1",
        parameters=(_LPIPS_NET, _LINEAR, _IMPLEMENTATION),
        requirements=Requirements(channels=_CHANNELS, minimum_size=min(_SMALLEST.values())),
        check=_lpips_fits,
        weights=(*IMAGENET.values(), *LPIPS.values()),
        needed=_needed_by_lpips,
        direction="lower",
        rounded=False,
        family="perceptual",
        citation=_ZHANG,
        notes=_GREY,
    )
    yield MetricEntry(
        name="st_lpips",
        score_range=(0, inf),
        factory="recbench_losses_perceptual.metrics:STLPIPSMetric",
        summary="shift-tolerant LPIPS: networks with anti-aliased down-sampling",
        parameters=(_ST_NET, _LINEAR),
        requirements=Requirements(channels=_CHANNELS, minimum_size=min(_SMALLEST_SHIFT_TOLERANT.values())),
        check=_st_lpips_fits,
        weights=tuple(SHIFT_TOLERANT.values()),
        needed=_needed_by_st_lpips,
        direction="lower",
        rounded=False,
        family="perceptual",
        citation=_GHILDYAL,
        notes=_GREY,
    )
    yield MetricEntry(
        name="dists",
        score_range=(0, 2),
        factory="recbench_losses_perceptual.dists:DISTSMetric",
        summary="deep image structure and texture similarity: means and covariances of VGG16 features",
        requirements=Requirements(channels=_CHANNELS, minimum_size=_SMALLEST["vgg"]),
        weights=(IMAGENET["vgg"], *DISTS.values()),
        needed=_needed_by_dists,
        direction="lower",
        rounded=False,
        family="perceptual",
        citation=_DING,
        notes=f"{_GREY} {_DISTS_NOTE}",
    )
