from __future__ import annotations

from recbench.analysis.protocols import differences, metric_differences
from recbench.analysis.ranking import rank
from recbench.plan.model import ComponentSpec
from recbench.store.record import Data, Record
from tests.made_up import FINGERPRINT, make_plan, make_record


def record_with(job_changes: dict[str, object], fingerprint: str = FINGERPRINT) -> Record:
    plan = make_plan(["a"], seeds=[0])
    (planned,) = plan.jobs
    job = plan.job(planned).model_copy(update=job_changes)
    data = Data(fingerprint=fingerprint, train=32, validation=4, test=8)
    return make_record(plan, planned, job=job, protocol=job.protocol(fingerprint), data=data)


def test_every_difference_is_named_with_both_values() -> None:
    job = record_with({}).job
    changed = {
        "dataset": ComponentSpec(name="photos", params={"size": 64}),
        "architecture": ComponentSpec(name="vae", code="other"),
        "training": job.training.model_copy(update={"epochs": 5}),
        "numerics": 9,
    }
    assert differences(record_with({}), record_with(changed, "e" * 64)) == [
        "architecture: its code has changed",
        "dataset.params.size: 32 and 64",
        f"version of recbench's numbers: {job.numerics} and 9",
        "training.epochs: 3 and 5",
        "images: 32 training, 4 validation and 8 test images with the fingerprint ffffffffffff, and "
        "32 training, 4 validation and 8 test images with the fingerprint eeeeeeeeeeee",
    ]


def test_where_the_images_are_is_no_difference() -> None:
    here, there = (
        record_with({"dataset": ComponentSpec(name="arrays", params={"test": 0.1}, locations={"root": root})})
        for root in ("a", "/somewhere/else")
    )
    assert differences(here, there) == []
    assert (here.job.id, here.protocol) == (there.job.id, there.protocol)


def test_method_and_seed_are_no_differences() -> None:
    assert (
        differences(record_with({}), record_with({"kl_weight": 9.0, "seed": 7, "loss": ComponentSpec(name="x")})) == []
    )


def test_metrics_are_compared_one_by_one() -> None:
    whole = record_with({})
    fewer = whole.model_copy(
        update={"job": whole.job.model_copy(update={"metrics": {"psnr": ComponentSpec(name="psnr")}})}
    )
    assert differences(whole, fewer) == []
    assert metric_differences(whole, fewer) == []
    edited = record_with({"metrics": {**whole.job.metrics, "psnr": ComponentSpec(name="psnr", code="f" * 16)}})
    assert differences(whole, edited) == []
    assert metric_differences(whole, edited) == ["metrics.psnr: its code has changed"]
    first, second = (record.model_copy(update={"schema_version": 1}) for record in (whole, fewer))
    (line,) = differences(first, second)
    assert line.startswith("metrics.mse: ")
    assert line.endswith(" and absent")


def test_a_note_says_who_saw_which_images() -> None:
    plan = make_plan(["a", "b", "c"], seeds=[0])
    records = {}
    for planned in plan.jobs:
        fingerprint = "e" * 64 if planned.method == 2 else FINGERPRINT
        data = Data(fingerprint=fingerprint, train=30, validation=4, test=8)
        records[planned.id] = make_record(plan, planned, protocol=plan.job(planned).protocol(fingerprint), data=data)
    leaderboard = rank(plan, records)
    assert [[row.label for row in board.rows if row.place] for board in leaderboard.boards] == [["a", "b"], ["c"]]
    (note,) = leaderboard.notes
    assert "2 protocols and are not ranked together" in note
    assert "2 records of a, b (30 training, 4 validation and 8 test images with the fingerprint ffffffffffff)" in note
    assert "1 record of c (30 training, 4 validation and 8 test images with the fingerprint eeeeeeeeeeee)" in note


def test_a_hash_that_does_not_follow_is_found_and_explained() -> None:
    """One record claims the protocol of the others, though its images differ."""
    plan = make_plan(["a", "b", "c"], seeds=[0])
    records = {planned.id: make_record(plan, planned) for planned in plan.jobs}
    liar = plan.jobs[2]
    data = Data(fingerprint="e" * 64, train=32, validation=4, test=8)
    records[liar.id] = records[liar.id].model_copy(update={"data": data})
    leaderboard = rank(plan, records)
    assert [[row.label for row in board.rows if row.place] for board in leaderboard.boards] == [["a", "b"], ["c"]]
    (note,) = leaderboard.notes
    assert "does not follow from their job and images" in note.split("1 record of c", 1)[1]
    assert "does not follow" not in note.split("1 record of c", 1)[0]


def test_a_hash_of_another_version_is_noted_even_if_all_have_it() -> None:
    plan = make_plan(["a", "b"], seeds=[0])
    records = {planned.id: make_record(plan, planned, protocol="0" * 16) for planned in plan.jobs}
    leaderboard = rank(plan, records)
    assert [row.place for row in leaderboard.boards[0].rows] == [1, 1]
    (note,) = leaderboard.notes
    assert "their protocol hash 0000000000000000 does not follow" in note
