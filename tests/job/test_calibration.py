"""Calibration against closed forms of gradients, and that it changes nothing that it should not."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from recbench.data.cache import prepare
from recbench.errors import UserError
from recbench.job.calibration import complete, measure
from recbench.plan.model import ComponentSpec
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry
from recbench.store import scales
from recbench.suite.suite import Suite, load_suite
from tests.conftest import TINY, Recbench

SUITE = """\
name: scaled
datasets: [{name: blobs, params: {size: 16}}]
architectures: [linear]
losses: [l2, l1, ssim]
seeds: [3]
training: {epochs: 2, batch_size: 16, learning_rate: 1e-2}
metrics: [psnr, ssim]
tuning: {budget: 3, kl_weight: {low: 1e-3, high: 0.1}, select: {metric: ssim}, calibration_steps: 6}
"""

ODD = """
from recbench import LossEntry, Parameter, hookimpl

def _classes():
    import random
    import numpy as np
    import torch
    from recbench.contracts.loss import Loss

    class Times(Loss):
        def __init__(self, setting, *, factor, noisy):
            super().__init__()
            self.factor, self.noisy = factor, noisy
            self.weight = torch.nn.Parameter(torch.ones(()))
            torch.rand(3)

        def forward(self, decoded, target, context):
            noise = (random.random() + np.random.rand() + torch.rand(())) if self.noisy else 0
            return (self.factor + noise) * self.weight * 0.5 * (decoded - target).square().sum((1, 2, 3))

    return {"Times": Times}

def __getattr__(name):
    if name == "Times":
        return _classes()[name]
    raise AttributeError(name)

@hookimpl
def recbench_losses():
    yield LossEntry(
        name="times", factory=f"{__name__}:Times", summary="",
        parameters=(Parameter("factor", float, 1.0, ""), Parameter("noisy", bool, False, "")),
    )
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    odd = tmp_path_factory.mktemp("odd") / "odd.py"
    odd.write_text(ODD)
    return Registry(load_plugins([TINY, odd]))


@pytest.fixture
def suite(registry: Registry, tmp_path: Path) -> Suite:
    (tmp_path / "s.yaml").write_text(SUITE)
    return load_suite(tmp_path / "s.yaml", registry)


def part(registry: Registry, name: str, **params: object) -> ComponentSpec:
    registered = registry.get("losses", name)
    return ComponentSpec(name=name, params=registered.entry.complete(params), code=registered.code)


def test_l2_has_the_scale_one_and_l1_a_gradient_of_known_length(suite: Suite, registry: Registry, cache: Path) -> None:
    """The gradient of L1 is ±1 per value in 0 to 1, so ±1/2 in the network's -1 to 1: √(3·16·16)/2 in all."""
    losses = [("l2", part(registry, "l2")), ("l1", part(registry, "l1"))]
    l2, l1 = measure(suite.plan.settings[0], losses, registry, cache, steps=3)
    assert l2.scale == 1
    assert l2.norm == pytest.approx(l2.reference)
    assert l1.norm == pytest.approx(math.sqrt(3 * 16 * 16) / 2, rel=1e-6)
    assert l1.scale == pytest.approx(l1.norm / l1.reference, rel=0.05)  # two significant digits
    assert l1.scale == float(f"{l1.scale:.2g}")


def test_the_first_step_is_that_of_the_network_as_it_is_made(suite: Suite, registry: Registry, cache: Path) -> None:
    """By hand: the gradient of L2 with respect to the image in -1 to 1 is (decoded − target) / 4."""
    from recbench.job.runner import shape_of
    from recbench.job.training import epoch_order, seed_everything

    setting = suite.plan.settings[0]
    prepared = prepare(setting.dataset, registry, cache)
    (found,) = measure(setting, [("l2", part(registry, "l2"))], registry, cache, seed=5, steps=1)
    seed_everything(5, deterministic=True)
    network = registry.get("architectures", "linear").create(setting.architecture.params, shape_of(prepared))
    images = torch.from_numpy(prepared.load("train")[epoch_order(64, 5, 1)[:16].numpy()])
    target = images.float() / 127.5 - 1
    decoded = network.decode(network.encode(target).sample())
    norm = ((decoded - target) / 4).flatten(1).norm(dim=1).mean()
    assert found.norm == pytest.approx(norm.item(), rel=1e-5)


