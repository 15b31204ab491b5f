"""The PatchGAN discriminator of Isola et al. 2017, section 3.2.2 and appendix 6.1.2, as Esser et al. 2021 use it."""

from __future__ import annotations

from torch import Tensor, nn
from torch.func import functional_call


class PatchDiscriminator(nn.Sequential):
    """Logits of overlapping patches of images (B, C, H, W): above 0 where a patch looks like one of the data.

    Convolutions of 4 × 4 pixels: ``layers`` with stride 2, of ``width`` channels and twice as many after each but the
    first, up to eight times, then one of stride 1 with as many again, and one to a single channel, (B, 1, h, w) with
    h = ⌊H / 2^layers⌋ − 2. Leaky-ReLU (0.2) between all; batch norm after all but the first and the last. With three
    layers, a logit sees 70 × 70 pixels. Weights are drawn as the authors draw them, with a standard deviation of 0.02.

    Batch norm always takes the statistics of its batch, and keeps no running ones. The authors' code keeps some, moved
    by decoded and target images in turn, and reads them in validation only, where the adversarial term has no weight.
    Without them a step depends on parameters and images alone.
    """

    def __init__(self, channels: int, width: int, layers: int) -> None:
        widths = [width * min(2**number, 8) for number in range(layers + 1)]
        built: list[nn.Module] = [nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for number in range(1, layers + 1):
            inside, outside, stride = widths[number - 1], widths[number], 2 if number < layers else 1
            built += [
                nn.Conv2d(inside, outside, 4, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(outside, track_running_stats=False),
                nn.LeakyReLU(0.2),
            ]
        super().__init__(*built, nn.Conv2d(widths[-1], 1, 4, padding=1))
        for module in self:
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.02)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)

    def judge(self, images: Tensor) -> Tensor:
        """Return the logits, whose gradient reaches the images but not the parameters."""
        held = {name: parameter.detach() for name, parameter in self.named_parameters()}
        logits: Tensor = functional_call(self, held, (images,))
        return logits
