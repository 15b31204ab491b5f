"""Exports and merges: what goes in comes out, nothing is lost or replaced, and nothing foreign gets in."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import stat
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas
import pytest

from recbench.analysis.ranking import rank, rank_stored
from recbench.cli import cli
from recbench.errors import UserError
from recbench.files import lock
from recbench.plan.merge import join_plans
from recbench.plan.model import Column
from recbench.plan.plan import Plan
from recbench.plan.relabelling import new_labels, remarks
from recbench.store.archive import Archive, ArchiveError, export
from recbench.store.artifacts import read_scores, read_traces, traces_content, write_scores
from recbench.store.merge import Merged, merge
from recbench.store.record import File, Score
from recbench.store.sources import sources
from recbench.store.store import Store
from tests.conftest import ROOT, Recbench
from tests.made_up import make_plan, make_record, make_trouble
from tests.readme import blocks

Change = Callable[[dict[str, bytes]], None]


def fill(store: Store, plan: Plan, *, shift: float = 0.0, only: set[int] | None = None, pictures: bool = True) -> Store:
    """Write a plan and done records with files; ``shift`` makes other scores of the same jobs."""
    store.write_plan(plan, f"name: {plan.suite}\nseeds: {len(plan.jobs)}\n")
    for planned in plan.jobs:
        if only is not None and planned.seed not in only:
            continue
        folder = store.folder(planned.id)
        folder.mkdir(parents=True)
        values = np.random.default_rng([planned.method, planned.seed]).normal(20 + shift, 1, 8)
        table = pandas.DataFrame({"psnr": values, "mse": values / 1000, "kl": values})
        table.to_parquet(folder / "scores.parquet", index=False)
        (folder / "history.jsonl").write_text('{"epoch": 1, "step": 4, "objective": 2.5}\n')
        if pictures:
            (folder / "images.npz").write_bytes(b"pictures")
            (folder / "epochs.npz").write_bytes(b"pictures by epoch")
        files = {
            path.name: File(bytes=path.stat().st_size, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
            for path in sorted(folder.iterdir())
        }
        scores = {
            name: Score(mean=float(table[name].mean()), std=float(table[name].std(ddof=0)), n=8)
            for name in ("psnr", "mse")
        }
        store.write_task(plan.job(planned), plan.suite)
        store.add(make_record(plan, planned, scores, files=files))
    return store


def join(into: Path, *paths: Path, prefer: Path | None = None) -> list[Merged]:
    with sources(paths) as found:
        return merge(found, into, prefer)


def tree(folder: Path) -> dict[str, bytes]:
    """All files but locks."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_an_export_is_the_same_whenever_and_wherever_it_is_made(tmp_path: Path) -> None:
    store = fill(Store(tmp_path / "a" / "made-up"), make_plan())
    copy = tmp_path / "b" / "made-up"
    shutil.copytree(store.root, copy)
    for path in copy.rglob("*"):
        os.utime(path, (1, 1))
    export(store, tmp_path / "first.zip")
    export(Store(copy), tmp_path / "second.zip")
    assert (tmp_path / "first.zip").read_bytes() == (tmp_path / "second.zip").read_bytes()
    assert sorted({path.name for path in tmp_path.iterdir()}) == ["a", "b", "first.zip", "second.zip"]


def test_an_export_holds_what_statistics_need_and_pictures_if_asked(tmp_path: Path) -> None:
    plan = make_plan()
    store = fill(Store(tmp_path / "made-up"), plan)
    done = export(store, tmp_path / "small.zip")
    assert done.jobs == (4, 4)
    assert done.left_out == ()
    with zipfile.ZipFile(tmp_path / "small.zip") as archive:
        assert archive.testzip() is None
        assert {name.split("/")[-1] for name in archive.namelist()} == {
            "manifest.json", "plan.json", "suite.yaml", "record.json", "history.jsonl", "scores.parquet",
        }  # fmt: skip
        manifest = json.loads(archive.read("manifest.json"))
        for name, facts in manifest["files"].items():
            assert hashlib.sha256(archive.read(name)).hexdigest() == facts["sha256"]
    assert export(store, tmp_path / "large.zip", ["images"]).lacking == {}
    with zipfile.ZipFile(tmp_path / "large.zip") as archive:
        for artifact in ("images.npz", "epochs.npz"):
            assert sum(name.endswith(artifact) for name in archive.namelist()) == 4
    join(tmp_path / "merged", tmp_path / "large.zip")
    assert len(list((tmp_path / "merged").rglob("epochs.npz"))) == 4


