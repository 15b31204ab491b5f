"""What commands print on terminals of 80, 100 and 140 columns: nothing is cut off, and no word is broken."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.cells import cell_len

from recbench.cli.layout import Grid, lay_out
from recbench.cli.text import folded, wrapped
from recbench.plan.model import Column
from recbench.render.columns import TableEntry
from recbench.store.record import Score
from recbench.store.store import Store
from tests.made_up import make_plan, make_record, make_trouble
from tests.render.test_leaderboard import on_a_terminal
from tests.synthetic import World

COLUMNS = (
    Column(name="psnr", direction="higher", unit="dB", digits=2),
    Column(name="ssim", direction="higher", digits=4),
    Column(name="lpips", direction="lower", digits=4),
    Column(name="sharpness_recon", direction=1.0, digits=3),
)
ODD = ["[bold]wiener[/]", "损失函数 β=½", "$x_1$ \x1b[31m", "charbonnier epsilon=0.30000000000000004 kl_weight=0.05"]


@pytest.fixture(scope="module")
def forty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder of a suite with forty methods with scores per image, and with jobs that failed and
    diverged."""
    methods = [*ODD, *(f"loss {number:02}" for number in range(36))]
    plan = make_plan([*methods, "fails", "diverges", "waits"], seeds=[0, 1, 2], columns=COLUMNS)
    store = Store(tmp_path_factory.mktemp("forty") / "results" / plan.suite)
    store.write_plan(plan, "")
    scores = World([0.4 * i for i in range(40)], 3, 30, training=0.3, both=0.5, rest=0.5).scores(
        np.random.default_rng(0)
    )
    for planned in plan.jobs:
        label = plan.methods[planned.method].label
        if label in ("fails", "diverges"):
            status = "failed" if label == "fails" else "diverged"
            message = "the loss returned [nan] for image 7 of the batch, " * 4
            store.add(make_trouble(plan, planned, status, message=message))
        if planned.method >= 40:
            continue
        mine = scores[planned.method][planned.seed]
        values = {column.name: mine if column.direction == "higher" else 30 - mine for column in COLUMNS}
        found = {name: Score(mean=float(v.mean()), std=float(v.std()), n=30) for name, v in values.items()}
        store.add(make_record(plan, planned, found))
        pd.DataFrame(values).to_parquet(store.folder(planned.id) / "scores.parquet")
    return store.root.parent


def shown(environment: dict[str, str], width: int, *arguments: object) -> str:
    command = [sys.executable, "-m", "recbench", *map(str, arguments)]
    return re.sub(r"\x1b\[[0-9;]*m", "", on_a_terminal(command, {**environment, "COLUMNS": str(width)}, width))


@pytest.mark.parametrize("width", [80, 100, 140])
def test_forty_methods_fit(forty: Path, environment: dict[str, str], width: int) -> None:
    text = shown(environment, width, "leaderboard", "--results", forty)
    assert max(map(cell_len, text.splitlines())) <= width
    words = text.split()
    assert words.count("23") >= 1
    for word in ("significantly", "[bold]wiener[/]", "损失函数", "sharpness_recon", "epsilon=0.30000000000000004"):
        assert word in words, word
    assert "$x_1$ ?[31m" in text
    for label in (f"loss {number:02}" for number in range(36)):
        assert re.search(rf"\d+(–\d+)?  +([a-zA-Z–]+ +)?{label} ", text), label
    assert all(f"0/3 {state}" in text for state in ("failed", "diverged", "incomplete"))
    assert "fails, seeds 0, 1 and 2 failed: RuntimeError: the loss returned [nan] for image 7" in " ".join(words)


def test_the_verdict_of_forty_methods_is_a_sentence(forty: Path, environment: dict[str, str]) -> None:
    lines = shown(environment, 400, "leaderboard", "--results", forty).splitlines()
    said = r"loss \d+, .* do not differ significantly; all are better than .* others; .* others are each worse "
    said += "than some other method"
    assert re.fullmatch(rf"{said}; 3 methods are not ranked \(1 diverged, 1 failed, 1 incomplete\)\.", lines[1])


def test_forty_methods_have_many_tiers(forty: Path, environment: dict[str, str]) -> None:
    """Though chains link the first to the last."""
    text = shown(environment, 400, "leaderboard", "--results", forty, "--columns", "tier,rank,method")
    rows = [re.split(r"  +", line.strip()) for line in text.splitlines() if re.match(r" *\S+ +\d+–?\d* +", line)]
    assert len(rows) == 40
    first, last = rows[0], rows[-1]
    assert not set(first[0]) & set(last[0])
    assert int(first[1].split("–")[-1]) < int(last[1].split("–")[0])


@pytest.mark.parametrize("width", [80, 100, 140])
@pytest.mark.parametrize("arguments", [["status"], ["leaderboard", "--wide"], ["list", "losses"], ["show", "wiener"]])
def test_other_commands_fit(forty: Path, environment: dict[str, str], width: int, arguments: list[str]) -> None:
    where = [] if arguments[0] in ("list", "show") else ["--results", forty]
    text = shown(environment, width, *arguments, *where)
    assert text
    assert max(map(cell_len, text.splitlines())) <= width


# The parts


def test_words_stay_whole_and_wide_characters_take_two_cells() -> None:
    assert folded("all are better than ssim", 10) == ["all are", "better", "than ssim"]
    assert folded("漢字漢字 ab", 6) == ["漢字漢", "字 ab"]
    assert folded("  indented text", 10) == ["  indented", "  text"]
    assert wrapped("  one two  three four", 12) == "  one two\n  three four"
    assert wrapped("see /a/path/that/is/long now", 10) == "see\n/a/path/that/is/long\nnow"


def grid(rows: list[list[str]], width: int | None, left: tuple[int, ...] = (0,)) -> list[str]:
    entries = [[TableEntry(*text.split("/")[:1], under=text.partition("/")[2]) for text in row] for row in rows]
    return "\n".join(part.plain for part in lay_out(Grid(entries, 1, left), width)).splitlines()


def test_words_stay_beside_each_other_where_the_table_has_as_many_parts() -> None:
    rows = [["name", "psnr", "ssim", "KL"], ["a method", "20.1/19–21", "0.5/0.4–0.6", "17"]]
    lines = [line.split() for line in grid(rows, 23) if line]
    assert lines[1] == ["a", "method", "20.1"]
    assert [line[0] for line in lines].count("name") == 2  # as with the words below each other


def test_a_table_is_on_one_line_then_stacked_then_in_parts() -> None:
    rows = [["name", "psnr", "ssim"], ["a method", "20.1/19–21", "0.5/0.4–0.6"]]
    assert grid(rows, None)[:2] == ["name              psnr           ssim", "a method  20.1 [19–21]  0.5 [0.4–0.6]"]
    assert [line for line in grid(rows, 28) if line] == [
        "name       psnr     ssim",
        "a method   20.1      0.5",
        "          19–21  0.4–0.6",
    ]
    assert [line for line in grid(rows, 22) if line][1:3] == ["a        20.1      0.5", "method  19–21  0.4–0.6"]
    parts = [line for line in grid(rows, 17) if line]
    assert [line.split() for line in parts].count(["name", "psnr"]) == 1
    assert [line.split() for line in parts].count(["name", "ssim"]) == 1
    assert max(map(len, parts)) <= 17
