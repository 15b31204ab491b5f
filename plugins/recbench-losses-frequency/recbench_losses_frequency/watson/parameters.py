"""The parameters of the Watson losses before any learning."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from recbench_losses_frequency.watson.colour import YCBCR
from recbench_losses_frequency.watson.pretrained import BLOCK_SIZE, Transform

CHANNELS = ("ly", "lcb", "lcr")  # the names of Y, Cb and Cr in the authors' files
# Thresholds of 8 × 8 cosine coefficients, Watson 1993
SENSITIVITY = (
    (1.40, 1.01, 1.16, 1.66, 2.40, 3.43, 4.79, 6.56),
    (1.01, 1.45, 1.32, 1.52, 2.00, 2.71, 3.67, 4.93),
    (1.16, 1.32, 2.24, 2.59, 2.98, 3.64, 4.60, 5.88),
    (1.66, 1.52, 2.59, 3.77, 4.55, 5.30, 6.28, 7.60),
    (2.40, 2.00, 2.98, 4.55, 6.15, 7.46, 8.71, 10.17),
    (3.43, 2.71, 3.64, 5.30, 7.46, 9.62, 11.58, 13.51),
    (4.79, 3.67, 4.60, 6.28, 8.71, 11.58, 14.50, 17.29),
    (6.56, 4.93, 5.88, 7.60, 10.17, 13.51, 17.29, 21.15),
)


def initial(transform: Transform, channels: int, size: int = BLOCK_SIZE) -> dict[str, Tensor]:
    """Return the parameters as the authors initialize them, under the names of their files; float64.

    They are those of the authors' constructors with float64 as torch's default, as the golden values are.

    Args:
        transform: ``dft`` or ``dct``.
        channels: 3 for colour images, 1 for grey ones.
        size: side of the blocks in pixels. The DCT has thresholds of 1 for others than 8.

    >>> sorted(initial("dct", 1))
    ['alpha', 'beta', 't_tild', 'w_tild']
    """
    own = _dft(size) if transform == "dft" else _dct(size)
    if channels != len(CHANNELS):
        return own
    state = {f"{channel}.{name}": value for channel in CHANNELS for name, value in own.items()}
    state["to_YCbCr.transform"] = torch.tensor(YCBCR, dtype=torch.float64).T
    state["w_tild"] = torch.zeros(len(CHANNELS), dtype=torch.float64)
    return state


def _dft(size: int) -> dict[str, Tensor]:
    frequencies = size, size // 2 + 1
    return {
        "t_tild": torch.zeros(frequencies, dtype=torch.float64),
        "alpha": torch.tensor(0.1, dtype=torch.float64),
        "w_tild": torch.tensor(math.log(0.2 / 0.8), dtype=torch.float64),
        "beta": torch.tensor(1.0, dtype=torch.float64),
        "w_phase_tild": torch.full(frequencies, -2.0, dtype=torch.float64),
    }


def _dct(size: int) -> dict[str, Tensor]:
    known = size == len(SENSITIVITY)
    thresholds = torch.tensor(SENSITIVITY, dtype=torch.float64) if known else torch.ones(size, size).double()
    return {
        "t_tild": thresholds.log(),
        "alpha": torch.tensor(0.649, dtype=torch.float64),
        "w_tild": torch.tensor(math.log(0.7 / 0.3), dtype=torch.float64),
        "beta": torch.tensor(4.0, dtype=torch.float64),
    }
