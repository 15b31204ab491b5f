"""docs/architectures.md says what there is: its tables are up to date, and its numbers are those of the networks."""

from __future__ import annotations

import importlib.util
import re
from types import ModuleType

import pytest

from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry
from tests.conftest import ROOT

DOCUMENT = ROOT / "docs" / "architectures.md"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("architectures_script", ROOT / "benchmarks" / "architectures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_are_up_to_date(script: ModuleType) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text == script.written(text), "run: python benchmarks/architectures.py --write docs/architectures.md"


def test_every_architecture_of_the_family_is_described(script: ModuleType) -> None:
    found = next(plugin for plugin in load_plugins().found if plugin.name == "recbench-architectures")
    offered = {entry.name for entry in found.entries["architectures"]}
    headings = re.findall(r"^### (\w+)(?: and (\w+))?$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert {name for pair in headings for name in pair if name} - {"Parameters"} == offered
    trained = {entry.name for entry in found.entries["architectures"] if entry.trainable}
    assert {name for name, _ in script.VARIANTS} == trained


@pytest.mark.parametrize(("reading", "millions", "gflop"), [("outputs", 26.1, 3.31), ("inputs", 21.9, 1.50)])
def test_the_cost_of_a_training_step_is_the_measured_one(
    script: ModuleType, reading: str, millions: float, gflop: float
) -> None:
    """Forward and backward, of which the text speaks, at 64 pixels and with 1024 hidden nodes."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    found = Registry(load_plugins()).get("architectures", "vae_bredell")
    network = script.create(found, 64, {"decoder_widths": reading, "hidden": 1024})
    assert sum(parameter.numel() for parameter in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)
    with FlopCounterMode(display=False) as counter:
        network.decode(network.encode(torch.empty(1, 3, 64, 64, device="meta")).mean).sum().backward()
    assert counter.get_total_flops() / 1e9 == pytest.approx(gflop, abs=0.01)
    text = DOCUMENT.read_text(encoding="utf-8")
    assert f"{millions} million" in text
    assert f"{gflop:.2f} GFLOP" in text


def test_a_document_without_a_place_for_the_tables_is_refused(script: ModuleType) -> None:
    with pytest.raises(ValueError, match="0 places"):
        script.written("# Architectures\n")