def test_a_damaged_record_or_file_is_left_out_and_named(tmp_path: Path) -> None:
    plan = make_plan()
    store = fill(Store(tmp_path / "made-up"), plan)
    torn, changed, *_ = (planned.id for planned in plan.jobs)
    store.record_file(torn).write_bytes(store.record_file(torn).read_bytes()[:99])
    (store.folder(changed) / "scores.parquet").write_bytes(b"other")
    done = export(store, tmp_path / "out.zip")
    assert done.jobs == (2, 4)
    assert [torn in done.left_out[0], changed in done.left_out[1]] == [True, True]


def test_merged_exports_give_the_leaderboard_of_one_machine(tmp_path: Path) -> None:
    """Two machines with a seed each: the same board, statistics included, as if one had run both."""
    plan = make_plan(seeds=(0, 1))
    whole = fill(Store(tmp_path / "whole" / "made-up"), plan)
    for seed in (0, 1):
        part = fill(Store(tmp_path / f"machine{seed}" / "made-up"), plan, only={seed})
        export(part, tmp_path / f"{seed}.zip")
    (merged,) = join(tmp_path / "results", tmp_path / "0.zip", tmp_path / "1.zip")
    assert (len(merged.added), merged.present, merged.done, merged.jobs) == (4, 0, 4, 4)
    store = Store(tmp_path / "results" / "made-up")
    boards = [rank_stored(plan, one, one.scan(one.read_plan()).records) for one in (whole, store)]
    assert boards[0] == boards[1]
    assert boards[0].boards[0].rows[0].status == "ranked"
    assert (store.root / "suite.yaml").read_bytes() == (whole.root / "suite.yaml").read_bytes()


def test_seeds_run_apart_become_one_plan(tmp_path: Path) -> None:
    """The usual way to share work: the same suite with other seeds on each machine."""
    for seed in (0, 1, 2):
        fill(Store(tmp_path / str(seed) / "made-up"), make_plan(seeds=(seed,)))
    join(tmp_path / "results", *(tmp_path / str(seed) for seed in (0, 1, 2)))
    store = Store(tmp_path / "results" / "made-up")
    plan = store.read_plan()
    assert sorted((planned.method, planned.seed) for planned in plan.jobs) == [
        (m, s) for m in (0, 1) for s in (0, 1, 2)
    ]
    assert len(plan.methods) == 2
    assert all(plan.job(planned).id == planned.id for planned in plan.jobs)
    assert {row.seeds_done for row in rank(plan, store.scan(plan).records).boards[0].rows} == {3}


def test_merging_again_changes_nothing_and_completes_what_is_missing(tmp_path: Path) -> None:
    store = fill(Store(tmp_path / "a" / "made-up"), make_plan())
    export(store, tmp_path / "small.zip")
    join(tmp_path / "results", tmp_path / "small.zip")
    before = tree(tmp_path / "results")
    (again,) = join(tmp_path / "results", tmp_path / "small.zip")
    assert (again.added, again.present) == ([], 4)
    assert tree(tmp_path / "results") == before
    (more,) = join(tmp_path / "results", tmp_path / "a")
    assert (len(more.added), len(more.completed)) == (0, 4)
    assert before.items() <= tree(tmp_path / "results").items()
    assert sum(name.endswith("images.npz") for name in tree(tmp_path / "results")) == 4


