"""The events, requests and families that docs/plugins.md lists are those that there are."""

from __future__ import annotations

import inspect
import re
import typing
from dataclasses import MISSING, fields
from typing import Any

import pytest

import recbench
from recbench.contracts.executor import Reason
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry
from tests.conftest import ROOT
from tests.readme import section, table

PLUGINS = ROOT / "docs" / "plugins.md"
CONCEPTS = (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("given", "heading"),
    [
        (recbench.Auxiliary, "#### `Auxiliary`"),
        (recbench.Task, "#### `Task`"),
        (recbench.JobProgress, "#### `JobProgress`"),
        (recbench.Ended, "#### `Ended`"),
        (recbench.Run, "### Tracker"),
        (recbench.Reference, "### Metric"),
    ],
)
def test_every_field_is_listed_with_its_default(given: Any, heading: str) -> None:
    rows = table(section(PLUGINS, heading))
    assert list(rows) == [field.name for field in fields(given)]
    for field in fields(given):
        if len(rows[field.name]) == 3:
            default = field.default
            written = "required" if default is MISSING else f'"{default}"' if isinstance(default, str) else str(default)
            assert rows[field.name][1].strip("`") == written, field.name


def test_every_reason_and_outcome_is_named() -> None:
    rows = table(section(PLUGINS, "#### `Ended`"))
    outcomes = typing.get_type_hints(recbench.Ended)["outcome"]
    for row, choices in (("outcome", outcomes), ("reason", Reason)):
        assert all(f'`"{choice}"`' in rows[row][-1] for choice in typing.get_args(choices))


def test_run_task_is_described_with_its_arguments() -> None:
    arguments = ", ".join(inspect.signature(recbench.run_task).parameters)
    assert f"`recbench.run_task({arguments})`" in section(PLUGINS, "### Executor")


@pytest.mark.parametrize("kind", ["losses", "architectures", "datasets", "metrics"])
def test_what_there_is_is_named_in_the_concepts(kind: str) -> None:
    row = next(
        line for line in CONCEPTS.splitlines() if line.startswith(f"| {kind.replace('datasets', 'data sets')} |")
    )
    named = set(re.findall(r"`(\w+)`", row))
    there = {re.sub("_(recon|gen)$", "", registered.entry.name) for registered in Registry(load_plugins()).all(kind)}
    assert named == there


def test_every_family_is_listed_with_its_losses_and_metrics() -> None:
    registry = Registry(load_plugins())
    there: dict[str, tuple[set[str], set[str]]] = {}
    for index, kind in enumerate(("losses", "metrics")):
        for registered in registry.all(kind):
            entry: Any = registered.entry
            there.setdefault(entry.family, (set(), set()))[index].add(entry.name)
    rows = table(section(PLUGINS, "### Families"))
    listed = {
        name: tuple({word.strip("`") for word in cell.split()} - {"–"} for cell in row) for name, row in rows.items()
    }
    assert listed == there
