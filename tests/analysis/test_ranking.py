from __future__ import annotations

import math
import random
from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.stats import rankdata, t

from recbench.analysis.board import Board, Leaderboard, Row
from recbench.analysis.ranking import rank
from recbench.plan.model import Column
from recbench.plan.plan import Plan
from recbench.render.board import details_legend
from recbench.store.record import Cost, Record, Score
from tests.made_up import COLUMNS, make_plan, make_record, make_trouble

PerImage = dict[tuple[str, int, str], NDArray[np.float64]]


def made_up_scores(plan: Plan, seed: int, images: int = 32) -> PerImage:
    """Scores of every image, by method, seed and metric; rounded, so that some methods tie."""
    generator = np.random.default_rng(seed)
    return {
        (plan.methods[planned.method].label, planned.seed, name): np.round(generator.normal(0, 1, images), 1)
        + generator.integers(0, 3)
        for planned in plan.jobs
        for name in plan.metrics
    }


def records_of(plan: Plan, per_image: PerImage) -> dict[str, Record]:
    records = {}
    for planned in plan.jobs:
        label = plan.methods[planned.method].label
        values = {name: per_image[label, planned.seed, name] for name in plan.metrics}
        scores = {name: Score(mean=float(v.mean()), std=float(v.std()), n=len(v)) for name, v in values.items()}
        records[planned.id] = make_record(plan, planned, scores)
    return records


def board_of(plan: Plan, records: Mapping[str, Record]) -> Board:
    (board,) = rank(plan, records).boards
    return board


def by_label(board: Board) -> dict[str, Row]:
    return {row.label: row for row in board.rows}


def with_means(means: Mapping[str, list[float]], direction: str = "higher") -> Board:
    """A board of one metric, with these means of the seeds of each method."""
    column = Column.model_validate({"name": "score", "direction": direction})
    plan = make_plan(list(means), range(len(next(iter(means.values())))), columns=[column])
    records = {
        planned.id: make_record(
            plan,
            planned,
            {"score": Score(mean=means[plan.methods[planned.method].label][planned.seed], std=None, n=0)},
        )
        for planned in plan.jobs
    }
    return board_of(plan, records)


@pytest.mark.parametrize("seed", range(5))
def test_numbers_are_those_of_pandas_and_ranks_those_of_scipy(seed: int) -> None:
    columns = [*COLUMNS, Column(name="fid", direction="lower")]
    plan = make_plan([f"m{i}" for i in range(9)], range(3), columns=columns, ranking=["psnr", "fid"])
    per_image = made_up_scores(plan, seed)
    rows = by_label(board_of(plan, records_of(plan, per_image)))

    frame = pd.DataFrame(
        [(*key, value) for key, values in per_image.items() for value in values],
        columns=["method", "seed", "metric", "value"],
    )
    per_seed = frame.groupby(["method", "seed", "metric"]).value.agg(["mean", lambda v: v.var(ddof=0)])
    per_seed.columns = ["mean", "variance"]
    expected = per_seed.groupby(["method", "metric"]).agg(
        mean=("mean", "mean"), std_seeds=("mean", "std"), variance=("variance", "mean")
    )
    for (label, metric), want in expected.iterrows():
        cell = rows[label].cells[metric]
        assert cell.mean == pytest.approx(want["mean"], rel=1e-12)
        assert cell.std_seeds == pytest.approx(want.std_seeds, rel=1e-9)
        assert cell.std_images == pytest.approx(np.sqrt(want.variance), rel=1e-12)

    labels = sorted(rows)
    ranks = {}
    for column in columns:
        means = np.array([rows[label].cells[column.name].mean for label in labels])
        ranks[column.name] = rankdata(-means if column.direction == "higher" else means)
        assert [rows[label].cells[column.name].rank for label in labels] == list(ranks[column.name])
    mean_ranks = (ranks["psnr"] + ranks["fid"]) / 2
    assert [rows[label].mean_rank for label in labels] == pytest.approx(list(mean_ranks))
    assert [rows[label].place for label in labels] == list(rankdata(mean_ranks, method="min"))