def test_clashes_are_all_named_and_nothing_is_written(tmp_path: Path) -> None:
    plan = make_plan()
    for name, shift in (("a", 0.0), ("b", 1.0)):
        fill(Store(tmp_path / name / "made-up"), plan, shift=shift)
    with pytest.raises(UserError) as caught:
        join(tmp_path / "results", tmp_path / "a", tmp_path / "b")
    text = str(caught.value)
    for planned in plan.jobs:
        assert planned.id in text
    assert str(tmp_path / "a") in text
    assert str(tmp_path / "b") in text
    assert "with different scores" in text
    assert not (tmp_path / "results").exists()


def test_a_job_that_two_machines_ran_to_the_same_scores_counts_once(tmp_path: Path) -> None:
    plan = make_plan(methods=("l2",), seeds=(0,))
    for name, when in (("a", "2026-01-01T00:00:00+00:00"), ("b", "2026-01-02T00:00:00+00:00")):
        store = Store(tmp_path / name / "made-up")
        store.write_plan(plan, "")
        record = make_record(plan, plan.jobs[0])
        store.add(record.model_copy(update={"provenance": record.provenance.model_copy(update={"finished": when})}))
    (merged,) = join(tmp_path / "results", tmp_path / "a", tmp_path / "b")
    assert (merged.done, merged.notes) == (1, ["1 job ran more than once, with equal scores; each counts once"])
    (again,) = join(tmp_path / "results", tmp_path / "b")
    assert (again.present, again.added) == (1, [])


def test_a_preferred_source_settles_clashes_but_never_against_what_is_there(tmp_path: Path) -> None:
    plan = make_plan()
    stores = {}
    for name, shift in (("a", 0.0), ("b", 1.0)):
        stores[name] = fill(Store(tmp_path / name / "made-up"), plan, shift=shift)
    join(tmp_path / "results", tmp_path / "a", tmp_path / "b", prefer=tmp_path / "b")
    target = Store(tmp_path / "results" / "made-up")
    job = plan.jobs[0].id
    assert target.record_file(job).read_bytes() == stores["b"].record_file(job).read_bytes()
    before = tree(tmp_path / "results")
    with pytest.raises(UserError, match="never replaced"):
        join(tmp_path / "results", tmp_path / "a", prefer=tmp_path / "a")
    assert tree(tmp_path / "results") == before


def test_a_finished_record_stands_before_a_failed_one(tmp_path: Path) -> None:
    plan = make_plan(methods=("l2",), seeds=(0,))
    failed = Store(tmp_path / "failed" / "made-up")
    failed.write_plan(plan, "name: made-up\n")
    failed.write_task(plan.job(plan.jobs[0]), plan.suite)
    failed.add(make_trouble(plan, plan.jobs[0]))
    done = fill(Store(tmp_path / "done" / "made-up"), plan)
    job = plan.jobs[0].id
    for order in (("failed", "done"), ("done", "failed")):
        (merged,) = join(tmp_path / "-".join(order), *(tmp_path / name for name in order))
        target = Store(tmp_path / "-".join(order) / "made-up")
        assert target.record_file(job).read_bytes() == done.record_file(job).read_bytes()
        assert len(merged.notes) == 1
    join(tmp_path / "failed", tmp_path / "done")  # into the folder where it failed
    assert failed.read(job) is not None
    assert failed.record_file(job).read_bytes() == done.record_file(job).read_bytes()
    assert (failed.folder(job) / "failed-1.json").is_file()


def test_what_is_being_run_or_unfinished_in_the_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(methods=("l2",), seeds=(0,))
    fill(Store(tmp_path / "a" / "made-up"), plan)
    target = Store(tmp_path / "results" / "made-up")
    folder = target.folder(plan.jobs[0].id)
    (folder / "checkpoint").mkdir(parents=True)
    (folder / "checkpoint" / "state.pt").write_bytes(b"half")
    pid = os.fork()
    if pid == 0:  # another process holds the job
        with lock(folder):
            (tmp_path / "held").touch()
            while not (tmp_path / "release").exists():
                pass
        os._exit(0)
    while not (tmp_path / "held").exists():
        pass
    try:
        with pytest.raises(UserError, match="is being run"):
            join(tmp_path / "results", tmp_path / "a")
    finally:
        (tmp_path / "release").touch()
        os.waitpid(pid, 0)
    join(tmp_path / "results", tmp_path / "a")
    assert (target.root / "set-aside" / f"{folder.name}-1" / "checkpoint" / "state.pt").read_bytes() == b"half"
    assert target.read(folder.name) is not None


