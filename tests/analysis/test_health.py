"""Health warnings on boards, and baselines below them, in every format."""

from __future__ import annotations

import json
from typing import Any

import pytest

from recbench.analysis.board import Row
from recbench.analysis.health import baseline_warnings, edge_warnings
from recbench.analysis.ranking import rank
from recbench.analysis.tuning import remarks
from recbench.plan.model import Baseline, Column, ComponentSpec, PlannedJob
from recbench.plan.plan import Plan, parse_plan, sealed_plan
from recbench.plan.tuning import Axis, Search, Trial, Tuning
from recbench.render.board import UNWELL, warnings
from recbench.render.leaderboard import FORMATS
from recbench.store.record import Data, Result, Score, Symptom, parse_record, sealed
from tests.made_up import FINGERPRINT, make_plan, make_record

COLUMNS = (
    Column(name="psnr", direction="higher", unit="dB", digits=2),
    Column(name="fid", direction="lower", family="distribution"),
    Column(name="kl", direction="lower", family="likelihood"),
)
JUMP = Symptom(check="kl_jump", value=7.9, threshold=4, sentence="KL rose 7.9-fold")


def scores(psnr: float, fid: float, kl: float) -> dict[str, Score]:
    return {
        "psnr": Score(mean=psnr, std=1.0, n=8),
        "fid": Score(mean=fid, std=None, n=0),
        "kl": Score(mean=kl, std=1.0, n=8),
    }


def with_pca(**changes: Any) -> tuple[Plan, dict[str, Result]]:
    """A plan of l2 (20 dB) and l1 (30 dB) with two seeds, and PCA (25 dB) as a baseline."""
    plan = make_plan(columns=COLUMNS, ranking=["psnr", "fid"])
    pca = ComponentSpec(name="pca", params={"latent_size": 64})
    fitted = plan.settings[0].model_copy(update={"label": "photos · pca (baseline)", "architecture": pca})
    method = plan.methods[0].model_copy(update={"label": "pca", "kl_weight": 0.0})
    plan = plan.model_copy(update={"settings": (*plan.settings, fitted), "methods": (*plan.methods, method)})
    job = PlannedJob(id="0" * 16, setting=1, method=2, seed=0)
    job = job.model_copy(update={"id": plan.id_of(job)})
    plan = plan.model_copy(
        update={"jobs": (*plan.jobs, job), "baselines": (Baseline(label="pca", setting=0, fitted=1),)}
    )
    found = {}
    for planned in plan.jobs:
        own = {0: scores(20, 300, 50), 1: scores(30, 300, 50), 2: scores(25, 10, 0)}[planned.method]
        facts = changes if planned.method == 2 else {}
        facts = {**facts, "health": (JUMP,)} if (planned.method, planned.seed) == (1, 1) else facts
        found[planned.id] = make_record(plan, planned, own, **facts)
    return plan, found


def test_a_score_below_that_of_pca() -> None:
    """By metrics of single images alone: a plain autoencoder has no rate, and its samples are no claim."""
    board = rank(*with_pca()).boards[0]
    l1, l2 = board.rows
    assert [warned.check for warned in l1.health] == ["kl_jump"]
    (warned,) = l2.health
    assert (warned.check, warned.value, warned.threshold) == ("below_pca", 20.0, 25.0)
    assert warned.sentence == "its psnr of 20.00 is worse than the 25.00 of pca with 64 components"


def test_baselines_are_below_and_change_no_rank() -> None:
    plan, records = with_pca()
    plain = plan.model_copy(update={"jobs": plan.jobs[:-1], "settings": plan.settings[:1], "baselines": ()})
    board, without = rank(plan, records).boards[0], rank(plain, records).boards[0]
    assert len(rank(plan, records).boards) == 1 and rank(plan, records).done == 5
    (row,) = board.baselines
    assert (row.status, row.baseline, row.place, row.params) == ("baseline", "pca", None, {"latent_size": 64})
    bare = [row.model_copy(update={"health": ()}) for row in board.rows]
    assert bare == [row.model_copy(update={"health": ()}) for row in without.rows]
    assert (board.verdicts, board.overall) == (without.verdicts, without.overall)


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_has_warnings_and_baselines(form: str) -> None:
    text = FORMATS[form][1](rank(*with_pca()))
    for sentence in ("KL rose 7.9-fold", "is worse than the 25.00 of pca with 64 components", "pca"):
        assert sentence in text
    if form == "json":
        board = json.loads(text)["boards"][0]
        assert [row["label"] for row in board["rows"]] == ["l1", "l2"]
        assert [row["label"] for row in board["baselines"]] == ["pca"]
        assert board["rows"][0]["health"][0] == {**JUMP.model_dump(), "seeds": [1]}


