from __future__ import annotations

import errno
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
from pydantic import ValidationError

from recbench import files as files_module
from recbench.errors import OutOfSpaceError, UserError
from recbench.files import full_disk_named, lock, write_atomically
from recbench.plan.merge import join_plans
from recbench.plan.model import BoardSetting, PlannedJob
from recbench.plan.plan import Plan
from recbench.store.costs import COST_COLUMNS
from recbench.store.record import Cost, Record, Score, record_schema, sealed
from recbench.store.store import Store
from tests.conftest import TINY, Recbench
from tests.made_up import make_plan, make_record, make_trouble

PLAN = make_plan()
FIRST, SECOND = PLAN.jobs[:2]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "made-up")


def put(store: Store, job_id: str, text: str | bytes) -> Path:
    """Place a record file, whatever it holds."""
    file = store.record_file(job_id)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def text_of(record: Record) -> str:
    return record.model_dump_json(indent=1)


def wait_for(line: str, process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline().strip() == line


# Records come back as they were


def test_a_record_is_read_back_as_it_was_written(store: Store) -> None:
    record = make_record(PLAN, FIRST)
    store.add(record)
    assert store.read(FIRST.id) == record
    assert store.read(SECOND.id) is None


def test_a_scan_finds_what_is_there_and_agrees_with_read(store: Store) -> None:
    done, failed = make_record(PLAN, FIRST), make_trouble(PLAN, SECOND)
    store.add(done)
    store.add(failed)
    scan = store.scan(PLAN)
    assert set(scan.records) == {FIRST.id, SECOND.id}
    assert not scan.damaged
    for job_id, line in scan.records.items():
        record = store.read(job_id)
        assert record is not None
        for name in ("status", "protocol", "scores", "failure", "data", "evaluated"):
            assert getattr(line, name) == getattr(record, name), name


def test_infinities_survive_as_valid_json(store: Store) -> None:
    scores = {"psnr": Score(mean=math.inf, std=None, n=8), "mse": Score(mean=-math.inf, std=math.inf, n=8)}
    store.add(make_record(PLAN, FIRST, scores))

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    json.loads(store.record_file(FIRST.id).read_text(), parse_constant=refuse)
    record = store.read(FIRST.id)
    assert record is not None
    assert record.scores == scores == store.scan(PLAN).records[FIRST.id].scores


def test_infinite_parameters_do_not_change_the_id_of_a_job_that_is_read_back(store: Store) -> None:
    plan = make_plan(params={"threshold": math.inf, "steps": [1.0, -math.inf]})
    store.write_plan(plan, "")
    store.add(make_record(plan, plan.jobs[0]))
    again = store.read_plan()
    assert [again.job(planned).id for planned in again.jobs] == [planned.id for planned in plan.jobs]
    assert store.scan(plan).records.keys() == store.scan(again).records.keys() == {plan.jobs[0].id}


def test_scores_are_never_nan() -> None:
    with pytest.raises(ValidationError):
        Score(mean=math.nan, std=None, n=1)


def test_a_plan_is_read_back_as_it_was_written(store: Store) -> None:
    plan = make_plan(methods=["l2", 'λ=½ "quoted"'], settings=["a", "b"], params={"a": [1, 2.5], "b": "x"})
    store.write_plan(plan, "name: made-up\n")
    assert store.read_plan() == plan
    assert (store.root / "suite.yaml").read_text() == "name: made-up\n"


def test_an_unchanged_plan_is_left_alone_and_a_damaged_one_written_anew(store: Store) -> None:
    store.write_plan(PLAN, "x")
    before = store.plan_file.stat()
    store.write_plan(PLAN, "x")
    assert store.plan_file.stat().st_ino == before.st_ino
    store.plan_file.write_bytes(b"\xff\xfe not utf-8")
    with pytest.raises(UserError, match=r"plan\.json cannot be used"):
        store.read_plan()
    store.write_plan(PLAN, "x")
    assert store.read_plan() == PLAN


def test_without_a_plan_the_error_says_how_to_get_one(store: Store) -> None:
    with pytest.raises(UserError, match=r"there are no results in .*'recbench run SUITE'"):
        store.read_plan()


def test_a_task_is_read_back_and_a_foreign_one_refused(store: Store) -> None:
    job = PLAN.job(FIRST)
    store.write_task(job, "made-up")
    assert store.read_task(FIRST.id) == (job, "made-up")
    (store.folder(FIRST.id) / "job.json").rename(store.root / "job.json")
    with pytest.raises(ValueError, match="no specification"):
        store.read_task(FIRST.id)
    store.folder(SECOND.id).mkdir()
    (store.root / "job.json").rename(store.folder(SECOND.id) / "job.json")
    with pytest.raises(ValueError, match=f"is of the job {FIRST.id}"):
        store.read_task(SECOND.id)
    store.write_task(PLAN.job(SECOND), "made-up")
    assert store.read_task(SECOND.id)[0] == PLAN.job(SECOND)


def test_a_record_and_a_plan_of_schema_1_are_read_as_they_are(store: Store) -> None:
    """Their ids cover the place of the images, which was a parameter as any other."""
    plan = json.loads(make_plan(["l2"], seeds=[0]).model_dump_json())
    plan["schema_version"] = 1
    plan["settings"][0]["dataset"]["params"] = {"root": "data/arrays"}
    (job,) = plan["jobs"]
    job["id"] = Plan.model_validate(plan).id_of(PlannedJob.model_validate(job))
    old = Plan.model_validate(plan)
    store.write_plan(old, "")
    record = json.loads(make_record(old, old.jobs[0]).model_dump_json())
    store.folder(job["id"]).mkdir(parents=True)
    store.record_file(job["id"]).write_bytes(sealed(json.dumps({**record, "schema_version": 1}, indent=1)))
    found = store.read(job["id"])
    assert found is not None
    assert found.job.dataset.arguments == {"root": "data/arrays"}
    assert store.scan(store.read_plan()).records.keys() == {job["id"]}


def test_a_scan_knows_a_job_whose_images_were_elsewhere(store: Store) -> None:
    plan = make_plan(["l2"], seeds=[0])
    here, there = (
        plan.model_copy(update={"settings": tuple(_at(setting, root) for setting in plan.settings)})
        for root in ("here", "there")
    )
    assert here.job(here.jobs[0]).id == there.job(there.jobs[0]).id == plan.jobs[0].id
    store.add(make_record(here, here.jobs[0]))
    assert store.scan(there).records.keys() == {plan.jobs[0].id}
    joined, problems = join_plans([("a", here), ("b", there)])
    assert (joined, problems) == (here, [])


def _at(setting: BoardSetting, root: str) -> BoardSetting:
    return setting.model_copy(update={"dataset": setting.dataset.model_copy(update={"locations": {"root": root}})})


# Records that cannot be used

WHOLE = text_of(make_record(PLAN, FIRST))


def edited(**changes: object) -> str:
    return json.dumps({**json.loads(WHOLE), **changes})


def edited_job(**changes: object) -> str:
    return edited(job={**json.loads(WHOLE)["job"], **changes})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("", "truncated", id="empty"),
        pytest.param(WHOLE[: len(WHOLE) // 2], "truncated", id="half"),
        pytest.param(WHOLE.rstrip().removesuffix("}"), "truncated", id="all but the last brace"),
        pytest.param("\0" * 4096, "truncated", id="zeros, as after a power cut"),
        pytest.param(b"\xff\xfe\x00", "truncated", id="not text"),
        pytest.param("[" * 100_000, "truncated", id="nested without end"),
        pytest.param("[]", "foreign: not a record", id="a list"),
        pytest.param("null", "foreign: not a record", id="null"),
        pytest.param('{"hello": "world"}', "foreign: not a record", id="another program's"),
        pytest.param(edited(schema_version=3), "newer recbench: schema 3, this one reads 2", id="newer"),
        pytest.param('{"schema_version": 3, "jobs": []}', "newer recbench: schema 3", id="newer and quite different"),
        pytest.param(text_of(make_record(PLAN, SECOND)), f"foreign: it is of the job {SECOND.id}", id="of another job"),
        pytest.param(edited_job(seed=77), "foreign: it is of the job", id="its job was edited"),
        pytest.param(edited(job_id="0" * 16), "foreign: it is of the job", id="its id was edited"),
        pytest.param(edited(job=[]), "foreign", id="no job"),
        pytest.param(edited(status="splendid"), "foreign: not a record.*status", id="unknown status"),
        pytest.param(edited(scores={}), "foreign|done, but its scores", id="done without scores"),
        pytest.param(
            edited(scores={"psnr": {"mean": "NaN", "std": None, "n": 1}}), "foreign: not a record.*mean", id="nan"
        ),
        pytest.param(edited(evaluated=None), "done, but", id="done without evaluation"),
        pytest.param(edited(status="failed"), "does not say why", id="failed without a failure"),
    ],
)
def test_an_invalid_record_is_refused_with_the_reason(store: Store, text: str | bytes, reason: str) -> None:
    file = put(store, FIRST.id, text)
    before = file.read_bytes()
    with pytest.raises(ValueError, match=reason):
        store.read(FIRST.id)
    scan = store.scan(PLAN)
    assert not scan.records
    assert [damaged.job_id for damaged in scan.damaged] == [FIRST.id]
    with pytest.raises(ValueError, match=reason):
        raise ValueError(scan.damaged[0].reason)
    assert file.read_bytes() == before, "looking at a record changes nothing"


def test_a_folder_in_place_of_a_record_is_refused(store: Store) -> None:
    store.record_file(FIRST.id).mkdir(parents=True)
    with pytest.raises(ValueError, match="cannot be read"):
        store.read(FIRST.id)


def test_cutting_a_record_anywhere_is_noticed(store: Store) -> None:
    generator = random.Random(0)
    for _ in range(200):
        put(store, FIRST.id, WHOLE[: generator.randrange(len(WHOLE.rstrip()) - 1)])
        scan = store.scan(PLAN)
        assert len(scan.damaged) == 1
        assert "truncated" in scan.damaged[0].reason


def test_setting_aside_moves_everything_and_says_why(store: Store) -> None:
    for number in (1, 2, 3):
        content = f"rubbish {number}"
        put(store, FIRST.id, content)
        (store.folder(FIRST.id) / "model.safetensors").write_text("weights")
        target = store.set_aside(FIRST.id, f"reason {number}")
        assert target == store.root / "set-aside" / f"{FIRST.id}-{number}"
        assert not store.folder(FIRST.id).exists()
    for number in (1, 2, 3):
        aside = store.root / "set-aside" / f"{FIRST.id}-{number}"
        assert (aside / "record.json").read_text() == f"rubbish {number}"
        assert (aside / "model.safetensors").read_text() == "weights"
        assert (aside / "why.txt").read_text() == f"reason {number}\n"


# What a store never does


def test_failed_records_are_kept_when_the_job_runs_again(store: Store) -> None:
    for number in (1, 2):
        store.add(make_trouble(PLAN, FIRST, message=f"attempt {number}"))
    store.add(make_record(PLAN, FIRST))
    for number in (1, 2):
        kept = Record.model_validate_json((store.folder(FIRST.id) / f"failed-{number}.json").read_bytes())
        assert kept.failure is not None
        assert kept.failure.message == f"attempt {number}"
    record = store.read(FIRST.id)
    assert record is not None
    assert record.status == "done"


@pytest.mark.parametrize("status", ["done", "diverged"])
def test_only_failures_are_replaced(store: Store, status: str) -> None:
    store.add(make_record(PLAN, FIRST) if status == "done" else make_trouble(PLAN, FIRST, "diverged"))
    before = store.record_file(FIRST.id).read_bytes()
    for late in (make_record(PLAN, FIRST), make_trouble(PLAN, FIRST)):
        with pytest.raises(FileExistsError):
            store.add(late)
    assert store.record_file(FIRST.id).read_bytes() == before
    assert not list(store.folder(FIRST.id).glob("failed-*"))


def test_a_record_that_cannot_be_used_is_not_replaced_either(store: Store) -> None:
    file = put(store, FIRST.id, "rubbish")
    with pytest.raises(ValueError, match="truncated"):
        store.add(make_record(PLAN, FIRST))
    assert file.read_text() == "rubbish"


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
def test_a_record_that_appears_meanwhile_is_not_replaced(
    store: Store, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """As when two machines run the same job on a file system without working locks."""
    theirs = make_record(PLAN, FIRST)
    if not links:
        monkeypatch.setattr(Path, "hardlink_to", lambda *_: raise_errno(errno.EPERM))
    monkeypatch.setattr(store, "read", lambda _: put(store, FIRST.id, text_of(theirs)) and None)
    with pytest.raises(FileExistsError):
        store.add(make_trouble(PLAN, FIRST))
    monkeypatch.undo()
    assert store.read(FIRST.id) == theirs


def test_records_are_written_where_there_are_no_hard_links(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "hardlink_to", lambda *_: raise_errno(errno.EPERM))
    store.add(make_record(PLAN, FIRST))
    assert store.read(FIRST.id) == make_record(PLAN, FIRST)


def raise_errno(number: int) -> None:
    raise OSError(number, os.strerror(number))


# Whole or absent, whatever happens


def write_for_ever(file: Path) -> None:
    """What a forked child does until it is killed."""
    try:
        number = 0
        while True:
            number += 1
            write_atomically(file, (f"{number} " * 100_000).encode())
    finally:
        os._exit(1)


@pytest.mark.slow
def test_a_writer_that_is_killed_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    generator = random.Random(0)
    found = {"absent": 0, "whole": 0, "leftovers": 0}
    for number in range(100):
        file = tmp_path / str(number // 2) / "record.json"  # every other time there is a file already
        child = os.fork()
        if child == 0:
            write_for_ever(file)
        time.sleep(generator.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL, "the writer ended by itself"
        if file.exists():
            words = file.read_text().split()
            assert len(words) == 100_000
            assert len(set(words)) == 1, "a mixture of two writes"
        names = {path.name for path in file.parent.glob("*")}
        assert {name for name in names if not name.startswith(".")} <= {"record.json"}
        found["whole" if file.exists() else "absent"] += 1
        found["leftovers"] += any(name.startswith(".") for name in names)
    assert all(found.values()), f"the moments were not random enough to test anything: {found}"


def test_leftovers_of_killed_writers_are_ignored_and_removed_with_the_next_record(store: Store) -> None:
    folder = store.folder(FIRST.id)
    folder.mkdir(parents=True)
    leftovers = [folder / ".record.json.a1.unfinished", folder / ".model.safetensors.b2.unfinished"]
    for leftover in leftovers:
        leftover.write_text("half")
    assert store.read(FIRST.id) is None
    store.add(make_record(PLAN, FIRST))
    assert not any(leftover.exists() for leftover in leftovers)
    assert store.read(FIRST.id) is not None


@pytest.mark.parametrize("call", ["fsync", "fdopen"])
def test_a_full_disk_is_named_and_the_old_file_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    file = tmp_path / "record.json"
    write_atomically(file, b"old")
    monkeypatch.setattr(files_module.os, call, lambda *_: raise_errno(errno.ENOSPC))
    with pytest.raises(OutOfSpaceError, match=f"no space left .*{tmp_path}"):
        write_atomically(file, b"new")
    monkeypatch.undo()
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_disk_that_is_really_full_is_named() -> None:
    with pytest.raises(OutOfSpaceError), full_disk_named(Path("/dev")), Path("/dev/full").open("w") as stream:
        stream.write("x" * 100_000)


def test_other_errors_keep_their_names(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", b"")
    with pytest.raises(FileExistsError):
        write_atomically(tmp_path / "file", b"", new=True)
    with pytest.raises((NotADirectoryError, FileExistsError)):
        write_atomically(tmp_path / "file" / "record.json", b"")


# Locks

HOLDER = """\
import sys, time
from pathlib import Path
from recbench.files import lock
with lock(Path(sys.argv[1])) as mine:
    print("held" if mine else "refused", flush=True)
    if mine:
        time.sleep(60)
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True)


def test_a_lock_keeps_others_out_and_dies_with_its_process(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    with holder(folder) as process:
        wait_for("held", process)
        with lock(folder) as mine:
            assert not mine
        with holder(folder) as other:
            wait_for("refused", other)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with lock(folder) as mine:
            assert mine
            with holder(folder) as other:
                wait_for("refused", other)
    with holder(folder) as other:
        wait_for("held", other)
        other.kill()


# The schema


def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads((files("recbench.store") / "record.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_tables_show_every_cost() -> None:
    assert [column.field for column in COST_COLUMNS] == list(Cost.model_fields)
    cost = Cost(images_per_second=1234.56, step_milliseconds=9.87, peak_memory_bytes=3 * 2**29, parameters=1234567)
    assert [column.text(cost) for column in COST_COLUMNS] == ["1234.6", "9.9", "1.50", "1,234,567"]


def test_the_shipped_schema_is_that_of_the_model() -> None:
    shipped = json.loads((files("recbench.store") / "record.schema.json").read_text(encoding="utf-8"))
    assert shipped == record_schema(), "run: python -m recbench.store.record > recbench/store/record.schema.json"


def test_the_schema_holds_for_made_up_records() -> None:
    infinite = {"psnr": Score(mean=math.inf, std=None, n=8), "mse": Score(mean=0.0, std=-math.inf, n=8)}
    crashed = make_trouble(PLAN, FIRST).model_copy(update={"protocol": None, "data": None})
    for record in (make_record(PLAN, FIRST), make_record(PLAN, FIRST, infinite), crashed):
        validator().validate(json.loads(text_of(record)))


@pytest.mark.parametrize(
    "text",
    [
        edited(schema_version=3),
        edited(extra=1),
        edited(status="splendid"),
        edited(failure={"type": "E", "message": ""}),
        edited(status="failed"),
        edited(evaluated=None),
        edited(scores={"psnr": {"mean": "NaN", "std": None, "n": 1}}),
        edited(scores={"psnr": {"mean": None, "std": None, "n": 1}}),
        '{"hello": "world"}',
    ],
)
def test_the_schema_refuses_what_the_model_refuses(text: str) -> None:
    assert list(validator().iter_errors(json.loads(text)))
    with pytest.raises(ValidationError):
        Record.model_validate_json(text)


SUITE = """\
name: tiny
datasets: [blobs]
architectures: [linear]
losses:
  - {name: l2, kl_weight: 0.001}
  - {name: misbehaving, kl_weight: 0.001, params: {what: {grid: [raise, nan, exit]}}}
seeds: [0]
training: {epochs: 1, batch_size: 32}
metrics: [psnr, mean_error, perfect]
"""

PERFECT = """\
from recbench import MetricEntry, hookimpl

def __getattr__(name):
    if name != "Perfect":
        raise AttributeError(name)
    import torch
    from recbench.contracts.metric import ImageMetric

    class Perfect(ImageMetric):
        def __init__(self, shape):
            super().__init__()

        def forward(self, decoded, target):
            return torch.full((len(target),), torch.inf)

    return Perfect

@hookimpl
def recbench_metrics():
    yield MetricEntry(name="perfect", factory=f"{__name__}:Perfect", summary="always infinite", direction="higher")
"""


@pytest.mark.slow
def test_the_schema_holds_for_records_of_a_real_run(tmp_path: Path, recbench: Recbench) -> None:
    (tmp_path / "tiny.yaml").write_text(SUITE)
    (tmp_path / "perfect.py").write_text(PERFECT)
    ran = recbench("run", "tiny.yaml", "--plugin", TINY, "--plugin", "perfect.py")
    assert ran.returncode == 1, ran.stderr
    records = [json.loads(file.read_text()) for file in tmp_path.glob("results/tiny/jobs/*/record.json")]
    assert sorted(record["status"] for record in records) == ["diverged", "done", "failed", "failed"]
    for record in records:
        validator().validate(record)
    (done,) = (record for record in records if record["status"] == "done")
    nothing = {"std": None, "finite": None, "compared": None}
    perfect = {"mean": "Infinity", "n": 32, "warning": "", "infinite": 32, **nothing}
    assert done["scores"]["perfect"] == perfect
    store = Store(tmp_path / "results" / "tiny")
    scan = store.scan(store.read_plan())
    assert len(scan.records) == 4
    assert not scan.damaged