def test_an_interrupted_merge_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan()
    fill(Store(tmp_path / "a" / "made-up"), plan)
    real, written = Store.adopt, []

    def adopt(self: Store, job_id: str, raw: bytes) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(job_id)
        real(self, job_id, raw)

    monkeypatch.setattr(Store, "adopt", adopt)
    with pytest.raises(KeyboardInterrupt):
        join(tmp_path / "results", tmp_path / "a")
    monkeypatch.setattr(Store, "adopt", real)
    (merged,) = join(tmp_path / "results", tmp_path / "a")
    assert (len(merged.added), merged.present) == (2, 2)
    assert tree(tmp_path / "results") == tree(tmp_path / "a")


def test_a_damaged_source_is_refused(tmp_path: Path) -> None:
    plan = make_plan()
    store = fill(Store(tmp_path / "a" / "made-up"), plan)
    (store.folder(plan.jobs[0].id) / "scores.parquet").write_bytes(b"other")
    store.record_file(plan.jobs[1].id).write_text("{}")
    with pytest.raises(UserError) as caught:
        join(tmp_path / "results", tmp_path / "a")
    assert plan.jobs[0].id in str(caught.value)
    assert plan.jobs[1].id in str(caught.value)
    assert not (tmp_path / "results").exists()


def test_a_record_under_another_jobs_name_in_the_plan_is_refused(tmp_path: Path) -> None:
    """A plan that says that the l2's records are the l1's would show them under that name."""
    plan = make_plan()
    store = fill(Store(tmp_path / "a" / "made-up"), plan)
    swapped = plan.model_copy(update={"methods": tuple(reversed(plan.methods))})
    store.write_plan(swapped, "name: made-up\n")
    with pytest.raises(UserError, match="not of the job that the plan specifies"):
        join(tmp_path / "results", tmp_path / "a")


# Plans


def test_labels_that_mean_two_things_are_told_apart() -> None:
    plan = make_plan()
    methods = (plan.methods[0].model_copy(update={"kl_weight": 7.5}), plan.methods[1])
    other = make_plan(seeds=(2,)).model_copy(update={"methods": methods})
    jobs = tuple(planned.model_copy(update={"id": other.job(planned).id}) for planned in other.jobs)
    joined, problems = join_plans([("a", plan), ("b", other.model_copy(update={"jobs": jobs}))])
    assert not problems
    assert joined is not None
    assert [method.label for method in joined.methods] == ["l2", "l1", "l2 kl_weight=7.5"]
    assert all(joined.job(planned).id == planned.id for planned in joined.jobs)
    assert join_plans([("ab", joined), ("b", other.model_copy(update={"jobs": jobs}))])[0] == joined


def test_other_trainings_become_other_settings() -> None:
    plan = make_plan()
    longer = plan.settings[0].training.model_copy(update={"epochs": 9})
    other = plan.model_copy(update={"settings": (plan.settings[0].model_copy(update={"training": longer}),)})
    jobs = tuple(planned.model_copy(update={"id": other.job(planned).id}) for planned in other.jobs)
    joined, _ = join_plans([("a", plan), ("b", other.model_copy(update={"jobs": jobs}))])
    assert joined is not None
    assert [setting.label for setting in joined.settings] == ["photos · vae", "photos · vae training.epochs=9"]
    assert len(joined.jobs) == 8


SSIM = (Column(name="psnr", direction="higher", unit="dB", digits=2), Column(name="ssim", direction="higher"))


def test_plans_with_other_lists_of_metrics_are_joined() -> None:
    plan, other = make_plan(), make_plan(columns=SSIM)
    joined, problems = join_plans([("here", plan), ("there", other)])
    assert joined is not None
    assert not problems
    assert [column.name for column in joined.columns] == ["psnr", "mse", "ssim"]
    assert joined.metrics.keys() == {"psnr", "mse", "ssim"}
    assert joined.ranking == ("psnr", "mse", "ssim")
    assert joined.jobs == plan.jobs
    assert [job.id for job in other.jobs] == [job.id for job in plan.jobs]