def test_lines_of_warnings() -> None:
    assert warnings(rank(*with_pca()).boards[0]) == [
        f"{UNWELL} l1 (seed 1): KL rose 7.9-fold",
        f"{UNWELL} l2: its psnr of 20.00 is worse than the 25.00 of pca with 64 components",
    ]


def test_a_baseline_of_other_images_is_left_out() -> None:
    plan, records = with_pca(data=Data(fingerprint="0" * 64, train=32, validation=4, test=8))
    board = rank(plan, records).boards[0]
    assert board.baselines == () and not board.rows[1].health


def test_a_baseline_that_is_not_done_is_no_measure() -> None:
    plan, records = with_pca()
    board = rank(plan, {job: record for job, record in records.items() if job != plan.jobs[-1].id}).boards[0]
    assert [row.status for row in board.baselines] == ["incomplete"]
    assert not board.rows[1].health


def test_of_several_seeds_the_worst_number_counts() -> None:
    plan = make_plan(["l2"])
    found = [JUMP.model_copy(update={"value": value, "sentence": f"KL rose {value}-fold"}) for value in (5.0, 9.0)]
    records = {p.id: make_record(plan, p, health=(found[p.seed],)) for p in plan.jobs}
    (warned,) = rank(plan, records).boards[0].rows[0].health
    assert (warned.value, warned.sentence, warned.seeds) == (9.0, "KL rose 9.0-fold", (0, 1))


def searched(weights: list[float], chosen: int, edge: tuple[str, ...]) -> Search:
    return Search(
        setting=0, label="l2", loss=ComponentSpec(name="l2"), scale=1.0, axes=(Axis(name="kl_weight", low=0, high=1),),
        trials=tuple(Trial(method=n, values={"kl_weight": weight}) for n, weight in enumerate(weights)),
        chosen=chosen, method=9, edge=edge,
    )  # fmt: skip


def test_a_kl_weight_at_the_edge_of_its_ladder() -> None:
    (warned,) = edge_warnings(searched([0.01, 0.1, 1.0], 2, ("kl_weight",)))
    assert (warned.check, warned.value) == ("kl_weight_edge", 1.0)
    assert (
        warned.sentence == "the KL weight 1 is the highest that tuning tried (0.01 to 1): a better one may lie beyond"
    )
    assert not list(edge_warnings(searched([0.01, 0.1, 1.0], 1, ())))
    assert not list(edge_warnings(searched([0.01, 0.1, 1.0], 1, ("C",))))
    assert not list(edge_warnings(None))


def test_a_value_at_the_edge_of_its_range_is_said_once() -> None:
    plan = make_plan(["l2"])
    tuning = Tuning(strategy="grid", budget=3, candidate_seeds=(0,), metric="psnr", direction="higher", seeds=(0,))
    weights = searched([0.01, 0.1, 1.0], 2, ("kl_weight",))
    assert not list(remarks(plan.model_copy(update={"tuning": tuning, "searches": (weights,)}), 0))
    both = weights.model_copy(
        update={
            "trials": tuple(t.model_copy(update={"values": {**t.values, "C": 0.25}}) for t in weights.trials),
            "edge": ("kl_weight", "C"),
        }
    )
    (line,) = remarks(plan.model_copy(update={"tuning": tuning, "searches": (both,)}), 0)
    assert "the best C=0.25 of l2 lies at the edge of its range" in line and "kl_weight" not in line


def test_records_and_plans_of_before_have_none() -> None:
    plan, records = with_pca()
    record = make_record(plan, plan.jobs[0])
    text = record.model_dump_json(indent=1, exclude={"health"})
    assert parse_record(record.job_id, sealed(text)).health == ()
    healthy = make_record(plan, plan.jobs[0], health=(JUMP,))
    assert parse_record(record.job_id, sealed(healthy.model_dump_json(indent=1))).health == (JUMP,)
    old = make_plan()
    raw = old.model_dump_json(exclude={"baselines"}).encode()
    assert parse_plan(raw) == old
    assert parse_plan(sealed_plan(plan)) == plan
    assert records


def test_without_a_baseline_nothing_is_held_against_it() -> None:
    row = rank(*with_pca()).boards[0].rows[1]
    assert isinstance(row, Row)
    assert not list(baseline_warnings(row, (), COLUMNS))


def test_the_fingerprint_is_that_of_the_board() -> None:
    plan, records = with_pca()
    assert {record.data.fingerprint for record in records.values() if record.data} == {FINGERPRINT}
    assert plan.fitted == {1}