@pytest.mark.parametrize("factor", [1e-6, 3.0, 2e5])
def test_a_multiple_of_l2_has_that_multiple_as_its_scale(
    factor: float, suite: Suite, registry: Registry, cache: Path
) -> None:
    """The loss's own weight learns, from 1 on, with steps of 0.01."""
    losses = [("times", part(registry, "times", factor=factor))]
    (found,) = measure(suite.plan.settings[0], losses, registry, cache, steps=3)
    assert found.scale == pytest.approx(factor, rel=0.05)


def test_losses_do_not_disturb_each_other_and_the_same_comes_out_again(
    suite: Suite, registry: Registry, cache: Path
) -> None:
    def find(*losses: tuple[str, ComponentSpec]) -> list[scales.Scale]:
        return measure(suite.plan.settings[0], losses, registry, cache, steps=4)

    noisy, ssim = ("noisy", part(registry, "times", noisy=True)), ("ssim", part(registry, "ssim"))
    assert find(ssim) == find(noisy, ssim)[1:] == find(ssim, noisy)[:1]
    assert find(noisy) == find(ssim, noisy)[1:]


@pytest.mark.parametrize("factor", [0.0, math.inf])
def test_a_loss_without_a_gradient_has_no_scale(factor: float, suite: Suite, registry: Registry, cache: Path) -> None:
    losses = [("times", part(registry, "times", factor=factor))]
    with pytest.raises(UserError, match=r"times has no scale: in step 1 .* scale: 1"):
        measure(suite.plan.settings[0], losses, registry, cache, steps=3)


def test_what_was_measured_is_kept_by_setting_and_loss(
    suite: Suite, registry: Registry, cache: Path, tmp_path: Path
) -> None:
    def find(plan_suite: Suite, steps: int = 2) -> dict[tuple[int, str], scales.Scale]:
        return complete(
            plan_suite.plan,
            scales.wanted(plan_suite.plan),
            registry,
            tmp_path / "results",
            cache,
            seed=3,
            steps=steps,
            device=torch.device("cpu"),
        )

    first = find(suite)
    file = tmp_path / "results" / scales.FILE
    before = file.stat().st_mtime_ns
    assert find(suite) == first
    assert file.stat().st_mtime_ns == before
    find(suite, steps=3)
    assert file.stat().st_mtime_ns != before
    assert len(json.loads(file.read_text())["scales"]) == 2
    longer = load_suite(tmp_path / "s.yaml", registry, ["training.epochs=9"])
    other = load_suite(tmp_path / "s.yaml", registry, ["training.batch_size=8"])
    known = [
        scales.known(s.plan, scales.wanted(s.plan), scales.reference(registry), tmp_path / "results", 3, 2)
        for s in (suite, longer, other)
    ]
    assert known == [first, first, {}]


@pytest.mark.parametrize("content", ["", "{}x", '{"scales": 3}', '{"scales": {"a": {"b": {"scale": -1}}}}'])
def test_a_damaged_file_is_told(content: str, tmp_path: Path) -> None:
    (tmp_path / scales.FILE).write_text(content)
    with pytest.raises(UserError, match="remove it"):
        scales.read(tmp_path)


@pytest.mark.slow
def test_the_command_prints_and_keeps_the_scales(recbench: Recbench, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(SUITE)
    call = ("calibrate", "s.yaml", "--plugin", TINY, "--set", "losses=[l2, {name: l1, scale: 9}]")
    first = recbench(*call)
    assert first.returncode == 0, first.stderr
    assert "blobs · linear: gradients over the first 6 steps" in first.stdout
    l2, l1 = (line.split() for line in first.stdout.splitlines()[2:4])
    assert l2[:2] == ["l2", "1"]
    assert (l1[0], l1[-1]) == ("l1", "9")
    data = json.loads(recbench(*call, "--format", "json").stdout)
    assert data["blobs · linear"]["l2"]["scale"] == 1.0
    assert set(data["blobs · linear"]) == {"l1", "l2"}
    assert "scale: 1.0" in recbench(*call, "--format", "yaml").stdout
    assert "first 2 steps" in recbench(*call, "--steps", 2).stdout
    wrong = recbench(*call[:-1], "losses=[l2, {name: misbehaving, params: {what: nan}}]")
    assert wrong.returncode == 2
    assert "misbehaving has no scale" in wrong.stderr
    assert "Traceback" not in wrong.stderr