def test_plans_of_schema_1_are_joined_only_with_their_like() -> None:
    plan = make_plan()
    old = plan.model_copy(update={"schema_version": 1})
    _, problems = join_plans([("here", plan), ("there", old)])
    assert "the same job has two ids; 'recbench upgrade' makes the older one fit" in problems[0]
    _, problems = join_plans(
        [("here", old), ("there", make_plan(columns=SSIM).model_copy(update={"schema_version": 1}))]
    )
    assert any("the metric ssim, which only one of them has" in problem for problem in problems)


def test_metrics_that_are_shown_otherwise_are_joined_and_named() -> None:
    plan = make_plan()
    columns = (plan.columns[0].model_copy(update={"digits": 3}), plan.columns[1])
    other = make_plan(ranking=["psnr"]).model_copy(update={"columns": columns})
    labels = new_labels(plan, other)
    assert labels == {}
    told = list(remarks("a", plan, "b", other, labels))
    assert told == [
        "the metric psnr is shown as in a; b differs in digits 2 and 3",
        "metrics that rank in one plan rank in the joined one: mse (only in a)",
    ]
    joined, problems = join_plans([("a", plan), ("b", other)])
    assert not problems
    assert joined == plan


def score_with(
    store: Store,
    plan: Plan,
    labels: list[str],
    model: bytes,
    mean: float = 1.0,
    traces: Mapping[str, Any] | None = None,
) -> None:
    """Write records of all jobs of a plan, with scores by these metrics of a model of these bytes."""
    store.write_plan(plan, "name: made-up\n")
    for planned in plan.jobs:
        folder = store.folder(planned.id)
        folder.mkdir(parents=True)
        write_scores(folder, {**{label: np.full(8, mean + i) for i, label in enumerate(labels)}, "kl": np.ones(8)})
        (folder / "model.safetensors").write_bytes(model)
        if traces:
            (folder / "traces.npz").write_bytes(traces_content(traces))
        files = {path.name: File.of(path.read_bytes()) for path in folder.iterdir()}
        scores = {label: Score(mean=mean + i, std=0.0, n=8) for i, label in enumerate(labels)}
        store.add(make_record(plan, planned, scores=scores, files=files))


@pytest.mark.parametrize("first_is_target", [True, False])
def test_scores_of_the_same_models_by_other_metrics_are_joined(tmp_path: Path, first_is_target: bool) -> None:
    plan, other = make_plan(["l2"], seeds=[0]), make_plan(["l2"], seeds=[0], columns=SSIM)
    target = tmp_path / "into" / plan.suite
    one, two = Store(target if first_is_target else tmp_path / "one"), Store(tmp_path / "two")
    score_with(one, plan, ["psnr", "mse"], b"model")
    score_with(two, other, ["psnr", "ssim"], b"model")
    given = [tmp_path / "two"] if first_is_target else [tmp_path / "one", tmp_path / "two"]
    for _ in range(2):  # the second time, nothing is left to do
        with sources(given) as found:
            (merged,) = merge(found, tmp_path / "into")
    assert merged.added == []
    store = Store(target)
    (job,) = store.read_plan().jobs
    record = store.read(job.id)
    assert record is not None
    assert {label: score.mean for label, score in record.scores.items()} == {"psnr": 1.0, "mse": 2.0, "ssim": 2.0}
    assert [again.metrics for again in record.rescored] == [("ssim",)]
    columns = read_scores(store.folder(job.id), files=record.files)
    assert {name: float(values[0]) for name, values in columns.items()} == {"psnr": 1, "mse": 2, "ssim": 2, "kl": 1}
    assert store.scan(store.read_plan()).stale == {}


