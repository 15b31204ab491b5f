"""``docs/findings.md`` is what its command writes, and its verdicts are those of the boards."""

from __future__ import annotations

from pathlib import Path

import pytest

from recbench.analysis.ranking import rank_stored
from recbench.report.findings import PrintedTable, findings, orderings, printed_tables
from recbench.shipped import boards, suites
from tests.report_store import write_store

LABELS = ("l2", "ce", "ffl", "l1", *(f"other{number}" for number in range(20)), "wiener", "a", "b", "c")
"""Losses from the best PSNR to the worst; the last three are not ranked."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory):
    return write_store(tmp_path_factory.mktemp("made") / "made", methods=len(LABELS), labels=LABELS)


def test_the_page_is_what_the_boards_say(cache: Path) -> None:
    written = (Path(__file__).parents[2] / "docs" / "findings.md").read_text(encoding="utf-8")
    assert findings({name: board.store(cache) for name, board in boards().items()}, suites()) == written


def test_verdicts_follow_from_the_scores_of_the_board(made) -> None:
    plan, store = made
    (board,) = rank_stored(plan, store, dict(store.scan(plan).records)).boards
    table = PrintedTable("a paper, table 1", ("photos",), {
        "wiener": {"psnr": 20.7, "lpips": 0.13}, "l2": {"psnr": 20.4, "lpips": 0.22}, "ce": {"psnr": 20.1},
    }, dict.fromkeys(("wiener", "l2", "ce"), ""))  # fmt: skip
    found = {(each.better, each.worse, each.judged.name): each for each in orderings(board, None, [table])}
    assert set(found) == {
        ("wiener", "l2", "psnr"), ("wiener", "ce", "psnr"), ("l2", "ce", "psnr"), ("wiener", "l2", "lpips"),
    }  # fmt: skip
    assert found["wiener", "l2", "psnr"].verdict == "fails"
    assert found["wiener", "ce", "psnr"].verdict == "fails"
    assert found["l2", "ce", "psnr"].verdict == "undecided"  # 0.08 dB apart
    turned = PrintedTable(
        "another, table 1", (), {"l2": {"psnr": 2.0}, "wiener": {"psnr": 1.0}}, {"l2": "", "wiener": "x"}
    )
    (only,) = orderings(board, None, [turned])
    assert (only.verdict, only.apart) == ("holds", True)


def test_failing_claims_are_said_plainly(made) -> None:
    plan, store = made
    text = findings({plan.suite: store}, suites())
    assert "Bredell et al. 2023, table 5: `wiener` is **not** better than `l2` by psnr" in text
    advice = next(line for line in text.splitlines() if line.startswith("- For psnr:"))
    assert "`l2`" in advice
    assert "`wiener`" not in advice
    assert "Not ranked: " in text


def test_parts_of_a_printed_table_are_joined() -> None:
    tables = {table.source: table for table in printed_tables(suites())}
    assert set(tables["Kim and Jo, table 1"].scores) == {"l2", "mix"}
    assert tables["Kim and Jo, table 1"].architectures == {"l2": "standard_ae", "mix": "freq_latent_ae"}
    assert tables["Bredell et al. 2023, table 5"].scores["wiener"]["psnr"] == 20.7
