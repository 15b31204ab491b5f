"""The conformance tests of one entry without pytest, and its card."""

from __future__ import annotations

import unittest
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from recbench.api.losses import StandaloneLoss
from recbench.api.metrics import StandaloneMetric
from recbench.contracts.dataset import SPLITS
from recbench.contracts.entries import DatasetEntry, Entry, ImageShape, LossEntry, MetricEntry
from recbench.contracts.loss import Setting
from recbench.data.weights import lacking
from recbench.errors import RecbenchError, UserError
from recbench.plugin.isolation import described
from recbench.plugin.registry import Registered, Registry
from recbench.testing import ArchitectureCase, architecture_cases, dataset_cases, loss_cases, metric_cases
from recbench.testing.card import COUNT, SIZE, Card, loss_card, metric_cards
from recbench.testing.case import LATENT, EntryCase

CASES = {
    "losses": loss_cases, "metrics": metric_cases, "architectures": architecture_cases, "datasets": dataset_cases,
}  # fmt: skip
"""The conformance tests by kind; executors and trackers have none."""


@dataclass(frozen=True)
class CheckedEntry:
    """The findings of the conformance tests, and the card.

    Attributes:
        passed: number of cases that passed.
        failures: the cases that failed, and why.
        skipped: reasons why cases were skipped, with their number.
        card: of a loss, or of a metric of images with one score; None for others, and where there is none.
        cards: those of a metric with several scores, by the names of these; empty for others.
        no_card: why there is none; empty where there is one.
        facts: about an architecture or data set, by what they are.
    """

    kind: str
    name: str
    provider: str
    params: dict[str, Any]
    passed: int
    failures: tuple[tuple[str, str], ...]
    skipped: dict[str, int]
    card: Card | None = None
    cards: dict[str, Card] = field(default_factory=dict)
    no_card: str = ""
    facts: dict[str, str] = field(default_factory=dict)


def check_entry(kind: str, registered: Registered, params: Mapping[str, Any], registry: Registry) -> CheckedEntry:
    """Run the conformance tests of an entry, and make its card.

    Args:
        kind: one of :data:`CASES`.
        registered: the entry.
        params: those that are not to have their defaults.
        registry: where photographs are taken from for the card.

    Raises:
        UserError: no images are accepted with these parameters.
    """
    entry = registered.entry
    try:
        make: Any = CASES[kind]
        cases: Sequence[EntryCase] = make([entry], {entry.name: [params]})
    except ValueError as error:
        raise UserError(str(error)) from None
    passed, failures, skipped = 0, [], Counter[str]()
    for case in cases:
        try:
            case.run()
            passed += 1
        except unittest.SkipTest as reason:
            skipped[str(reason).partition("\n")[0]] += 1
        except AssertionError as error:
            failures.append((str(case), " ".join(str(error).split()) or "an assertion of its own failed"))
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything
            failures.append((str(case), described(error)))
    cards: dict[str, Card] = {}
    no_card, facts = "", {}
    try:
        if isinstance(entry, LossEntry | MetricEntry):
            cards = _cards(registered, entry, params, registry)
        elif passed:
            facts = _facts(cases[0])
    except (RecbenchError, unittest.SkipTest, AssertionError) as error:
        no_card = " ".join(str(error).split())
    except Exception as error:  # noqa: BLE001
        no_card = described(error)
    card = cards.pop("", None)
    complete = entry.complete(params)
    return CheckedEntry(
        kind, entry.name, registered.plugin.provider, complete, passed, tuple(failures), dict(skipped), card, cards,
        no_card, facts,
    )  # fmt: skip


def _cards(
    registered: Registered, entry: LossEntry | MetricEntry, params: Mapping[str, Any], registry: Registry
) -> dict[str, Card]:
    """Return the card of each score by its name; an empty one for a loss, and for a metric of one score."""
    complete = entry.complete(params)
    sizes = (SIZE, 32, 16, 128, 256)
    shapes = [ImageShape(channels, size, size) for size in sizes for channels in (3, 1)]
    shape = next(shape for shape in shapes if not entry.refusals(shape, complete))
    reason = lacking(entry, shape, complete)
    if reason:
        raise UserError(f"it {reason}")
    images = _images(shape, entry, registry)
    if isinstance(entry, MetricEntry):
        return metric_cards(StandaloneMetric(registered, complete, shape), images)
    loss = StandaloneLoss(registered, complete, Setting(shape, LATENT), (0.0, 1.0), 0, LATENT)
    return {"": loss_card(loss.eval(), images)}


def _images(shape: ImageShape, entry: Entry, registry: Registry) -> Tensor:
    """Return crops of photographs, float32 (COUNT, C, H, W) in 0 to 1; made-up images where there are none."""
    photos = registry.find("datasets", "photos")
    if photos is None:
        return EntryCase(entry, {}, shape, lambda case: None).pixels(COUNT, torch.float32)
    counts = {"train": 1, "validation": 0, "test": COUNT}
    found = list(photos.create({"size": shape.height, **counts}).images("test"))
    pixels = torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).float() / 255
    return pixels.mean(1, keepdim=True) if shape.channels == 1 else pixels.contiguous()


def _facts(case: EntryCase) -> dict[str, str]:
    """Return what there is to know of an architecture or a data set."""
    if isinstance(case, ArchitectureCase):
        network = case.create()
        count = sum(parameter.numel() for parameter in network.parameters())
        shown = " x ".join(f"{side:,}" for side in network.latent_shape)
        return {"images": str(case.shape), "parameters": f"{count:,}", "latent": shown}
    entry = cast(DatasetEntry, case.entry)
    dataset = case.make()
    counts = {split: dataset.image_count(split) for split in SPLITS}
    shown = ", ".join(f"{split} {'?' if count is None else f'{count:,}'}" for split, count in counts.items())
    return {"images": str(dataset.shape), "splits": shown, "licence": entry.licence or "not said"}
