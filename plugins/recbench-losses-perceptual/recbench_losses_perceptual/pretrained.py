"""The files of pretrained weights that these losses and metrics need: facts only, nothing is loaded here."""

from __future__ import annotations

from recbench import Weights

_TORCHVISION = "https://download.pytorch.org/models"
_CZOLBE = (
    "https://raw.githubusercontent.com/SteffenCzolbe/PerceptualSimilarity/3729dd1fc7e7082c0c66f7dc74d119a78948cb17"
    "/src/loss/weights"
)
_ST = "pypi:stlpips-pytorch==0.0.2:stlpips_pytorch/weights/vST0.0"
_LPIPS = "pypi:lpips==0.1.4:lpips/weights/v0.1"
_ON_PYPI = "vgg with 'trunk: st', or st_lpips, whose weights are on PyPI"

IMAGENET = {
    "vgg": Weights(
        file="vgg16-397923af.pth",
        address=f"{_TORCHVISION}/vgg16-397923af.pth",
        sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        size=553433881,
        licence="BSD-3-Clause (torchvision); trained on ImageNet",
        citation="torchvision, VGG16_Weights.IMAGENET1K_V1; Simonyan & Zisserman, ICLR 2015",
        alternative=_ON_PYPI,
    ),
    "alex": Weights(
        file="alexnet-owt-7be5be79.pth",
        address=f"{_TORCHVISION}/alexnet-owt-7be5be79.pth",
        sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        size=244408911,
        licence="BSD-3-Clause (torchvision); trained on ImageNet",
        citation="torchvision, AlexNet_Weights.IMAGENET1K_V1; Krizhevsky, arXiv:1404.5997",
        alternative=_ON_PYPI,
    ),
    "squeeze": Weights(
        file="squeezenet1_1-b8a52dc0.pth",
        address=f"{_TORCHVISION}/squeezenet1_1-b8a52dc0.pth",
        sha256="b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b",
        size=4958839,
        licence="BSD-3-Clause (torchvision); trained on ImageNet",
        citation="torchvision, SqueezeNet1_1_Weights.IMAGENET1K_V1; Iandola et al., arXiv:1602.07360",
        alternative=_ON_PYPI,
    ),
}
"""Trunks without linear weights, as torchvision distributes them."""

CZOLBE = {
    3: Weights(
        file="rgb_pnet_lin_vgg_trial0.pth",
        address=f"{_CZOLBE}/rgb_pnet_lin_vgg_trial0.pth",
        sha256="df4bad76bf9d8bca8466f4e34adc12289dbce25c6e040cba3a5152c24cdf3682",
        size=7297,
        licence="none stated by the authors",
        citation="Czolbe et al., NeurIPS 2020",
        alternative=_ON_PYPI,
    ),
    1: Weights(
        file="gray_pnet_lin_vgg_trial0.pth",
        address=f"{_CZOLBE}/gray_pnet_lin_vgg_trial0.pth",
        sha256="bbf8ea727bac61aaaefba7fae63a10547c03d4cd5b81a7ba05d8003a1ca96788",
        size=7297,
        licence="none stated by the authors",
        citation="Czolbe et al., NeurIPS 2020",
        alternative=_ON_PYPI,
    ),
}
"""Linear weights for VGG16's features, by the number of channels of the images."""

LPIPS = {
    net: Weights(
        file=f"lpips_v0.1_{net}.pth",
        address=f"{_LPIPS}/{net}.pth",
        sha256=sha256,
        size=size,
        licence="BSD-2-Clause",
        citation="Zhang et al., CVPR 2018",
        alternative="'linear: false'",
    )
    for net, sha256, size in (
        ("vgg", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868", 7289),
        ("alex", "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0", 6009),
        ("squeeze", "4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76", 10811),
    )
}
"""Linear weights of LPIPS 0.1, which the package lpips carries; it is installed with this family."""

SHIFT_TOLERANT = {
    net: Weights(
        file=f"{net}_shift_tolerant.pth",
        address=f"{_ST}/{net}_shift_tolerant.pth",
        sha256=sha256,
        size=size,
        licence="BSD-2-Clause",
        citation="Ghildyal & Liu, ECCV 2022",
    )
    for net, sha256, size in (
        ("vgg", "44597da68f49c1837c100ff52299050f274d102eb102e5837178c79be6f0e250", 58907298),
        ("alex", "b356b382f96010f77d085ee8343ecd9fd322d0a56e8de2b2d0549fafcad8b9ee", 9899296),
    )
}
"""Trunks together with their linear weights, which the package stlpips-pytorch carries."""

DISTS = {
    "vgg": Weights(
        file="dists_weights.pt",
        address="pypi:dists-pytorch==0.1:DISTS_pytorch/weights.pt",
        sha256="f5e65c96230b7f6ca995691647d482237e4cab8a50c5c4a5784f219ef0748218",
        size=12288,
        licence="MIT",
        citation="Ding et al., TPAMI 2022",
    )
}
"""Weights of means and covariances in DISTS, which the package dists-pytorch carries."""