def test_the_order_of_jobs_and_records_does_not_matter() -> None:
    plan = make_plan([f"m{i}" for i in range(6)], range(2))
    records = records_of(plan, made_up_scores(plan, 7))
    board = board_of(plan, records)
    jobs, items = list(plan.jobs), list(records.items())
    random.Random(1).shuffle(jobs)
    random.Random(2).shuffle(items)
    shuffled = board_of(plan.model_copy(update={"jobs": tuple(jobs)}), dict(items))
    assert [(row.label, row.place, row.mean_rank) for row in shuffled.rows] == [
        (row.label, row.place, row.mean_rank) for row in board.rows
    ]


def test_boards_are_best_first_and_directions_differ() -> None:
    means = {"low": [1.0, 1.0], "high": [3.0, 3.0], "middle": [2.0, 2.0]}
    assert [row.label for row in with_means(means, "higher").rows] == ["high", "middle", "low"]
    assert [row.label for row in with_means(means, "lower").rows] == ["low", "middle", "high"]


def test_ties_share_their_mean_rank_and_their_place_and_are_all_best() -> None:
    rows = by_label(with_means({"a": [2.0], "b": [3.0], "c": [3.0], "d": [1.0]}))
    assert {label: (row.cells["score"].rank, row.place) for label, row in rows.items()} == {
        "b": (1.5, 1), "c": (1.5, 1), "a": (3.0, 3), "d": (4.0, 4)
    }  # fmt: skip
    assert {label for label, row in rows.items() if row.cells["score"].best} == {"b", "c"}


def test_infinite_scores_are_ranked_and_have_no_spread_over_seeds() -> None:
    rows = by_label(
        with_means({"perfect": [math.inf, 40.0], "perfect too": [math.inf, math.inf], "good": [39.0, 41.0]})
    )
    assert rows["perfect"].cells["score"].mean == math.inf
    assert rows["perfect"].cells["score"].std_seeds is None
    assert [rows[label].place for label in ("perfect", "perfect too", "good")] == [1, 1, 3]
    assert rows["good"].cells["score"].std_seeds == pytest.approx(math.sqrt(2))
    worst_first = with_means({"broken": [-math.inf], "poor": [-1.0]})
    assert [row.label for row in worst_first.rows] == ["poor", "broken"]


def test_a_single_seed_has_no_spread_over_seeds() -> None:
    plan = make_plan(seeds=[5])
    board = board_of(plan, records_of(plan, made_up_scores(plan, 0)))
    for row in board.rows:
        assert (row.status, row.seeds_done, row.seeds) == ("ranked", 1, 1)
        assert all(cell.std_seeds is None and cell.std_images is not None for cell in row.cells.values())


def test_metrics_of_whole_sets_have_no_spread_over_images() -> None:
    rows = by_label(with_means({"a": [1.0, 2.0], "b": [2.0, 3.0]}))
    assert rows["a"].cells["score"].std_images is None
    assert rows["a"].cells["score"].std_seeds is not None


def test_what_is_not_whole_is_shown_and_never_ranked() -> None:
    plan = make_plan(["good", "better", "broken", "exploded", "half", "nothing"])
    records = {}
    for planned in plan.jobs:
        label, first = plan.methods[planned.method].label, planned.seed == 0
        worth = {"good": 1.0, "better": 2.0}.get(label, 100.0)  # what is not ranked would be best by far
        scores = {"psnr": Score(mean=worth, std=0.0, n=4), "mse": Score(mean=-worth, std=0.0, n=4)}
        record: Record | None = make_record(plan, planned, scores)
        if label == "nothing" or (label == "half" and not first):
            continue
        if label == "broken" and not first:
            record = make_trouble(plan, planned, "failed", type="KeyError", message="'z'")
        if label == "exploded" and not first:
            record = make_trouble(plan, planned, "diverged", message="the objective became nan in epoch 2, step 9")
        records[planned.id] = record
    leaderboard = rank(plan, records)
    (board,) = leaderboard.boards
    assert [(row.place, row.label, row.status, row.seeds_done) for row in board.rows] == [
        (1, "better", "ranked", 2),
        (2, "good", "ranked", 2),
        (None, "exploded", "diverged", 1),
        (None, "broken", "failed", 1),
        (None, "half", "incomplete", 1),
        (None, "nothing", "incomplete", 0),
    ]
    rows = by_label(board)
    assert {label for label, row in rows.items() if row.cells.get("psnr") and row.cells["psnr"].best} == {"better"}
    assert [row.cells["psnr"].rank for row in board.rows[:2]] == [1, 2]
    for row in board.rows[2:5]:
        assert (row.mean_rank, row.cells["psnr"].rank) == (None, None)
        assert row.cells["psnr"].mean == 100.0, "what is known is shown"
    assert rows["nothing"].cells == {}
    assert rows["broken"].trouble == ("seed 1 failed: KeyError: 'z'",)
    assert rows["exploded"].trouble == ("seed 1 diverged: the objective became nan in epoch 2, step 9",)
    assert (leaderboard.done, leaderboard.jobs) == (7, 12)