def test_scores_of_another_model_are_not_joined(tmp_path: Path) -> None:
    plan, other = make_plan(["l2"], seeds=[0]), make_plan(["l2"], seeds=[0], columns=SSIM)
    score_with(Store(tmp_path / "one"), plan, ["psnr", "mse"], b"model")
    score_with(Store(tmp_path / "two"), other, ["psnr", "ssim"], b"other")
    with sources([tmp_path / "one", tmp_path / "two"]) as found:
        (merged,) = merge(found, tmp_path / "into")
    assert any("its scores of ssim" in note and "are of another model" in note for note in merged.notes)
    store = Store(tmp_path / "into" / plan.suite)
    assert store.scan(store.read_plan()).stale == {plan.jobs[0].id: ("ssim",)}


def edited(plan: Plan, code: str) -> Plan:
    """The plan with another code of psnr: the same jobs, scored by another metric of that label."""
    metrics = {**plan.metrics, "psnr": plan.metrics["psnr"].model_copy(update={"code": code})}
    return plan.model_copy(update={"metrics": metrics})


def test_metrics_of_other_code_are_kept_apart_and_named(tmp_path: Path) -> None:
    """Two stores with other methods, in which psnr has other code: one board, with a column for each of the two."""
    one, two = edited(make_plan(["l2"]), "a" * 16), edited(make_plan(["l1"], params={"eps": 1}), "b" * 16)
    score_with(Store(tmp_path / "one"), one, ["psnr", "mse"], b"model")
    score_with(Store(tmp_path / "two"), two, ["psnr", "mse"], b"model", mean=5.0)
    trees = []
    for _ in range(2):  # the second time, nothing is left to do
        (merged,) = join(tmp_path / "into", tmp_path / "one", tmp_path / "two")
        trees.append({name: raw for name, raw in tree(tmp_path / "into").items() if "suite" not in name})
        (note,) = (note for note in merged.notes if "psnr" in note)
        assert f"(code {'a' * 16} and {'b' * 16}): their scores are kept apart" in note
        assert note.endswith("two as psnr@bbbbbbbb")
    assert trees[0] == trees[1]
    assert (len(merged.added), merged.present) == (0, 4)
    store = Store(tmp_path / "into" / "made-up")
    plan = store.read_plan()
    (board,) = rank_stored(plan, store, store.scan(plan).records).boards
    assert {row.label: sorted(row.cells) for row in board.rows} == {
        "l2": ["mse", "psnr"], "l1": ["mse", "psnr@bbbbbbbb"],
    }  # fmt: skip
    assert all(row.status == "ranked" for row in board.rows)
    for planned in plan.jobs:
        record = store.read(planned.id)
        assert record is not None
        assert set(read_scores(store.folder(planned.id), files=record.files)) == {*record.scores, "kl"}


def test_scores_of_one_model_by_two_codes_of_a_metric_are_joined(tmp_path: Path) -> None:
    plan = make_plan(["l2"], seeds=[0])
    score_with(Store(tmp_path / "one"), edited(plan, "a" * 16), ["psnr", "mse"], b"model")
    score_with(Store(tmp_path / "two"), edited(plan, "b" * 16), ["psnr", "mse"], b"model")
    join(tmp_path / "into", tmp_path / "one", tmp_path / "two")
    store = Store(tmp_path / "into" / "made-up")
    record = store.read(plan.jobs[0].id)
    assert record is not None
    assert record.scores.keys() == {"psnr", "mse", "psnr@bbbbbbbb"}
    assert store.scan(store.read_plan()).stale == {}
    (merged,) = join(tmp_path / "into", tmp_path / "two", tmp_path / "one")
    assert (merged.added, merged.completed, merged.present) == ([], [], 1)


