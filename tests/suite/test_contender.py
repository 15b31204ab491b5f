"""The suites of ``recbench try``: the board's in all but losses, and images where they are here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from recbench.errors import UserError
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry
from recbench.suite.contender import contending, relocated, shortened

RESOLVED: dict[str, Any] = {
    "name": "board",
    "datasets": [{"name": "cifar10", "params": {"root": "/of/another/machine", "validation": 0.1}}],
    "losses": [{"name": "l2"}, {"name": "wiener"}],
    "published": [{"source": "a paper"}],
    "seeds": [3, 4],
    "training": {"epochs": 8, "batch_size": 2},
    "tuning": {"budget": 5, "params": {"wiener": {"C": {"low": 1, "high": 2}}}},
}


def test_only_losses_and_the_name_differ() -> None:
    made = yaml.safe_load(contending(RESOLVED, ["cauchy"], "board-try"))
    assert made == {
        **{key: value for key, value in RESOLVED.items() if key != "published"},
        "name": "board-try",
        "losses": [{"name": "cauchy"}],
        "tuning": {"budget": 5},  # so that its own tunable parameters are tuned, as those of the board's losses were
    }
    plain = {**RESOLVED, "tuning": {"budget": 5, "params": {}}}
    assert yaml.safe_load(contending(plain, ["cauchy"], "x"))["tuning"] == {"budget": 5, "params": {}}


def test_a_suite_without_tuning_is_refused() -> None:
    with pytest.raises(UserError, match="without tuning"):
        contending({key: value for key, value in RESOLVED.items() if key != "tuning"}, ["cauchy"], "x")


def test_a_quick_try_has_one_seed_and_fewer_epochs() -> None:
    made = yaml.safe_load(shortened(RESOLVED, {"l2": 0.1, "cauchy": 0.5}, "board-try-quick", 2))
    assert made["seeds"] == [3]
    assert made["training"] == {"epochs": 2, "batch_size": 2}
    assert made["losses"] == [{"name": "l2", "kl_weight": 0.1}, {"name": "cauchy", "kl_weight": 0.5}]
    assert "tuning" not in made


@pytest.mark.parametrize(("shipped", "root"), [("data/cifar10", "data/cifar10"), (None, None)])
def test_images_are_where_the_suite_file_has_them_not_where_the_board_was_made(
    tmp_path: Path, shipped: str | None, root: str | None
) -> None:
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(RESOLVED))
    file = tmp_path / "board.yaml"
    file.write_text(yaml.safe_dump({"datasets": [{"name": "cifar10", "params": {"root": shipped}}]}))
    found = relocated(tmp_path / "suite.yaml", file if shipped else None, Registry(load_plugins()))
    assert found["datasets"][0]["params"].get("root") == root
    assert found["datasets"][0]["params"]["validation"] == 0.1