def test_a_failure_outweighs_a_divergence() -> None:
    plan = make_plan(["bad"])
    first, second = plan.jobs
    records = {first.id: make_trouble(plan, first, "diverged"), second.id: make_trouble(plan, second, message="\n")}
    (row,) = board_of(plan, records).rows
    assert row.status == "failed"
    assert row.trouble[1] == "seed 1 failed: RuntimeError"


def test_an_empty_store_gives_a_board_of_incomplete_rows() -> None:
    leaderboard = rank(make_plan(), {})
    (board,) = leaderboard.boards
    assert {row.status for row in board.rows} == {"incomplete"}
    assert (leaderboard.done, board.protocol, board.test_images) == (0, None, None)


def test_two_protocols_are_never_ranked_together() -> None:
    plan = make_plan(["a", "b", "c"], seeds=[0])
    a, b, c = plan.jobs
    records = {
        a.id: make_record(plan, a),
        b.id: make_record(plan, b),
        c.id: make_record(plan, c, protocol="0123456789abcdef"),
    }
    leaderboard = rank(plan, records)
    ours, theirs = leaderboard.boards
    assert [(row.label, row.place) for row in ours.rows] == [("a", 1), ("b", 1), ("c", None)]
    assert [(row.label, row.place) for row in theirs.rows] == [("c", 1), ("a", None), ("b", None)]
    assert ours.protocol != theirs.protocol == "0123456789abcdef"
    (note,) = leaderboard.notes
    assert "2 protocols" in note
    assert "not ranked together" in note


def test_two_seeds_of_one_method_under_two_protocols_are_not_averaged() -> None:
    plan = make_plan(["a"])
    first, second = plan.jobs
    records = {first.id: make_record(plan, first), second.id: make_record(plan, second, protocol="0" * 16)}
    leaderboard = rank(plan, records)
    assert [(row.status, row.seeds_done) for board in leaderboard.boards for row in board.rows] == [
        ("incomplete", 1),
        ("incomplete", 1),
    ]


def test_a_crash_without_protocol_is_shown_on_the_board_of_its_setting() -> None:
    plan = make_plan(["a", "b"], seeds=[0])
    a, b = plan.jobs
    crashed = make_trouble(plan, b, message="ended by SIGKILL").model_copy(update={"protocol": None, "data": None})
    board = board_of(plan, {a.id: make_record(plan, a), b.id: crashed})
    assert [(row.label, row.status) for row in board.rows] == [("a", "ranked"), ("b", "failed")]


def test_settings_have_boards_of_their_own() -> None:
    plan = make_plan(settings=["photos · vae", "photos · ae"])
    leaderboard = rank(plan, {planned.id: make_record(plan, planned) for planned in plan.jobs})
    assert [board.setting for board in leaderboard.boards] == ["photos · vae", "photos · ae"]
    assert not leaderboard.notes
    assert all(row.place == 1 for board in leaderboard.boards for row in board.rows)


def test_unusable_records_are_noted() -> None:
    plan = make_plan()
    leaderboard = rank(plan, {}, {plan.jobs[0].id: "truncated or damaged: not valid JSON"})
    assert leaderboard.notes == (
        f"job {plan.jobs[0].id}: its record cannot be used: truncated or damaged: not valid JSON",
    )


def test_records_of_other_plans_do_not_count() -> None:
    plan, other = make_plan(["a"], seeds=[0]), make_plan(["b", "c"], seeds=[9])
    records = {planned.id: make_record(other, planned) for planned in other.jobs if planned.id != plan.jobs[0].id}
    assert rank(plan, records).done == 0


def test_a_leaderboard_survives_json() -> None:
    plan = make_plan(["a", "b"])
    scores = {"psnr": Score(mean=math.inf, std=None, n=8), "mse": Score(mean=0.0, std=0.0, n=8)}
    leaderboard = rank(plan, {planned.id: make_record(plan, planned, scores) for planned in plan.jobs})
    assert Leaderboard.model_validate_json(leaderboard.model_dump_json()) == leaderboard


