"""The losses watson_dft and watson_dct of Czolbe et al. 2020, for images in 0 to 1.

The formulas are in equations, term by term as in the authors' code; here the same is computed for all channels at once,
accurately in float32, and with a gradient in closed form.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from recbench import load_weights
from recbench.contracts.loss import Context, Loss, Setting
from recbench_losses_frequency.watson._kernels import with_gradient
from recbench_losses_frequency.watson.blocks import (
    cut,
    dct_matrix,
    dft_matrix,
    for_relative_pixels,
    for_sums_and_differences,
    join,
    means,
)
from recbench_losses_frequency.watson.colour import Colour, relative_channels, to_rgb
from recbench_losses_frequency.watson.dct import dct_distance
from recbench_losses_frequency.watson.dft import dft_distance, no_phase
from recbench_losses_frequency.watson.masking import Learned
from recbench_losses_frequency.watson.parameters import CHANNELS, initial
from recbench_losses_frequency.watson.pretrained import Transform, file
from recbench_losses_frequency.watson.shift import Shift, before_shift, random_shift, shifted


class Watson(Loss):
    """The common part of both losses: the shift, the channels, the parameters, and the way of the gradient.

    The parameters are fixed: they are buffers, in float64, which the losses use in the precision of the images. The
    learned ones were rounded to float32 by the authors, those before any learning are not: a matrix to YCbCr in float32
    gives grey pixels a Cb and Cr of 1e-8, whose phases Watson-DFT would count.
    """

    transform: ClassVar[Transform]
    learned: ClassVar[tuple[str, ...]]  # as the authors' files name them, for each channel

    matrix: Tensor
    folded: Tensor
    colour: Colour | None

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
        learned = weights == "pretrained"
        state = (
            load_weights(file(self.transform, channels)) if learned else initial(self.transform, channels, block_size)
        )
        self._take(state, colour=channels == len(CHANNELS))

    @staticmethod
    @abstractmethod
    def transform_matrix(size: int) -> Tensor:
        """Return the matrix (rows, size²) from the pixels of a block to its coefficients, float64."""

    @staticmethod
    @abstractmethod
    def fold(matrix: Tensor) -> Tensor:
        """Return that matrix for what :meth:`compare` multiplies by it instead of pixels."""

    @abstractmethod
    def compare(
        self, decoded: Tensor, target: Tensor, matrix: Tensor, learned: Learned, *, gradient: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Return the distance of images (B,), and, if wanted, its gradient by the coefficients of the decoded ones."""

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        shift = random_shift(decoded.device) if self.shift else (0, 0)
        if torch.is_grad_enabled() and decoded.requires_grad and not target.requires_grad:
            return with_gradient(self.distance, decoded, target, shift)
        return self.distance(decoded, target, shift, gradient=False)[0]

    def distance(
        self, decoded: Tensor, target: Tensor, shift: Shift, *, gradient: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Return values (B,) and, if wanted, the gradient by the decoded images, not to be recorded by autograd."""
        decoded, target = shifted(decoded, shift), shifted(target, shift)
        matrix = self.folded.to(decoded.dtype)
        value, slope = self.compare(decoded, target, matrix, self._learned(decoded.dtype), gradient=gradient)
        if slope is None:
            return value, None
        by_channel = torch.matmul(self.matrix.T.to(decoded.dtype), slope)
        by_pixel = join(to_rgb(by_channel, self.colour), self.block_size, *decoded.shape[2:])
        return value, before_shift(by_pixel, shift)

    def pixels(self, images: Tensor, *, centred: bool = True) -> Tensor:
        """Return blocks of the channels that are judged, relative to their first pixels: (B, C, size², K)."""
        return relative_channels(cut(images, self.block_size), self.colour, centred=centred)

    def _take(self, state: Mapping[str, Tensor], *, colour: bool) -> None:
        """Make buffers of parameters, as the distances want them."""
        prefixes = [f"{channel}." for channel in CHANNELS] if colour else [""]
        own = {name: torch.stack([state[prefix + name].double() for prefix in prefixes]) for name in self.learned}
        self.colour = Colour(state["to_YCbCr.transform"].double().T) if colour else None
        values = {
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

    def compare(
        self, decoded: Tensor, target: Tensor, matrix: Tensor, learned: Learned, *, gradient: bool
    ) -> tuple[Tensor, Tensor | None]:
        error = relative_channels(means(decoded - target, self.block_size), self.colour, centred=False)
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

    def compare(
        self, decoded: Tensor, target: Tensor, matrix: Tensor, learned: Learned, *, gradient: bool
    ) -> tuple[Tensor, Tensor | None]:
        error = self.pixels(decoded - target, centred=False)
        return dct_distance(error, self.pixels(target), matrix, learned, gradient=gradient)
