"""L1 and a discriminator of patches, with an adaptive weight and a delayed start, as of VQGAN (Esser et al. 2021)."""

from itertools import pairwise

from torch import nn
from torch.autograd import grad
from torch.nn.functional import relu

from recbench import Auxiliary, Loss, LossEntry, Parameter, hookimpl

PER_IMAGE = (1, 2, 3)


def patch_discriminator(channels, width, layers):
    widths = [min(2**n, 8) * width for n in range(layers)]
    built = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
    for inside, outside in pairwise(widths):
        built += [nn.Conv2d(inside, outside, 4, 2, 1, bias=False), nn.BatchNorm2d(outside), nn.LeakyReLU(0.2)]
    return nn.Sequential(*built, nn.Conv2d(widths[-1], 1, 4, 1, 1))


class GAN(Loss):
    needs_last_layer = True  # context.last_layer is None without it

    def __init__(self, setting, *, disc_weight, disc_start, disc_lr, width, layers):
        super().__init__()
        self.disc_weight, self.disc_start, self.disc_lr, self.logged = disc_weight, disc_start, disc_lr, {}
        self.disc = patch_discriminator(setting.shape.channels, width, layers)

    def forward(self, decoded, target, context):
        l1 = (decoded - target).abs().sum(PER_IMAGE)
        if not context.training or context.step < self.disc_start:
            return l1
        fooled = -self.disc(decoded).mean(PER_IMAGE)
        ours, theirs = (grad(term.mean(), context.last_layer, retain_graph=True)[0].norm() for term in (l1, fooled))
        weight = self.disc_weight * (ours / (theirs + 1e-4)).clamp(0, 1e4)
        self.logged["adaptive_weight"] = weight
        return l1 + weight * fooled

    def auxiliary(self):
        return Auxiliary(tuple(self.disc.parameters()), self.disc_lr, self.hinge, (0.5, 0.9), start=self.disc_start)

    def hinge(self, decoded, target, context):
        real, made = self.disc(target), self.disc(decoded)
        self.logged |= {"logits_target": real.detach().mean(), "logits_decoded": made.detach().mean()}
        return 0.5 * (relu(1 - real).mean(PER_IMAGE) + relu(1 + made).mean(PER_IMAGE))

    def log(self):
        return self.logged


@hookimpl
def recbench_losses():
    yield LossEntry(
        name="gan",
        factory=GAN,
        summary="L1 + adaptive hinge PatchGAN",
        family="adversarial",
        parameters=(
            Parameter("disc_weight", float, 0.8, "of the discriminator, times the adaptive weight", minimum=0),
            Parameter("disc_start", int, 0, "steps of the model before the discriminator starts", minimum=0),
            Parameter("disc_lr", float, 1e-4, "learning rate of the discriminator's Adam", above=0),
            Parameter("width", int, 16, "channels of its first layer", minimum=1),
            Parameter("layers", int, 2, "its layers of stride 2", minimum=1),
        ),
        couples_batch=True,
        stops_gradient=True,
    )
