"""docs/examples/gan.py: it keeps its contract, trains, and continues bit for bit."""

from __future__ import annotations

import json
import unittest
from pathlib import Path
from typing import Any, cast

import pytest
import torch

import recbench as public
from recbench.contracts.entries import ImageShape, LossEntry
from recbench.contracts.loss import Setting
from recbench.job.parts import Model, create_loss
from recbench.job.training import Interrupted, TrainingImages, seed_everything, train
from recbench.plan.model import Training
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry
from recbench.testing import loss_cases
from tests.conftest import ROOT, TINY, Recbench
from tests.job.test_training import PIXELS, Network, history, state, watch

FILE = ROOT / "docs" / "examples" / "gan.py"
IMAGES = TrainingImages(train=PIXELS, validation=PIXELS[:0], traced=PIXELS[:0])


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry(load_plugins((str(FILE),)))


def test_it_passes_the_conformance_tests(registry: Registry) -> None:
    passed = 0
    variants: list[dict[str, Any]] = [{}, {"at_images": True, "layers": 1}]
    for case in loss_cases([cast(LossEntry, registry.get("losses", "gan").entry)], {"gan": variants}):
        try:
            case.run()
            passed += 1
        except unittest.SkipTest as reason:
            assert "GPU" in str(reason)
    assert passed >= 72


def test_it_trains_and_continues_bit_for_bit_across_its_start(registry: Registry, tmp_path: Path) -> None:
    def make() -> Model:
        seed_everything(0, deterministic=True)
        params: dict[str, Any] = {"disc_start": 3, "width": 4, "layers": 1, "disc_lr": 1e-2}
        loss = create_loss(registry.get("losses", "gan"), params, Setting(ImageShape(1, 8, 8), 3))
        return Model(Network(), loss, (-1.0, 1.0), (0.0, 1.0), kl_weight=0.1)

    config = Training(epochs=3, batch_size=16, learning_rate=1e-2)
    whole, started = make(), make()
    train(whole, IMAGES, config, 0, tmp_path / "whole", watch())
    for steps in (2, 3):
        left = iter(range(steps - 1, -1, -1))
        with pytest.raises(Interrupted):
            train(make(), IMAGES, config, 0, tmp_path / "parts", watch(lambda left=left: not next(left)))
    train(started, IMAGES, config, 0, tmp_path / "parts", watch())
    assert all(torch.equal(state(started)[name], value) for name, value in state(whole).items())
    lines = history(tmp_path / "whole")
    assert history(tmp_path / "parts") == lines
    assert "adaptive_weight" not in lines[0]
    assert all(line["adaptive_weight"] > 0 and line["auxiliary"] > 0 for line in lines[1:])


@pytest.mark.slow
def test_it_is_checked_and_run_from_the_command_line(tmp_path: Path, tiny: Path, recbench: Recbench) -> None:
    done = recbench("check", FILE, "--no-card")
    assert done.returncode == 0, done.stdout + done.stderr
    losses = "[{name: gan, kl_weight: 0.001}, {sum: [{name: l1}, {name: gan, weight: 0.5}], kl_weight: 0.001}]"
    options = ["--plugin", TINY, "--plugin", FILE, "--device", "cpu"]
    done = recbench("run", tiny, *options, "--set", f"losses={losses}", "--set", "seeds=[0]", RECBENCH_PREFLIGHT="1")
    assert done.returncode == 0, done.stdout + done.stderr
    results = public.load("tiny", results=tmp_path / "results", plugins=[TINY, FILE])
    table = results.history()
    both = [table[table["adaptive_weight"].notna()], table[table["gan.adaptive_weight"].notna()]]
    assert [len(each) for each in both] == [len(table) / 2] * 2
    records = [json.loads(file.read_text()) for file in tmp_path.glob("results/tiny/jobs/*/record.json")]
    assert any("gan.logits_target" in record["trained"]["final"] for record in records)


@pytest.mark.parametrize(
    ("params", "message"), [({"disc_weight": -1.0}, "below the minimum"), ({"layers": 0}, "minimum")]
)
def test_its_parameters_are_bounded(registry: Registry, params: dict[str, Any], message: str) -> None:
    entry = registry.get("losses", "gan").entry
    assert entry.complete({"disc_lr": 1}) == {
        "disc_weight": 0.8, "disc_start": 0, "disc_lr": 1.0, "width": 16, "layers": 2, "at_images": False,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        entry.complete(params)


def test_it_is_linked_from_the_page_on_plugins() -> None:
    assert "(examples/gan.py)" in (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