def test_a_metric_that_some_method_has_no_value_for_does_not_rank() -> None:
    """It is shown for those that have one, does not count for the mean rank, and a note says so."""
    plan = make_plan(["a", "b"], seeds=[0])
    first, second = plan.jobs
    both = {"psnr": Score(mean=20.0, std=1.0, n=8), "mse": Score(mean=0.5, std=0.1, n=8)}
    records = {
        first.id: make_record(plan, first, both),
        second.id: make_record(plan, second, {"psnr": Score(mean=21.0, std=1.0, n=8)}, without=("mse",)),
    }
    leaderboard = rank(plan, records)
    (board,) = leaderboard.boards
    assert board.ranking == ("psnr",)
    assert [(row.label, row.place, row.mean_rank) for row in board.rows] == [("b", 1, 1.0), ("a", 2, 2.0)]
    assert [row.cells.get("mse") is None for row in board.rows] == [True, False]
    cell = board.rows[1].cells["mse"]
    assert (cell.mean, cell.rank, cell.best) == (0.5, None, False)
    assert leaderboard.notes == ("photos · vae: mse does not rank, since b cannot have a value for it",)


def test_warnings_of_scores_are_notes() -> None:
    plan = make_plan(["a", "b"])
    scores = {"psnr": Score(mean=1.0, std=0.0, n=8), "mse": Score(mean=1.0, std=None, n=0, warning="too few images")}
    leaderboard = rank(plan, {planned.id: make_record(plan, planned, scores) for planned in plan.jobs})
    assert leaderboard.notes == ("photos · vae: mse: too few images",)


def test_costs_are_means_over_seeds() -> None:
    plan = make_plan(["a"])
    costs = [
        Cost(images_per_second=speed, step_milliseconds=1000 / speed, peak_memory_bytes=memory, parameters=99)
        for speed, memory in ((10.0, 2**20), (20.0, 2**21))
    ]
    records = {p.id: make_record(plan, p, cost=cost) for p, cost in zip(plan.jobs, costs, strict=True)}
    (row,) = board_of(plan, records).rows
    assert row.cost == Cost(images_per_second=15.0, step_milliseconds=75.0, peak_memory_bytes=2**21, parameters=99)


# Statistics of a board; those of scores of images are in test_score_files.py


def three_seeds(means: Mapping[str, float], spread: float = 0.1, families: Mapping[str, str] | None = None) -> Board:
    """A board of psnr and ssim with scores of whole sets: three seeds around these means."""
    columns = [Column(name=n, direction="higher", family=f) for n, f in (("psnr", "pixel"), ("ssim", "ssim"))]
    plan = make_plan(list(means), range(3), columns=columns)
    methods = [
        m.model_copy(update={"families": tuple(filter(None, [(families or {}).get(m.label, "")]))})
        for m in plan.methods
    ]
    plan = plan.model_copy(update={"methods": tuple(methods)})
    records = {}
    for planned in plan.jobs:
        mean = means[plan.methods[planned.method].label] + spread * (planned.seed - 1)
        scores = {name: Score(mean=mean, std=None, n=0) for name in plan.metrics}
        records[planned.id] = make_record(plan, planned, scores)
    return board_of(plan, records)


def test_metrics_of_whole_sets_have_intervals_from_their_seeds() -> None:
    rows = by_label(three_seeds({"a": 1.0, "b": 9.0, "c": 9.0, "d": 9.05}))
    half = t.ppf(0.975, 2) * 0.1 / math.sqrt(3)
    assert rows["a"].cells["psnr"].interval == pytest.approx((1 - half, 1 + half))
    assert {label: (row.tier, row.rank_interval, row.cells["psnr"].tier) for label, row in rows.items()} == {
        "d": ("a", (1, 3), "a"), "b": ("a", (1, 3), "a"), "c": ("a", (1, 3), "a"), "a": ("b", (4, 4), "b")
    }  # fmt: skip


def test_metrics_of_whole_sets_have_no_interval_with_one_seed_and_no_significant_differences() -> None:
    board = with_means({"a": [1.0], "b": [100.0]})
    assert board.verdicts["score"].basis == "nothing"
    assert [(row.cells["score"].interval, row.cells["score"].tier, row.tier) for row in board.rows] == [
        (None, "a", "a")
    ] * 2
    assert [row.rank_interval for row in board.rows] == [(1, 2), (1, 2)]


