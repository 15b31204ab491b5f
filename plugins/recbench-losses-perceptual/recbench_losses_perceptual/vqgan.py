"""The reconstruction loss of VQGAN: L1, a perceptual distance, and a discriminator that learns with the model.

L = |x − x̂| + p · d(x, x̂) + w λ · (−D(x̂)), with means over pixels and patches. λ = |∇L_rec| / (|∇L_GAN| + δ) compares
the gradients of the first two terms and of the last one at the decoder's last layer (Esser et al. 2021, equation 7;
δ = 1e-4 and λ ≤ 1e4 as in the authors' code, 1e-6 and no bound in the paper). The discriminator minimizes the hinge
loss ½ (max(0, 1 − D(x)) + max(0, 1 + D(x̂))).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from recbench.contracts.loss import Auxiliary, Context, Loss, Setting
from recbench_losses_perceptual.discriminator import PatchDiscriminator
from recbench_losses_perceptual.distance import DeepDistance, lpips, st_lpips

_PER_IMAGE = (1, 2, 3)
_DELTA = 1e-4
_HEAVIEST = 1e4
BETAS = (0.5, 0.9)
"""Of the discriminator's Adam."""


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, last_layer: nn.Parameter) -> Tensor:
    """Return λ, by which the adversarial term is multiplied (Esser et al. 2021, equation 7), held constant.

    Args:
        reconstruction, adversarial: the terms, without axes, whose graphs are kept.
        last_layer: the weight where their gradients are compared.

    >>> weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    >>> adaptive_weight(10 * weight.sum(), weight.sum(), weight)
    tensor(9.9993)
    """
    ours, theirs = (
        torch.linalg.vector_norm(torch.autograd.grad(term, last_layer, retain_graph=True)[0])
        for term in (reconstruction, adversarial)
    )
    weight: Tensor = (ours / (theirs + _DELTA)).clamp(0, _HEAVIEST)
    return weight


def hinge(real: Tensor, decoded: Tensor) -> Tensor:
    """Return the discriminator's loss of each image, (B,), from the logits of target and decoded images (B, 1, h, w).

    >>> hinge(torch.full((1, 1, 2, 2), 0.5), torch.full((1, 1, 2, 2), 2.0))
    tensor([1.7500])
    """
    return 0.5 * (functional.relu(1 - real).mean(_PER_IMAGE) + functional.relu(1 + decoded).mean(_PER_IMAGE))


class VQGANLoss(Loss):
    """L1, LPIPS and a PatchGAN, for images in −1 to 1; see the module.

    Outside of training, and before the discriminator starts, it is L1 and LPIPS alone, as in the authors' validation:
    what the discriminator says of an image changes with every step.
    """

    def __init__(
        self,
        setting: Setting,
        *,
        perceptual: Literal["lpips", "st_lpips"],
        net: Literal["vgg", "alex", "squeeze"],
        perceptual_weight: float,
        disc_weight: float,
        disc_start: int,
        disc_learning_rate: float,
        disc_width: int,
        disc_layers: int,
    ) -> None:
        super().__init__()
        self.perceptual_weight = perceptual_weight
        self.disc_weight = disc_weight
        self.disc_start = disc_start
        self.disc_learning_rate = disc_learning_rate
        self.distance: DeepDistance | None = None
        if perceptual_weight > 0:
            if perceptual == "lpips":
                self.distance = lpips(net, linear=True, precision="float32")
            else:
                assert net != "squeeze", "refused by the entry"
                self.distance = st_lpips(net, linear=True, precision="float32")
        self.discriminator: PatchDiscriminator | None = None
        if disc_weight > 0:
            self.discriminator = PatchDiscriminator(setting.shape.channels, disc_width, disc_layers)
        self.needs_last_layer = disc_weight > 0
        self._logged: dict[str, Tensor] = {}

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        value = (decoded - target).abs().mean(_PER_IMAGE)
        logged = {"l1": value.detach().mean()}
        if self.distance is not None:
            distance = self.distance(decoded, target)
            value = value + self.perceptual_weight * distance
            logged["perceptual"] = distance.detach().mean()
        if not context.training:
            return value
        self._logged = logged
        if self.discriminator is None or (context.step is not None and context.step < self.disc_start):
            return value
        if context.last_layer is None:
            raise ValueError("vqgan needs the weight of the decoder's last layer in training")
        adversarial = -self.discriminator.judge(decoded).mean(_PER_IMAGE)
        weight = self.disc_weight * adaptive_weight(value.mean(), adversarial.mean(), context.last_layer)
        logged |= {"adversarial": adversarial.detach().mean(), "adaptive_weight": weight}
        return value + weight * adversarial

    def auxiliary(self) -> Auxiliary | None:
        if self.discriminator is None:
            return None
        return Auxiliary(
            tuple(self.discriminator.parameters()),
            self.disc_learning_rate,
            self._objective,
            betas=BETAS,
            start=self.disc_start,
        )

    def _objective(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        assert self.discriminator is not None, "it has parameters"
        real, made = self.discriminator(target), self.discriminator(decoded)
        values = hinge(real, made)
        self._logged |= {
            "discriminator": values.detach().mean(),
            "logits_target": real.detach().mean(),
            "logits_decoded": made.detach().mean(),
        }
        return values

    def log(self) -> Mapping[str, Tensor]:
        """Return the means over the batch of the terms, what the adversarial one was multiplied by (w λ), and the
        discriminator's loss and logits before its step; the latter once it has started.
        """
        return self._logged
