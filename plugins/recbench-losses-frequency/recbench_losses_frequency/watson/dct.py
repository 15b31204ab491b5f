"""Watson-DCT: differences of the blocks' cosine coefficients."""

from __future__ import annotations

import torch
from torch import Tensor

from recbench_losses_frequency.watson.masking import Learned, pooled, slack


def dct_distance(
    error: Tensor, target: Tensor, matrix: Tensor, learned: Learned, *, gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """Return the distance of blocks and, if wanted, its gradient by the error's coefficients.

    The gradient is taken in place, so it must not be asked for while autograd records.

    Args:
        error: relative pixels of decoded minus target blocks, (B, C, size², K).
        target: those of the target, centred.
        matrix: from relative pixels to coefficients, (size², size²).
        learned: the parameters.
        gradient: whether the gradient is wanted.

    Returns:
        The distance (B,), and the gradient (B, C, size², K) or None.
    """
    coefficients = torch.matmul(matrix, target)
    # A mean of Cb or Cr can be -1e-8 where it should be 0, because the authors' matrix is rounded to float32. A power
    # of it is NaN in their code.
    coefficients[:, :, 0].clamp_(min=0)
    overlooked = slack(coefficients.abs(), learned)
    difference = torch.matmul(matrix, error)
    norm, outer, inner = pooled(difference.abs().div_(overlooked), learned.beta)
    weights = learned.channel[:, None, None]
    value = (weights * norm).sum((1, 2, 3))
    if not gradient:
        return value, None
    return value, inner.mul_(difference.sign_()).div_(overlooked).mul_(weights * outer)