def test_one_seed_is_labelled_as_such() -> None:
    plan = make_plan(seeds=[5])
    board = board_of(plan, records_of(plan, made_up_scores(plan, 0)))
    assert {verdict.basis for verdict in board.verdicts.values()} == {"images"}
    assert "for these trainings only (one seed each)" in details_legend(board)


def test_out_of_family_ranks_leave_out_in_family_metrics() -> None:
    board = three_seeds({"a": 3.0, "b": 2.0, "c": 1.0}, families={"a": "ssim", "b": "wiener", "c": "pixel"})
    rows = by_label(board)
    assert {label: [cell.in_family for cell in row.cells.values()] for label, row in rows.items()} == {
        "a": [False, True], "b": [False, False], "c": [True, False]
    }  # fmt: skip
    # a meets b by psnr and wins; c meets b by ssim and loses; for a and c, each metric is in-family for one.
    assert {label: (row.place, row.out_of_family_rank, row.out_of_family_place) for label, row in rows.items()} == {
        "a": (1, 1.0, 1), "b": (2, 2.0, 2), "c": (3, 3.0, 3)
    }  # fmt: skip
    unmarked = by_label(three_seeds({"a": 3.0, "b": 2.0}))
    assert [row.out_of_family_rank for row in unmarked.values()] == [row.mean_rank for row in unmarked.values()]


def test_no_metric_is_in_family_for_a_loss_without_a_family() -> None:
    assert not any(cell.in_family for row in with_means({"a": [1.0, 2.0]}).rows for cell in row.cells.values())


def test_borda_and_the_pareto_front() -> None:
    plan = make_plan(["a", "b", "c"], seeds=[0])
    scores = {"a": (30.0, 0.3), "b": (20.0, 0.1), "c": (19.0, 0.1)}
    records = {}
    for planned in plan.jobs:
        psnr, mse = scores[plan.methods[planned.method].label]
        both = {"psnr": Score(mean=psnr, std=1.0, n=8), "mse": Score(mean=mse, std=1.0, n=8)}
        records[planned.id] = make_record(plan, planned, both)
    rows = by_label(board_of(plan, records))
    assert {label: (row.borda, row.pareto) for label, row in rows.items()} == {
        "a": (2.0, True), "b": (2.5, True), "c": (1.5, False)
    }  # fmt: skip
    (board,) = rank(plan, records, ranking=["psnr"]).boards
    assert board.ranking == ("psnr",)
    assert [(row.label, row.place, row.borda, row.pareto) for row in board.rows] == [
        ("a", 1, 2.0, True), ("b", 2, 1.0, False), ("c", 3, 0.0, False)
    ]  # fmt: skip


def test_a_higher_confidence_widens_intervals_and_joins_tiers() -> None:
    plan = make_plan(["a", "b"], range(3), columns=[Column(name="score", direction="higher")])
    records = {}
    for planned in plan.jobs:
        score = Score(mean=planned.method + 0.2 * planned.seed, std=None, n=0)
        records[planned.id] = make_record(plan, planned, {"score": score})
    found = {c: rank(plan, records, confidence=c).boards[0] for c in (0.9, 0.999)}
    assert [[row.tier for row in board.rows] for board in found.values()] == [["a", "b"], ["a", "a"]]
    first, second = (board.rows[0].cells["score"].interval for board in found.values())
    assert first is not None
    assert second is not None
    assert second[0] < first[0] < first[1] < second[1]


def test_a_large_board_is_ranked_without_comparing_every_two() -> None:
    methods = [f"loss{number}" for number in range(501)]
    plan = make_plan(methods, seeds=(0,))
    records = {
        planned.id: make_record(
            plan, planned, {name: Score(mean=float(planned.method), std=0.5, n=8) for name in plan.metrics}
        )
        for planned in plan.jobs
    }
    leaderboard = rank(plan, records)
    (board,) = leaderboard.boards
    assert len(board.rows) == 501
    assert board.confidence is None
    assert all(row.tier is None and row.rank_interval is None and row.place is not None for row in board.rows)
    assert any("more than 500 methods" in note for note in leaderboard.notes)
    (fewer,) = rank(make_plan(methods[:500], seeds=(0,)), {}).boards
    assert fewer.confidence == 0.95


# A best score, and ranges


