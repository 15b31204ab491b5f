"""L1 and a discriminator of patches, with an adaptive weight and a delayed start, as of VQGAN (Esser et al. 2021)."""

from torch import nn

from recbench import Auxiliary, Loss, LossEntry, Requirements, hookimpl


def patch_discriminator(channels, width, layers):
    widths = [width * min(2**n, 8) for n in range(layers + 1)]
    built = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
    for n in range(layers):
        filters = nn.Conv2d(widths[n], widths[n + 1], 4, 2 if n < layers - 1 else 1, 1, bias=False)
        built += [filters, nn.BatchNorm2d(widths[n + 1]), nn.LeakyReLU(0.2)]
    return nn.Sequential(*built, nn.Conv2d(widths[-1], 1, 4, 1, 1))


class GAN(Loss):
    def __init__(self, setting, *, disc_weight=0.8, disc_start=0, disc_lr=1e-4, width=16, layers=2, at_images=False):
        super().__init__()
        self.disc_weight, self.disc_start, self.disc_lr = disc_weight, disc_start, disc_lr
        self.needs_last_layer = not at_images  # where the gradients of both terms are compared
        self.disc = patch_discriminator(setting.shape.channels, width, layers)

    def forward(self, decoded, target, context):
        l1 = (decoded - target).abs().sum((1, 2, 3))
        if not (context.training and decoded.requires_grad) or context.step < self.disc_start:
            return l1
        fooled = -self.disc(decoded).mean((1, 2, 3))
        at = context.last_layer if self.needs_last_layer else decoded
        self.logged["adaptive_weight"] = self.disc_weight * context.adaptive_weight(l1, fooled, at)
        return l1 + self.logged["adaptive_weight"] * fooled

    def auxiliary(self):
        return Auxiliary(tuple(self.disc.parameters()), self.disc_lr, self.hinge, (0.5, 0.9), start=self.disc_start)

    def hinge(self, decoded, target, context):
        real, made = self.disc(target), self.disc(decoded)
        self.logged |= {"logits_target": real.detach().mean(), "logits_decoded": made.detach().mean()}
        return 0.5 * (nn.functional.relu(1 - real) + nn.functional.relu(1 + made)).mean((1, 2, 3))


@hookimpl
def recbench_losses():
    size = Requirements(minimum_size=16)
    least = {"disc_weight": 0, "disc_start": 0, "width": 1, "layers": 1}
    yield LossEntry.of(
        GAN, "gan", family="adversarial", requirements=size, minimum=least, couples_batch=True, stops_gradient=True
    )