def test_traces_of_metrics_come_along_with_their_scores(tmp_path: Path) -> None:
    plan, other = make_plan(["l2"], seeds=[0]), make_plan(["l2"], seeds=[0], columns=SSIM)
    kept = {"kernels": np.ones((2, 2)), "mse_spectrum": np.zeros(3)}
    score_with(Store(tmp_path / "one"), plan, ["psnr", "mse"], b"model", traces=kept)
    score_with(Store(tmp_path / "two"), other, ["psnr", "ssim"], b"model", traces={"ssim_spectrum": np.full(3, 7.0)})
    join(tmp_path / "into", tmp_path / "one", tmp_path / "two")
    store = Store(tmp_path / "into" / "made-up")
    record = store.read(plan.jobs[0].id)
    assert record is not None
    found = read_traces(store.folder(plan.jobs[0].id), record.files)
    assert found.keys() == {"kernels", "mse_spectrum", "ssim_spectrum"}
    assert found["ssim_spectrum"].tolist() == [7, 7, 7]


# The command line


def test_the_commands_in_the_docs_are_understood() -> None:
    """Every line of docs/sharing.md that begins with recbench has a command and options that exist."""
    lines = [
        line
        for block in blocks(ROOT / "docs" / "sharing.md")
        if block.language == "sh"
        for line in block.text.splitlines()
    ]
    commands = [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("recbench ")]
    assert {words[0] for words in commands} >= {"export", "merge", "compare", "verify", "run"}
    for name, *arguments in commands:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None, name
        command.make_context(name, arguments)


@pytest.mark.slow
def test_export_and_merge_from_the_command_line(tmp_path: Path, recbench: Recbench) -> None:
    plan = make_plan(methods=("l2",), seeds=(0,))
    fill(Store(tmp_path / "results" / "made-up"), plan)
    done = recbench("export", "made-up", "-o", "out.zip", "--with", "images")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1 of 1 jobs of made-up are in out.zip")
    assert recbench("merge", "out.zip", "--into", "elsewhere").stdout.startswith("made-up: 1 jobs merged")
    board = recbench("leaderboard", "made-up", "--results", "elsewhere", "--format", "json")
    assert json.loads(board.stdout)["done"] == 1
    assert recbench("export", "made-up", "-o", "no/such/folder/out.zip").returncode == 2
    assert "did you mean" in recbench("export", "made-upp").stderr
    assert recbench("merge", "nothing.zip", "--into", "elsewhere").returncode == 2


# Reading what others made


def rebuilt(tmp_path: Path, change: Change, *, manifest: bool = True, extra: Mapping[str, Any] | None = None) -> Path:
    """An export whose members were changed, with a manifest that fits them."""
    store = fill(Store(tmp_path / "origin" / "made-up"), make_plan(methods=("l2",), seeds=(0,)))
    export(store, tmp_path / "good.zip")
    with zipfile.ZipFile(tmp_path / "good.zip") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    suite = json.loads(members.pop("manifest.json"))["suite"]
    change(members)
    files = {name: {"bytes": len(c), "sha256": hashlib.sha256(c).hexdigest()} for name, c in members.items()}
    facts = {"format": "recbench export", "version": 1, "suite": suite, "files": files, **(extra or {})}
    with zipfile.ZipFile(tmp_path / "bad.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        if manifest:
            archive.writestr("manifest.json", json.dumps(facts))
        for name, content in members.items():
            archive.writestr(name, content)
    return tmp_path / "bad.zip"


def test_an_export_that_was_rebuilt_without_changes_is_taken(tmp_path: Path) -> None:
    file = rebuilt(tmp_path, lambda members: None)
    (merged,) = join(tmp_path / "results", file)
    assert len(merged.added) == 1


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../evil.txt", "does not belong in an export"),
        ("/etc/evil", "does not belong in an export"),
        ("jobs/../../evil/record.json", "does not belong in an export"),
        ("jobs/0123456789abcdef/../x", "does not belong in an export"),
        ("jobs/0123456789abcdef/model.pkl", "does not belong in an export"),
        ("jobs\\0123456789abcdef\\record.json", "does not belong in an export"),
    ],
)
def test_names_that_no_export_has_are_refused(name: str, words: str, tmp_path: Path) -> None:
    file = rebuilt(tmp_path, lambda members: members.update({name: b"x"}))
    with pytest.raises(ArchiveError, match=words):
        join(tmp_path / "results", file)
    assert not (tmp_path / "results").exists()


