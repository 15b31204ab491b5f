"""The losses watson_dft and watson_dct of Czolbe et al. 2020, for images in 0 to 1.

The gradient has a closed form in what the forward pass computes anyway, and is taken there. Higher derivatives are
those of the same forward pass, recorded by autograd.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor

from recbench import load_weights
from recbench.contracts.loss import Context, Loss, Setting
from recbench_losses_frequency.watson.blocks import (
    cut,
    dct_matrix,
    dft_matrix,
    for_relative_pixels,
    for_sums_and_differences,
    join,
    means,
)
from recbench_losses_frequency.watson.colour import YCBCR, relative_channels, to_rgb
from recbench_losses_frequency.watson.dct import dct_distance
from recbench_losses_frequency.watson.dft import dft_distance, no_phase
from recbench_losses_frequency.watson.masking import Learned
from recbench_losses_frequency.watson.pretrained import Transform, file
from recbench_losses_frequency.watson.shift import Shift, before_shift, random_shift, shifted

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
CHANNELS = ("ly", "lcb", "lcr")  # how the authors' files call Y, Cb and Cr

State = Mapping[str, Tensor]


class WithGradient(torch.autograd.Function):
    """Values (B,) of a loss that computes its gradient by the decoded images together with them."""

    @staticmethod
    def forward(ctx: Any, decoded: Tensor, target: Tensor, loss: Watson, shift: Shift) -> Tensor:
        value, slope = loss.distance(decoded, target, shift, gradient=True)
        ctx.loss, ctx.shift = loss, shift
        ctx.save_for_backward(decoded, target, slope)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        decoded, target, slope = ctx.saved_tensors
        if torch.is_grad_enabled():  # with create_graph
            value, _ = ctx.loss.distance(decoded, target, ctx.shift, gradient=False)
            slope = torch.autograd.grad(value, decoded, gradient, create_graph=True)[0]
            return slope, None, None, None
        return slope * gradient[:, None, None, None], None, None, None


class Watson(Loss):
    """What both losses share: the shift, the channels, the parameters, and the way of the gradient.

    The parameters are fixed: they are buffers, in float64, which the losses use in the precision of the images. The
    learned ones were rounded to float32 by the authors, those before any learning are not: a matrix to YCbCr in float32
    gives grey pixels a Cb and Cr of 1e-8, whose phases Watson-DFT would count.
    """

    transform: ClassVar[Transform]
    learned: ClassVar[tuple[str, ...]]  # as the authors' files name them, for each channel

    matrix: Tensor
    folded: Tensor
    to_ycbcr: Tensor | None

    def __init__(
        self, setting: Setting, *, weights: Literal["pretrained", "initial"], shift: bool, block_size: int
    ) -> None:
        super().__init__()
        self.shift = shift
        self.block_size = block_size
        matrix = self.transform_matrix(block_size)
        self.register_buffer("matrix", matrix, persistent=False)
        self.register_buffer("folded", self.fold(matrix), persistent=False)
        channels = setting.shape.channels
        state = load_weights(file(self.transform, channels)) if weights == "pretrained" else self._initial(channels)
        self._take(state, colour=channels == len(CHANNELS))

    @staticmethod
    @abstractmethod
    def transform_matrix(size: int) -> Tensor:
        """From the pixels of a block to its coefficients, (rows, size²), float64."""

    @staticmethod
    @abstractmethod
    def fold(matrix: Tensor) -> Tensor:
        """That matrix for what :meth:`compare` multiplies by it instead of pixels."""

    @staticmethod
    @abstractmethod
    def initial(size: int) -> dict[str, Tensor]:
        """The parameters of a channel before any learning, float64, under the names of the authors' files."""

    @abstractmethod
    def compare(
        self, decoded: Tensor, target: Tensor, matrix: Tensor, learned: Learned, *, gradient: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Distance of images (B,), and, if wanted, its gradient by the coefficients of the decoded ones."""

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        shift = random_shift() if self.shift else (0, 0)
        if torch.is_grad_enabled() and decoded.requires_grad and not target.requires_grad:
            value: Tensor = WithGradient.apply(decoded, target, self, shift)
            return value
        return self.distance(decoded, target, shift, gradient=False)[0]

    def distance(
        self, decoded: Tensor, target: Tensor, shift: Shift, *, gradient: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Values (B,) and, if wanted, the gradient by the decoded images, which autograd must not record then."""
        decoded, target = shifted(decoded, shift), shifted(target, shift)
        matrix = self.folded.to(decoded.dtype)
        value, slope = self.compare(decoded, target, matrix, self._learned(decoded.dtype), gradient=gradient)
        if slope is None:
            return value, None
        by_channel = torch.matmul(self.matrix.T.to(decoded.dtype), slope)
        by_pixel = join(to_rgb(by_channel, self.to_ycbcr), self.block_size, *decoded.shape[2:])
        return value, before_shift(by_pixel, shift)

    def pixels(self, images: Tensor, *, centred: bool = True) -> Tensor:
        """Blocks of the channels that are judged, relative to their first pixels: (B, C, size², K)."""
        return relative_channels(cut(images, self.block_size), self.to_ycbcr, centred=centred)

    def _initial(self, channels: int) -> dict[str, Tensor]:
        own = self.initial(self.block_size)
        if channels != len(CHANNELS):
            return own
        state = {f"{channel}.{name}": value for channel in CHANNELS for name, value in own.items()}
        state["to_YCbCr.transform"] = torch.tensor(YCBCR, dtype=torch.float64).T
        state["w_tild"] = torch.zeros(len(CHANNELS), dtype=torch.float64)
        return state

    def _take(self, state: State, *, colour: bool) -> None:
        """Make buffers of parameters, as the distances want them."""
        prefixes = [f"{channel}." for channel in CHANNELS] if colour else [""]
        own = {name: torch.stack([state[prefix + name].double() for prefix in prefixes]) for name in self.learned}
        values = {
            "to_ycbcr": state["to_YCbCr.transform"].double().T if colour else None,
            "channel": state["w_tild"].double().softmax(0) if colour else torch.ones(1, dtype=torch.float64),
            "log_t": own["t_tild"].flatten(1)[..., None],
            "alpha": own["alpha"][:, None, None],
            "w": own["w_tild"].sigmoid()[:, None, None],
            "beta": own["beta"][:, None, None],
        }
        if "w_phase_tild" in own:
            phase = own["w_phase_tild"].exp().flatten(1)
            phase[:, no_phase(self.block_size)] = 0
            values["phase"] = phase[..., None]
        for name, value in values.items():
            self.register_buffer(name, value, persistent=False)

    def _learned(self, dtype: torch.dtype) -> Learned:
        names = ("log_t", "alpha", "w", "beta", "channel") + (("phase",) if "phase" in self._buffers else ())
        return Learned(**{name: self.get_buffer(name).to(dtype) for name in names})


@final
class WatsonDFT(Watson):
    """Watson-DFT: distance of amplitudes plus weighted angles between phases, summed over YCbCr with learned weights.

    Grey images are one channel, taken as it is. The parts are in :mod:`recbench_losses_frequency.watson`.
    """

    transform = "dft"
    learned = ("t_tild", "alpha", "w_tild", "beta", "w_phase_tild")

    @staticmethod
    def transform_matrix(size: int) -> Tensor:
        return dft_matrix(size)

    @staticmethod
    def fold(matrix: Tensor) -> Tensor:
        return for_sums_and_differences(matrix)

    @staticmethod
    def initial(size: int) -> dict[str, Tensor]:
        frequencies = size, size // 2 + 1
        return {
            "t_tild": torch.zeros(frequencies, dtype=torch.float64),
            "alpha": torch.tensor(0.1, dtype=torch.float64),
            "w_tild": torch.tensor(math.log(0.2 / 0.8), dtype=torch.float64),
            "beta": torch.tensor(1.0, dtype=torch.float64),
            "w_phase_tild": torch.full(frequencies, -2.0, dtype=torch.float64),
        }

    def compare(
        self, decoded: Tensor, target: Tensor, matrix: Tensor, learned: Learned, *, gradient: bool
    ) -> tuple[Tensor, Tensor | None]:
        error = relative_channels(means(decoded - target, self.block_size), self.to_ycbcr, centred=False)
        return dft_distance(self.pixels(decoded), self.pixels(target), error, matrix, learned, gradient=gradient)


@final
class WatsonDCT(Watson):
    """Watson-DCT: distance of cosine coefficients, summed over YCbCr with learned weights.

    Grey images are one channel, taken as it is. The parts are in :mod:`recbench_losses_frequency.watson`.
    """

    transform = "dct"
    learned = ("t_tild", "alpha", "w_tild", "beta")

    @staticmethod
    def transform_matrix(size: int) -> Tensor:
        return dct_matrix(size)

    @staticmethod
    def fold(matrix: Tensor) -> Tensor:
        return for_relative_pixels(matrix)

    @staticmethod
    def initial(size: int) -> dict[str, Tensor]:
        known = size == len(SENSITIVITY)
        thresholds = torch.tensor(SENSITIVITY, dtype=torch.float64) if known else torch.ones(size, size).double()
        return {
            "t_tild": thresholds.log(),
            "alpha": torch.tensor(0.649, dtype=torch.float64),
            "w_tild": torch.tensor(math.log(0.7 / 0.3), dtype=torch.float64),
            "beta": torch.tensor(4.0, dtype=torch.float64),
        }

    def compare(
        self, decoded: Tensor, target: Tensor, matrix: Tensor, learned: Learned, *, gradient: bool
    ) -> tuple[Tensor, Tensor | None]:
        error = self.pixels(decoded - target, centred=False)
        return dct_distance(error, self.pixels(target), matrix, learned, gradient=gradient)
