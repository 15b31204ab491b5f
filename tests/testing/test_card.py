"""Cards: what they say of losses and metrics whose answer is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import pytest
import torch
from torch import Tensor

import recbench
from recbench import LossEntry, MetricEntry, MetricScore
from recbench.api.losses import StandaloneLoss
from recbench.api.metrics import StandaloneMetric
from recbench.contracts.entries import ImageShape
from recbench.contracts.loss import Context, Loss, Setting
from recbench.contracts.metric import ImageMetric, Metric, SetMetric
from recbench.plugin.manager import Plugin
from recbench.plugin.registry import Registered
from recbench.testing.card import Card, loss_card, metric_cards
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
        card = metric_cards(recbench.metric(name), images())[""]
        assert card.lowest and card.at_identity == pytest.approx(at_identity)
        assert card.slope_at_identity is None
    card = metric_cards(recbench.metric("sharpness_recon"), images())[""]  # best at 1
    assert card.lowest and card.direction == 1


class Several(ImageMetric):
    """Mean error, the standard deviation of what was decoded, and one that never changes."""

    calls = 0

    def forward(self, decoded: Tensor, target: Tensor) -> Mapping[str, Tensor]:
        Several.calls += 1
        spread = decoded.flatten(1).std(1)
        return {"error": (decoded - target).abs().mean((1, 2, 3)), "spread": spread, "none": torch.zeros_like(spread)}


class OfSets(SetMetric):
    """Errors of the whole set."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[Tensor] = []

    def update(self, decoded: Tensor, target: Tensor) -> None:
        self.errors.append((decoded - target).abs().flatten(1))

    def compute(self) -> Mapping[str, float]:
        errors = torch.cat(self.errors)
        return {"error": float(errors.mean()), "largest": float(errors.max())}


def several(metric: type[Metric], *scores: MetricScore) -> StandaloneMetric:
    entry = MetricEntry(name="several", factory=lambda shape: metric(), summary="", direction="lower", scores=scores)
    return StandaloneMetric(Registered(entry, PLUGIN), {}, SHAPE)


def test_each_score_of_a_metric_has_its_own_card_from_the_same_calls() -> None:
    plain = metric_cards(recbench.metric("l1"), images())[""]
    scores = (MetricScore(name="error"), MetricScore(name="spread", direction="higher"), MetricScore(name="none"))
    Several.calls = 0
    cards = metric_cards(several(Several, *scores), images())
    assert list(cards) == ["error", "spread", "none"]
    assert Several.calls < 2 * (1 + 15 + 3 + BANDS), "as often as for one score"
    error, spread, none = cards.values()
    assert [each.value for each in error.responses] == pytest.approx([each.value for each in plain.responses])
    assert error.spectrum == pytest.approx(plain.spectrum) and error.kinds == pytest.approx(plain.kinds)
    assert (error.direction, spread.direction) == ("lower", "higher")
    assert error.lowest and not spread.lowest
    better = {each.kind for each in spread.responses if each.better}
    assert "noise" in better and not better & {"blur", "contrast"}
    assert none.lowest and all(math.isnan(ratio) for ratio in none.kinds.values())


def test_a_metric_of_sets_has_a_card_for_each_score() -> None:
    cards = metric_cards(several(OfSets, MetricScore(name="error"), MetricScore(name="largest")), images())
    assert list(cards) == ["error", "largest"]
    assert all(card.lowest and card.at_identity == 0 and card.deterministic for card in cards.values())
    assert all(one.value < two.value for one, two in zip(*(card.responses for card in cards.values()), strict=True))


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
