"""Cards: what they say of losses and metrics whose answer is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

import recbench
from recbench import LossEntry, MetricEntry
from recbench.api.losses import StandaloneLoss
from recbench.contracts.entries import ImageShape
from recbench.contracts.loss import Context, Loss, Setting
from recbench.plugin.manager import Plugin
from recbench.plugin.registry import Registered
from recbench.testing.card import Card, loss_card, metric_card
from recbench.testing.case import LATENT, EntryCase
from recbench.testing.distortions import BANDS, band_noise, distortions

SHAPE = ImageShape(3, 32, 32)
PLUGIN = Plugin(name="made_up", origin="made_up", distribution="made-up", version="1")


class FromFormula(Loss):
    def __init__(self, setting: Setting, *, formula: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.formula = formula

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        return self.formula(decoded - target).flatten(1).sum(1)


def images(shape: ImageShape = SHAPE) -> Tensor:
    entry = MetricEntry(name="none", factory="no:No", summary="", direction="higher")
    return EntryCase(entry, {}, shape, lambda case: None).pixels(4, torch.float32)


def card_of(formula: Callable[[Tensor], Tensor]) -> Card:
    def factory(setting: Setting) -> Loss:
        return FromFormula(setting, formula=formula)

    entry = LossEntry(name="made_up", factory=factory, summary="")
    loss = StandaloneLoss(Registered(entry, PLUGIN), {}, Setting(SHAPE, LATENT), (0.0, 1.0), 0, LATENT)
    return loss_card(loss.eval(), images())


def test_l2_is_one_everywhere() -> None:
    card = card_of(lambda difference: 0.5 * difference.square())
    assert card.lowest and card.deterministic and card.seeded
    assert card.at_identity == card.slope_at_identity == 0
    for each in card.responses:
        assert each.value == pytest.approx(each.l2, rel=1e-4)
        assert each.ratio == pytest.approx(1, rel=1e-3) and each.gradient_ratio == pytest.approx(1, rel=1e-3)
        assert each.cosine == pytest.approx(1, rel=1e-4)
    assert card.spectrum == pytest.approx([1] * BANDS, rel=1e-3)
    assert all(ratio == pytest.approx(1, rel=1e-3) for ratio in card.kinds.values())


def test_a_loss_of_differences_between_neighbours_sees_high_frequencies() -> None:
    card = card_of(lambda difference: difference.diff(dim=-1).square())
    assert list(card.spectrum) == sorted(card.spectrum) and card.spectrum[0] < 0.1 < 1.5 < card.spectrum[-1]
    assert card.kinds["noise"] > 1 > card.kinds["contrast"]


def test_what_is_wrong_with_a_loss_is_seen() -> None:
    assert not card_of(lambda difference: -difference.abs()).lowest
    card = card_of(lambda difference: difference.square() * (1 + torch.rand_like(difference)))
    assert card.deterministic and not card.seeded
    counter: Iterator[int] = iter(range(1000))
    assert not card_of(lambda difference: difference.square() * next(counter)).deterministic
    steep = card_of(lambda difference: (difference - 0.1).square())
    assert steep.slope_at_identity is not None and steep.slope_at_identity > 1
    with pytest.raises(recbench.UserError, match="the loss has no gradient"):
        card_of(lambda difference: difference.detach().square())


def test_memory_is_what_is_kept_for_the_gradient() -> None:
    card = card_of(lambda difference: 0.5 * difference.square())
    assert card.saved_bytes == SHAPE.channels * SHAPE.height * SHAPE.width * 4  # the difference, as float32
    assert card.seconds > 0


def test_a_metric_is_best_for_equal_images_in_its_own_direction() -> None:
    for name, at_identity in (("ssim", 1.0), ("mse", 0.0)):
        card = metric_card(recbench.metric(name), images())
        assert card.lowest and card.at_identity == pytest.approx(at_identity)
        assert card.slope_at_identity is None
    card = metric_card(recbench.metric("sharpness_recon"), images())  # best at 1
    assert card.lowest


@pytest.mark.parametrize("shape", [SHAPE, ImageShape(1, 16, 16), ImageShape(2, 24, 20)], ids=str)
def test_distortions_keep_shape_and_range_and_grow(shape: ImageShape) -> None:
    target = images(shape)
    found = distortions(shape.channels)
    assert {each.kind for each in found} - {"JPEG"} == {"blur", "noise", "shift", "contrast"}
    assert ("JPEG" in {each.kind for each in found}) == (shape.channels in (1, 3))
    errors: dict[str, list[float]] = {}
    for each in found:
        distorted = each.apply(target)
        assert distorted.shape == target.shape and distorted.dtype == target.dtype
        assert distorted.min() >= -1e-6 and distorted.max() <= 1 + 1e-6
        errors.setdefault(each.kind, []).append(float((distorted - target).square().mean()))
    assert all(0 < one < two < three for one, two, three in errors.values())


def test_bands_share_out_all_frequencies() -> None:
    target = torch.zeros(2, 1, 32, 32)
    noises = [band_noise(target, band, 0.1) for band in range(BANDS)]
    for number, noise in enumerate(noises):
        assert float(noise.std()) == pytest.approx(0.1, rel=0.01)
        for other in noises[number + 1 :]:
            assert abs(float((noise * other).mean())) < 1e-6
