from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from recbench.analysis.across import across, compare_ranks
from recbench.analysis.board import Leaderboard
from recbench.analysis.ranking import rank
from recbench.plan.model import Column
from recbench.store.record import Score
from recbench.store.store import Store
from tests.conftest import Recbench
from tests.made_up import make_plan, make_record

DEMSAR = np.array(
    [
        [0.763, 0.768, 0.771, 0.798], [0.599, 0.591, 0.590, 0.569], [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657], [0.882, 0.888, 0.886, 0.898], [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685], [0.583, 0.583, 0.563, 0.625], [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000], [0.940, 0.962, 0.965, 0.962], [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975], [0.957, 0.978, 0.946, 0.970],
    ]
)  # fmt: skip
"""Areas under the curve of four variants of C4.5 on 14 data sets: Demšar 2006, table 6. Two that are printed alike are
ranked second and third there, hence the 1."""
VARIANTS = ["C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf"]


def test_demsars_example_gives_the_numbers_of_his_paper() -> None:
    found = compare_ranks(VARIANTS, [str(i) for i in range(14)], -DEMSAR)
    ranks = dict(zip(found.methods, found.average_ranks, strict=True))
    assert {name: round(rank, 3) for name, rank in ranks.items()} == {
        "C4.5": 3.143, "C4.5+m": 2.000, "C4.5+cf": 2.893, "C4.5+m+cf": 1.964
    }  # fmt: skip
    assert found.critical_difference == pytest.approx(1.25, abs=0.005)
    # The paper's statistic leaves ties uncorrected (9.28); corrected it is larger by what they take from the spread.
    average = np.array(found.average_ranks)
    plain = 12 * 14 / (4 * 5) * ((average**2).sum() - 4 * 25 / 4)
    assert plain == pytest.approx(9.28, abs=0.005)
    spread = sum((stats.rankdata(line) ** 2).sum() - 25 for line in DEMSAR)
    assert found.friedman is not None
    assert found.friedman[0] == pytest.approx(plain * (14 * 5.0) / spread, rel=1e-12)
    # Section 3.2.2: the post-hoc test is not powerful enough to tell any two apart.
    assert [(pair.better, pair.worse) for pair in found.pairs if pair.nemenyi] == []


@pytest.mark.parametrize("seed", range(5))
def test_friedman_is_scipys(seed: int) -> None:
    costs = np.round(np.random.default_rng(seed).normal(size=(9, 5)), 1)  # with ties
    expected = stats.friedmanchisquare(*costs.T)
    found = compare_ranks(list("abcde"), list("123456789"), costs)
    assert found.friedman == pytest.approx((expected.statistic, expected.pvalue), rel=1e-9)


def test_wilcoxon_is_scipys_exact_one_where_nothing_ties() -> None:
    costs = np.random.default_rng(3).normal(size=(10, 3)) + np.array([0, 1.5, 3])
    found = compare_ranks(list("abc"), [str(i) for i in range(10)], costs)
    raw = {
        (i, j): stats.wilcoxon(costs[:, i], costs[:, j], method="exact").pvalue
        for i, j in itertools.combinations(range(3), 2)
    }
    largest = sorted(raw.values())
    corrected = {p: max(q * (3 - k) for k, q in enumerate(largest) if q <= p) for p in largest}
    for pair in found.pairs:
        p = raw["abc".index(pair.better), "abc".index(pair.worse)]
        assert pair.wilcoxon == pytest.approx(min(1, corrected[p]), rel=1e-9)


def test_few_boards_tell_nothing_apart_however_they_agree() -> None:
    """All five boards agree, and all differences of ranks tie: a normal approximation would call that significant."""
    found = compare_ranks(["a", "b"], list("12345"), np.tile([1.0, 2.0], (5, 1)))
    (pair,) = found.pairs
    assert pair.wilcoxon == pytest.approx(2 / 2**5)
    assert found.wilcoxon_groups == ((0, 1),)
    assert found.iman_davenport == (math.inf, 0.0)


def test_equal_methods_have_no_tests_and_one_bar() -> None:
    found = compare_ranks(["a", "b"], list("123"), np.ones((3, 2)))
    assert (found.friedman, found.iman_davenport, found.pairs[0].wilcoxon) == (None, None, None)
    assert found.nemenyi_groups == found.wilcoxon_groups == ((0, 1),)


def leaderboard_of(methods: list[str], settings: list[str], suite: str, better: bool = True) -> Leaderboard:
    columns = (Column(name="psnr", direction="higher"), Column(name="mse", direction="lower"))
    plan = make_plan(methods, seeds=[0], settings=settings, columns=columns).model_copy(update={"suite": suite})
    records = {}
    for planned in plan.jobs:
        worth = float(planned.method if better else -planned.method)
        scores = {"psnr": Score(mean=-worth, std=1.0, n=8), "mse": Score(mean=worth, std=1.0, n=8)}
        records[planned.id] = make_record(plan, planned, scores)
    return rank(plan, records, confidence=None)


def test_methods_are_matched_by_label_and_the_rest_is_named() -> None:
    boards = [leaderboard_of(["a", "b", "c"], ["x", "y"], "one"), leaderboard_of(["b", "d", "a"], ["x"], "two")]
    found = across(boards)
    assert found.boards == ("one: x", "one: y", "two: x")
    assert (found.methods, found.left_out) == (("a", "b"), ("c", "d"))
    assert found.ranks == ((1.0, 2.0), (1.0, 2.0), (2.0, 1.0))
    assert across(boards, "mse").ranks == found.ranks == across(boards, "psnr").ranks


def test_what_cannot_be_compared_is_said() -> None:
    with pytest.raises(ValueError, match=r"at least two boards .*, got 1"):
        across([leaderboard_of(["a", "b"], ["x"], "one")])
    with pytest.raises(ValueError, match=r"at least two methods .* all 2 boards .*, got 0"):
        across([leaderboard_of(["a", "b"], ["x"], "one"), leaderboard_of(["c", "d"], ["x"], "two")])


@pytest.mark.slow
def test_the_command_prints_writes_and_draws(recbench: Recbench, tmp_path: Path) -> None:
    for suite, methods in (("one", ["a", "b", "c_$x"]), ("two", ["b", "a", "c_$x"])):
        plan = make_plan(methods, seeds=[0]).model_copy(update={"suite": suite})
        store = Store(tmp_path / "results" / suite)
        store.write_plan(plan, "")
        for planned in plan.jobs:
            scores = {name: Score(mean=float(planned.method), std=1.0, n=8) for name in plan.metrics}
            store.add(make_record(plan, planned, scores))
    done = recbench("across", "one", "two", "--metric", "mse")
    assert done.returncode == 0, done.stderr
    assert "critical difference" in done.stdout
    assert "one: photos · vae" in done.stdout
    data = json.loads(recbench("across", "one", "two", "--metric", "mse", "--format", "json").stdout)
    assert data["average_ranks"] == [1.5, 1.5, 3.0]
    for suffix, magic in ((".pdf", b"%PDF"), (".png", b"\x89PNG"), (".svg", b"<?xml")):
        file = tmp_path / f"cd{suffix}"
        drawn = recbench("across", "one", "two", "--output", file)
        assert (drawn.returncode, drawn.stdout) == (0, ""), drawn.stderr
        assert file.read_bytes().startswith(magic)
    done = recbench("across", "one", "--metric", "nothing")
    assert (done.returncode, "no such metric" in done.stderr) == (2, True)
    done = recbench("across", "one")
    assert (done.returncode, "at least two boards" in done.stderr) == (2, True)
