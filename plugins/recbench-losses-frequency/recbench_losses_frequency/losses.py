"""The focal frequency loss as a loss."""

from __future__ import annotations

from torch import Tensor

from recbench.contracts.loss import Context, Loss, Setting
from recbench_losses_frequency._kernels import focal_frequency


class FocalFrequency(Loss):
    """The focal frequency loss (equation 9): a mean over frequencies, channels and patches, for each image.

    The same as the authors' package focal-frequency-loss, whose value is the mean over the batch, without its factor
    ``loss_weight``. No gradient flows through the weights (section 3.3).
    """

    def __init__(
        self,
        setting: Setting,
        *,
        alpha: float,
        patch_factor: int,
        ave_spectrum: bool,
        log_matrix: bool,
        batch_matrix: bool,
    ) -> None:
        super().__init__()
        self.alpha = alpha
        self.patch_factor = patch_factor
        self.ave_spectrum = ave_spectrum
        self.log_matrix = log_matrix
        self.batch_matrix = batch_matrix

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        return focal_frequency(
            decoded - target,
            alpha=self.alpha,
            patch_factor=self.patch_factor,
            ave_spectrum=self.ave_spectrum,
            log_matrix=self.log_matrix,
            batch_matrix=self.batch_matrix,
        )
