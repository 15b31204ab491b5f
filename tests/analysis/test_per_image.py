"""Leaderboards from scores per image, and the cache of their moments."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from recbench.analysis import statistics
from recbench.analysis.board import Board, Leaderboard
from recbench.analysis.per_image import ScoreFiles
from recbench.analysis.ranking import rank, rank_stored
from recbench.plan.plan import Plan
from recbench.store.record import Score
from recbench.store.store import Store
from tests.made_up import make_plan, make_record
from tests.synthetic import World

IMAGES = 40
METHODS = ["a", "b", "c", "d"]


@pytest.fixture
def plan() -> Plan:
    return make_plan(METHODS, seeds=[0, 1, 2])


@pytest.fixture
def store(plan: Plan, tmp_path: Path) -> Store:
    """Records and scores of four methods: a and b are equal, c is worse, d much worse."""
    store = Store(tmp_path / "made-up")
    store.write_plan(plan, "")
    generator = np.random.default_rng(0)
    world = World([20.0, 20.0, 14.0, 2.0], 3, IMAGES, training=0.3, image=5.0, both=1.0, rest=0.5)
    psnr = world.scores(generator)
    for planned in plan.jobs:
        mine = psnr[planned.method][planned.seed]
        write(store, plan, planned.id, {"psnr": mine, "mse": 1 / (30 + mine)})
    return store


def write(store: Store, plan: Plan, job_id: str, values: dict[str, np.ndarray]) -> None:
    planned = next(job for job in plan.jobs if job.id == job_id)
    store.record_file(job_id).unlink(missing_ok=True)
    store.add(make_record(plan, planned, {name: score_of(scores) for name, scores in values.items()}))
    pd.DataFrame({"kl": np.ones(len(next(iter(values.values())))), **values}).to_parquet(file(store, job_id))


def score_of(values: np.ndarray) -> Score:
    spread = float(values.std()) if np.isfinite(values).all() else None
    return Score(mean=float(values.mean()), std=spread, n=len(values))


def file(store: Store, job_id: str) -> Path:
    return store.folder(job_id) / "scores.parquet"


def show(plan: Plan, store: Store) -> Leaderboard:
    return rank_stored(plan, store, store.scan(plan).records)


def board(plan: Plan, store: Store) -> Board:
    (found,) = show(plan, store).boards
    return found


def test_the_board_says_what_the_statistics_say(plan: Plan, store: Store) -> None:
    found = board(plan, store)
    scores = {
        label: np.stack([pd.read_parquet(file(store, job.id)).psnr for job in plan.jobs if job.method == method])
        for method, label in enumerate(METHODS)
    }
    labels = [row.label for row in found.rows]
    moments = statistics.moments([scores[label] for label in labels])
    (corrected,) = statistics.holm_of_pairs([statistics.pairwise(moments)])
    verdict = found.verdicts["psnr"]
    assert (verdict.basis, verdict.by_image) == ("seeds and images", True)
    assert verdict.p == pytest.approx(corrected[np.triu_indices(4, 1)].tolist(), rel=1e-3, abs=1e-12)
    for row, interval in zip(found.rows, statistics.intervals(moments), strict=True):
        assert row.cells["psnr"].interval == pytest.approx(tuple(interval), rel=1e-8)
    places = {row.label: (row.cells["psnr"].tier, row.cells["psnr"].rank_interval) for row in found.rows}
    assert places == {"a": ("a", (1, 2)), "b": ("a", (1, 2)), "c": ("b", (3, 3)), "d": ("c", (4, 4))}
    assert {row.label: (row.tier, row.rank_interval) for row in found.rows} == places
    better = dict(zip(itertools.combinations(labels, 2), found.overall.better if found.overall else (), strict=True))
    assert [pair for pair, significant in better.items() if not significant] in ([("a", "b")], [("b", "a")])
    assert [{labels[i] for i in group} for group in verdict.groups] == [{"a", "b"}]


def test_an_interval_spans_seeds_and_images() -> None:
    """Of one method: its half-width's square is the sum of those for seeds and for images alone."""
    scores = World([5.0], 4, IMAGES).scores(np.random.default_rng(1))
    low, high = statistics.intervals(statistics.moments(scores))[0]
    seeds = stats.t.ppf(0.975, 3) * stats.sem(scores[0].mean(axis=1))
    assert (high - low) / 2 > seeds