def test_links_in_an_export_are_refused(tmp_path: Path) -> None:
    file = rebuilt(tmp_path, lambda members: None)
    with zipfile.ZipFile(file, "a") as archive:
        link = zipfile.ZipInfo("jobs/0123456789abcdef/record.json")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ArchiveError, match="is a link"):
        Archive(file)


def test_a_bomb_is_refused_before_it_goes_off(tmp_path: Path) -> None:
    zeros = b"\0" * (64 << 20)
    file = rebuilt(tmp_path, lambda members: members.update({"jobs/0123456789abcdef/images.npz": zeros}))
    assert file.stat().st_size < 1 << 20
    with pytest.raises(ArchiveError, match="times its own size"):
        Archive(file)


def test_a_manifest_must_tell_the_truth(tmp_path: Path) -> None:
    good = rebuilt(tmp_path / "1", lambda members: None)
    with zipfile.ZipFile(good) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    facts = json.loads(members["manifest.json"])
    facts["files"]["plan.json"]["sha256"] = "0" * 64
    members["manifest.json"] = json.dumps(facts).encode()
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(ArchiveError, match="is not what its manifest says"):
        Archive(tmp_path / "bad.zip")


@pytest.mark.parametrize("suite", ["../../elsewhere", "/tmp/x", "", ".hidden"])
def test_the_name_of_a_suite_cannot_lead_out_of_the_folder(suite: str, tmp_path: Path) -> None:
    def change(members: dict[str, bytes]) -> None:
        plan = json.loads(members["plan.json"])
        members["plan.json"] = json.dumps({**plan, "suite": suite}).encode()

    with pytest.raises(ArchiveError, match="is not a valid name of a suite"):
        Archive(rebuilt(tmp_path, change, extra={"suite": suite}))


def test_other_files_are_refused_as_exports(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    (tmp_path / "empty").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("hello.txt", "hello")
    for name in ("text", "empty", "other.zip"):
        with pytest.raises(ArchiveError, match="expected an export"):
            Archive(tmp_path / name)
    with pytest.raises(UserError, match="expected an export or a folder"):
        join(tmp_path / "results", tmp_path / "nowhere")


def test_a_truncated_export_is_refused(tmp_path: Path) -> None:
    store = fill(Store(tmp_path / "made-up"), make_plan())
    export(store, tmp_path / "good.zip")
    raw = (tmp_path / "good.zip").read_bytes()
    for length in (10, len(raw) // 2, len(raw) - 5):
        (tmp_path / "bad.zip").write_bytes(raw[:length])
        with pytest.raises(ArchiveError):
            join(tmp_path / "results", tmp_path / "bad.zip")
    flipped = bytearray(raw)
    flipped[len(raw) // 3] ^= 255
    (tmp_path / "bad.zip").write_bytes(flipped)
    with pytest.raises(UserError):
        join(tmp_path / "results", tmp_path / "bad.zip")
    assert not (tmp_path / "results").exists()


def test_links_in_a_folder_are_refused(tmp_path: Path) -> None:
    plan = make_plan(methods=("l2",), seeds=(0,))
    store = fill(Store(tmp_path / "a" / "made-up"), plan)
    (tmp_path / "secret").write_text("secret")
    (store.root / "suite.yaml").unlink()
    (store.root / "suite.yaml").symlink_to(tmp_path / "secret")
    with pytest.raises(UserError, match="is a link"):
        join(tmp_path / "results", tmp_path / "a")


def test_merging_into_the_folder_of_one_suite_is_refused(tmp_path: Path) -> None:
    store = fill(Store(tmp_path / "a" / "made-up"), make_plan())
    with pytest.raises(UserError, match="the folder above it"):
        join(store.root, tmp_path / "a")


def test_nothing_of_a_merge_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    def explode(*_: object, **__: object) -> None:
        raise AssertionError("unpickled")

    monkeypatch.setattr(pickle, "load", explode)
    monkeypatch.setattr(pickle, "loads", explode)
    fill(Store(tmp_path / "a" / "made-up"), make_plan())
    assert len(join(tmp_path / "results", tmp_path / "a")[0].added) == 4