def test_scores_are_ranked_by_their_distance_from_the_best() -> None:
    means = {"sharp": [1.3, 1.31], "blurred": [0.4, 0.41], "right": [0.99, 1.02], "near": [0.9, 0.91]}
    board = with_means(means, 1.0)
    assert [row.label for row in board.rows] == ["right", "near", "sharp", "blurred"]
    assert [row.cells["score"].rank for row in board.rows] == [1, 2, 3, 4]
    assert [row.cells["score"].best for row in board.rows] == [True, False, False, False]
    assert [row.pareto for row in board.rows] == [True, False, False, False]


def test_as_far_above_the_best_score_as_below_it_is_equal() -> None:
    board = with_means({"above": [1.25, 1.25], "below": [0.75, 0.75]}, 1.0)
    assert [row.cells["score"].rank for row in board.rows] == [1.5, 1.5]
    assert board.rows[0].tier == board.rows[1].tier == "a"


def test_intervals_respect_the_range_of_a_metric() -> None:
    columns = (Column(name="score", direction="lower", score_range=(0, 10)),)
    plan = make_plan(["a"], range(2), columns=columns)
    records = {
        planned.id: make_record(plan, planned, {"score": Score(mean=(0.5, 9.5)[planned.seed], std=None, n=0)})
        for planned in plan.jobs
    }
    assert board_of(plan, records).rows[0].cells["score"].interval == (0, 10)


# Infinite scores of single images


def one_infinite(direction: str | float, finite: Mapping[str, float | None], mean: float) -> Leaderboard:
    """Methods with an infinite image each, and these means without it; None for one that has no others."""
    column = Column.model_validate({"name": "score", "direction": direction})
    plan = make_plan(list(finite), [0], columns=[column])
    rest = {planned.id: finite[plan.methods[planned.method].label] for planned in plan.jobs}
    scores = {
        job: Score(mean=mean, std=None, n=16, infinite=16 if f is None else 1, finite=f) for job, f in rest.items()
    }
    return rank(plan, {planned.id: make_record(plan, planned, {"score": scores[planned.id]}) for planned in plan.jobs})


@pytest.mark.parametrize(("direction", "mean", "order"), [("higher", math.inf, "abc"), ("lower", -math.inf, "cba")])
def test_one_infinitely_good_image_does_not_make_all_methods_equal(direction: str, mean: float, order: str) -> None:
    found = one_infinite(direction, {"a": 31.0, "b": 21.0, "c": 11.0}, mean)
    (board,) = found.boards
    assert "".join(row.label for row in board.rows) == order
    assert {row.label: row.cells["score"].mean for row in board.rows} == {"a": 31, "b": 21, "c": 11}
    assert [row.cells["score"].infinite for row in board.rows] == [1, 1, 1]
    (note,) = [note for note in found.notes if "infinite" in note]
    assert "score is infinite for some test images (1 of " in note
    assert "each counts as the best finite score of its training" in note


@pytest.mark.parametrize(("direction", "mean"), [("lower", math.inf), (1.0, math.inf), (1.0, -math.inf)])
def test_one_infinitely_bad_image_makes_a_method_the_worst(direction: str | float, mean: float) -> None:
    found = one_infinite(direction, {"a": 3.0, "b": 2.0}, mean)
    assert [row.cells["score"].mean for row in found.boards[0].rows] == [mean, mean]
    assert any("score is infinite (∞) for a, b: ranked, but not tested" in note for note in found.notes)


def test_a_method_that_is_infinitely_good_on_all_images_stays_the_best() -> None:
    found = one_infinite("higher", {"a": 31.0, "perfect": None}, math.inf)
    assert [row.label for row in found.boards[0].rows] == ["perfect", "a"]


def test_a_warning_about_some_methods_says_which() -> None:
    plan = make_plan(["a", "b", "c"], [0, 1])
    said = {0: "one image is exact", 1: "few images", 2: "few images"}
    records = {}
    for planned in plan.jobs:
        warnings = {"psnr": said[planned.method], "mse": "for all"}
        scores = {name: Score(mean=1.0, std=0.5, n=8, warning=warnings[name]) for name in plan.metrics}
        records[planned.id] = make_record(plan, planned, scores)
    notes = rank(plan, records).notes
    setting = plan.settings[0].label
    assert [note for note in notes if note.startswith(setting)] == [
        f"{setting}: mse: for all",
        f"{setting}: psnr: few images (b, c)",
        f"{setting}: psnr: one image is exact (a)",
    ]
