"""Facts about the files of parameters that Czolbe et al. learned on the 2AFC data set. Does not import torch."""

from __future__ import annotations

from typing import Literal

from recbench import Weights

BLOCK_SIZE = 8  # what they were learned for

Transform = Literal["dft", "dct"]

_FOLDER = (
    "https://raw.githubusercontent.com/SteffenCzolbe/PerceptualSimilarity/"
    "3729dd1fc7e7082c0c66f7dc74d119a78948cb17/src/loss/weights/"
)


def _weights(file: str, sha256: str, size: int) -> Weights:
    return Weights(
        file=file,
        address=_FOLDER + file,
        sha256=sha256,
        size=size,
        licence="none stated by the authors, who publish the files in their repository",
        citation="Czolbe et al., A Loss Function for Generative Neural Networks Based on Watson's Perceptual Model, "
        "NeurIPS 2020",
        alternative="weights: initial",
    )


_FILES: dict[tuple[Transform, int], Weights] = {
    ("dft", 3): _weights(
        "rgb_watson_fft_trial0.pth", "98386c0e0841fc346ab4c7d296788ed0af81f2ca8866a885be4405d03321a717", 3771
    ),
    ("dft", 1): _weights(
        "gray_watson_fft_trial0.pth", "74fda350525e4660671bc957944d6e9773b3989effc5aa9d2b73eccd5943584e", 1304
    ),
    ("dct", 3): _weights(
        "rgb_watson_dct_trial0.pth", "bde40e0bc1912060da45b4487df660450ba91fa44c031f22a144c661d99488ef", 4326
    ),
    ("dct", 1): _weights(
        "gray_watson_dct_trial0.pth", "6401e9d3a430ac5dac691f93f1b9b61562ce13457a26b4dcb87eea39c5ea7ff4", 1489
    ),
}


def files(transform: Transform) -> tuple[Weights, ...]:
    """Return the files for colour and for grey images."""
    return _FILES[transform, 3], _FILES[transform, 1]


def file(transform: Transform, channels: int) -> Weights:
    """Return the file for images with that many channels, 3 or 1."""
    return _FILES[transform, channels]