def test_a_board_shown_again_reads_no_scores_and_says_the_same(
    plan: Plan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = show(plan, store)
    monkeypatch.setattr(ScoreFiles, "_scores", lambda *_: pytest.fail("the scores were read again"))
    assert show(plan, store) == first


def changed(store: Store, plan: Plan) -> None:
    job = file(store, plan.jobs[0].id)
    frame = pd.read_parquet(job)
    frame["psnr"] = frame.psnr[::-1].to_numpy()  # the mean stays
    frame.to_parquet(job)


def edited(store: Store, plan: Plan) -> None:
    kept = store.root / "statistics.json"
    kept.write_bytes(kept.read_bytes().replace(b'"images":40', b'"images":-1,"x":1'))


def truncated(store: Store, plan: Plan) -> None:
    kept = store.root / "statistics.json"
    kept.write_bytes(kept.read_bytes()[: kept.stat().st_size // 2])


def emptied(store: Store, plan: Plan) -> None:
    kept = store.root / "statistics.json"
    text = kept.read_text()
    kept.write_text(text.replace('"means":[', '"means":[1.0,'))


def one_digit(store: Store, plan: Plan) -> None:
    kept = store.root / "statistics.json"
    raw = kept.read_bytes()
    place = raw.index(b'"covariances":[[') + 20
    assert raw[place : place + 1].isdigit()
    kept.write_bytes(raw[:place] + (b"1" if raw[place : place + 1] != b"1" else b"2") + raw[place + 1 :])


def removed(store: Store, plan: Plan) -> None:
    (store.root / "statistics.json").unlink()


@pytest.mark.parametrize("harm", [changed, edited, one_digit, truncated, emptied, removed])
def test_the_cache_is_computed_again_when_it_is_stale(
    plan: Plan, store: Store, harm: Callable[[Store, Plan], None]
) -> None:
    before = show(plan, store)
    harm(store, plan)
    after = show(plan, store)
    fresh = rank(plan, store.scan(plan).records, files=ScoreFiles(Store(store.root)))
    assert after == fresh
    assert (after == before) == (harm is not changed)
    assert show(plan, store) == after


def test_a_folder_that_cannot_be_written_is_shown_all_the_same(
    plan: Plan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("recbench.analysis.per_image.write_atomically", refuse)
    assert show(plan, store).boards[0].rows[0].tier == "a"
    assert not (store.root / "statistics.json").exists()


def test_records_without_scores_of_images_are_compared_less_sharply(plan: Plan, store: Store) -> None:
    sharp = board(plan, store)
    file(store, plan.jobs[0].id).unlink()
    dull = board(plan, store)
    assert not dull.verdicts["psnr"].by_image
    assert dull == board(plan, store) == rank(plan, store.scan(plan).records).boards[0]
    assert all(d >= s for d, s in zip(dull.verdicts["psnr"].p, sharp.verdicts["psnr"].p, strict=True))
    assert all(row.cells["psnr"].interval is not None for row in dull.rows)


@pytest.mark.parametrize("harm", ["other scores", "fewer images", "no column", "no parquet"])
def test_scores_that_are_not_the_records_are_named_and_not_used(plan: Plan, store: Store, harm: str) -> None:
    job = plan.jobs[2]
    frame = pd.read_parquet(file(store, job.id))
    if harm == "other scores":
        frame["psnr"] += 0.001
    if harm == "fewer images":
        frame = frame.iloc[:-1]
    if harm == "no column":
        frame = frame.drop(columns="psnr")
    frame.to_parquet(file(store, job.id))
    if harm == "no parquet":
        file(store, job.id).write_bytes(b"PAR1 nothing")
    leaderboard = show(plan, store)
    (found,) = leaderboard.boards
    assert not found.verdicts["psnr"].by_image
    assert any(f"job {job.id}: its scores.parquet" in note for note in leaderboard.notes)


def test_infinite_scores_of_images_leave_the_others_their_statistics(plan: Plan, store: Store) -> None:
    job = next(job for job in plan.jobs if plan.methods[job.method].label == "a")
    values = {name: pd.read_parquet(file(store, job.id))[name].to_numpy().copy() for name in ("psnr", "mse")}
    values["psnr"][0] = np.inf
    write(store, plan, job.id, values)
    rows = {row.label: row for row in board(plan, store).rows}
    assert (rows["a"].cells["psnr"].interval, rows["a"].cells["psnr"].best) == (None, True)
    assert rows["b"].cells["psnr"].interval is not None
    assert board(plan, store) == board(plan, store)


def test_times_of_files_do_not_matter_for_what_is_said(plan: Plan, store: Store) -> None:
    first = show(plan, store)
    for job in plan.jobs:
        os.utime(file(store, job.id), (1, 1))
    assert show(plan, store) == first


def test_the_time_to_a_loss_is_the_end_of_the_first_epoch_that_has_it(plan: Plan, store: Store) -> None:
    from recbench.store.record import Cost

    cost = Cost(images_per_second=8.0, step_milliseconds=1.0, peak_memory_bytes=1, parameters=1)
    for job in plan.jobs:
        record = store.read(job.id)
        assert record is not None
        store.record_file(job.id).unlink()
        store.add(record.model_copy(update={"cost": cost}))
        lines = [f'{{"epoch": {e}, "reconstruction": {9 - e}, "images_per_second": {s}}}' for e, s in ((1, 4), (2, 8))]
        (store.folder(job.id) / "history.jsonl").write_text("\n".join([*lines, "torn"][: 2 + (job.method == 3)]))
    records = store.scan(plan).records

    def times(target: tuple[str, float]) -> dict[str, float | None]:
        (found,) = rank_stored(plan, store, records, time_to=target).boards
        return {row.label: row.time_to for row in found.rows}

    # 32 training images: 8 s for the first epoch, 4 s for the second, and 3 epochs at 8 images/s in all
    assert times(("reconstruction", 8.0)) == {"a": 8.0, "b": 8.0, "c": 8.0, "d": None}
    assert times(("reconstruction", 7.5))["a"] == 12.0
    assert times(("reconstruction", 1.0))["a"] == np.inf
    assert times(("psnr", 10.0)) == {"a": 12.0, "b": 12.0, "c": 12.0, "d": np.inf}


@pytest.mark.parametrize("good", [np.inf, -np.inf])
def test_an_infinitely_good_image_counts_as_the_best_finite_one(plan: Plan, store: Store, good: float) -> None:
    """And methods are tested and have intervals as if it had been scored so."""
    direction = "higher" if good > 0 else "lower"
    columns = tuple(column.model_copy(update={"direction": direction}) for column in plan.columns)
    plan = plan.model_copy(update={"columns": columns})
    given = {}
    for job in plan.jobs:
        psnr = pd.read_parquet(file(store, job.id)).psnr.to_numpy().copy()
        psnr[3] = good
        finite = psnr[np.isfinite(psnr)]
        given[job.id] = np.where(np.isfinite(psnr), psnr, finite.max() if good > 0 else finite.min())
        write(store, plan, job.id, {"psnr": psnr, "mse": psnr})
        record = store.read(job.id)
        assert record is not None
        score = Score(mean=good, std=None, n=IMAGES, infinite=1, finite=float(given[job.id].mean()))
        store.record_file(job.id).unlink()
        store.add(record.model_copy(update={"scores": {"psnr": score, "mse": score}}))
    shown = show(plan, store)
    found = shown.boards[0]
    for job in plan.jobs:
        write(store, plan, job.id, {"psnr": given[job.id], "mse": given[job.id]})
    expected = board(plan, store)
    assert [row.label for row in found.rows] == [row.label for row in expected.rows]
    assert found.verdicts == expected.verdicts
    assert found.verdicts["psnr"].by_image
    for one, other in zip(found.rows, expected.rows, strict=True):
        assert one.cells["psnr"].interval == other.cells["psnr"].interval
        assert one.cells["psnr"].mean == pytest.approx(other.cells["psnr"].mean)
    assert any("psnr is infinite for some test images" in note for note in shown.notes)
