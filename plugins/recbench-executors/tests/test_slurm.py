"""The Slurm executor without a Slurm: what its commands print, how a worker settles its jobs, what users are told.

On a real Slurm it is tested in test_slurm_cluster.py.
"""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from recbench.contracts.executor import Ended, Event, Executor, JobProgress, Task
from recbench.errors import UserError
from recbench_executors import recbench_executors, slurm, slurm_array, slurm_queue
from recbench_executors.slurm_array import SlurmArray
from recbench_executors.slurm_queue import Element
from recbench_executors.slurm_worker import AGAIN, STOP, SlurmWorker


def entry():
    return next(entry for entry in recbench_executors() if entry.name == "slurm")


def tasks_in(root: Path, count: int, **facts: object) -> list[Task]:
    """Tasks with folders of their own, of no suite that there is."""
    found = []
    for number in range(count):
        folder = root / "jobs" / f"{number:016x}"
        folder.mkdir(parents=True, exist_ok=True)
        found.append(Task(job_id=folder.name, folder=str(folder), cache="nowhere", **facts))  # type: ignore[arg-type]
    return found


# What Slurm prints


def test_the_queue_as_squeue_prints_it() -> None:
    printed = (
        "17_3|recbench-a|RUNNING|None|gpu[01-02]|1-02:03:04\n"
        "17_4|recbench-a|PENDING|JobArrayTaskLimit||3:00:00\n"
        "18_0|recbench-b|NODE_FAIL|NodeDown|gpu07|0:00\n"
        "19|something else|RUNNING|None|gpu01|5:00\n"
    )
    found = slurm_queue.parse_queue(printed)
    assert {place: str(element) for place, element in found.items()} == {
        ("recbench-a", 3): "running in Slurm as 17_3 on gpu[01-02] (1-02:03:04 left)",
        ("recbench-a", 4): "pending in Slurm as 17_4 (JobArrayTaskLimit)",
        ("recbench-b", 0): "node fail in Slurm as 18_0 on gpu07 (NodeDown)",
    }
    assert [element.over for element in found.values()] == [False, False, True]


def test_accounts_as_sacct_prints_them() -> None:
    printed = (
        "JobID|State|NodeList\n"
        "17_3|CANCELLED by 1000|gpu01\n"
        "17_[4-7]|PENDING|None assigned\n"
        "17_8|OUT_OF_MEMORY|gpu02\n"
        "17_8.batch|OUT_OF_MEMORY|gpu02\n"
    )
    assert slurm_queue.parse_accounts(printed) == {
        "17_3": Element("17_3", "CANCELLED", nodes="gpu01"),
        "17_8": Element("17_8", "OUT_OF_MEMORY", nodes="gpu02"),
    }


def test_partitions_as_scontrol_prints_them() -> None:
    line = (
        "PartitionName=gpu AllowGroups=ALL AllocNodes=ALL Default=YES QoS=N/A DefaultTime=NONE MaxNodes=UNLIMITED "
        "MaxTime=2-12:00:00 MinNodes=0 Nodes=gpu[01-08] JobDefaults=(null) TRES=cpu=512,gres/gpu=32"
    )
    assert slurm_queue.parse_partition(line) == slurm_queue.Partition("gpu", True, 3600, 3600)
    unlimited = line.replace("2-12:00:00", "UNLIMITED").replace("DefaultTime=NONE", "DefaultTime=01:00:00")
    assert slurm_queue.parse_partition(unlimited) == slurm_queue.Partition("gpu", True, 60, 0)
    assert slurm_queue.parse_partition("") is None


@pytest.mark.parametrize(
    ("line", "gpus"),
    [
        ("2|21695|(null)", 0),
        ("2|21695|gpu:0", 0),
        ("2|21695|gpu:2", 2),
        ("64+|257000+|gpu:a100:4(S:0-1)", 4),
        ("8|1000|gpu:a100_3g.20gb:7(S:0-1),tmpdisk:90", 7),
        ("8|1000|gpu:a100:2,gpu:v100:3", 5),
        ("8|1000|craynetwork:4", 0),
    ],
)
def test_gpus_of_nodes_as_sinfo_prints_them(line: str, gpus: int) -> None:
    assert slurm_queue.parse_nodes(line).gpus == gpus


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("3h", 180), ("1h30m", 90), ("2d", 2880), ("90m", 90), ("61s", 2), ("1-12:00:00", 2160), ("3:00:00", 180)],
)
def test_durations(text: str, minutes: int) -> None:
    assert slurm_queue.minutes(text) == minutes
    assert slurm_queue.minutes(slurm_queue.written(minutes)) == minutes


@pytest.mark.parametrize(
    ("text", "megabytes"), [("16G", 16384), ("500M", 500), ("500", 500), ("2T", 2097152), ("2048K", 2), ("1GB", 1024)]
)
def test_amounts_of_memory(text: str, megabytes: int) -> None:
    assert slurm_queue.megabytes(text) == megabytes


@pytest.mark.parametrize("text", ["", "3", "h", "3 h", "3:00", "-3h", "three hours"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        slurm_queue.minutes(text)


def test_new_jobs_do_not_inherit_the_job_that_the_coordinator_runs_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("SLURM_CONF", "/etc/x"), ("SLURM_MEM_PER_NODE", "1"), ("SBATCH_PARTITION", "gpu")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert slurm_queue.environment()["SBATCH_PARTITION"] == "gpu"
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    kept = {name for name in slurm_queue.environment() if name.startswith(("SLURM_", "SBATCH_"))}
    assert kept == {"SLURM_CONF"}


# What users are told


def test_without_submitit_the_user_is_told_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)  # as if it could not be found
    with pytest.raises(UserError, match=r"pip install 'recbench\[slurm\]'"):
        slurm.Slurm(**entry().complete({}))


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., slurm.Slurm]:
    """Makes executors; Slurm's commands are there, and answer nothing."""
    pytest.importorskip("submitit")
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in ("sbatch", "squeue", "scancel", "scontrol", "sinfo", "srun"):
        (commands / name).write_text("#!/bin/sh\n")
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(commands))
    return lambda **params: slurm.Slurm(**entry().complete(params))


def test_where_slurm_is_not_installed_the_user_is_told(
    make: Callable[..., slurm.Slurm], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="command sbatch is not installed"):
        make()


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"time": "soon"}, "got 'soon'"),
        ({"memory": "much"}, "got 'much'"),
        ({"time": "1m"}, "warning=90 seconds leave nothing of a time limit of 1m"),
        ({"extra": "-p gpu"}, "got '-p'"),
        ({"extra": "--comment='x"}, "quotation"),
    ],
)
def test_options_that_make_no_sense(make: Callable[..., slurm.Slurm], params: dict[str, str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        make(**params)


def test_a_gpu_that_the_slurm_jobs_would_not_have(make: Callable[..., slurm.Slurm], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="got gpus=0"):
        make(gpus=0).check(tasks_in(tmp_path, 1, device="cuda"))


@pytest.mark.parametrize(
    ("params", "said", "refused"),
    [
        ({}, "", False),
        ({}, "allocation failure: Invalid feature specification", True),
        ({}, f"allocation failure: {slurm_queue.NO_SUCH_NODE}", False),  # nodes that are down may come back
        ({"cpus": 3}, f"allocation failure: {slurm_queue.NO_SUCH_NODE}", True),
        ({"memory": "2G"}, f"allocation failure: {slurm_queue.NO_SUCH_NODE}", True),
        ({"gpus": 1}, f"allocation failure: {slurm_queue.NO_SUCH_NODE}", True),
    ],
)
def test_only_what_could_never_run_is_refused(
    params: dict[str, object], said: str, refused: bool, fake: FakeSlurm, make: Callable[..., slurm.Slurm],
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.setattr(slurm_queue, "refusal", lambda _: said)
    if refused:
        with pytest.raises(UserError, match=r"(?s)Slurm refuses such jobs .*nodes with 2 cores, 1000 MB, no GPU"):
            make(**params).check(tasks_in(tmp_path, 1))
    else:
        make(**params).check(tasks_in(tmp_path, 1))


def test_the_batch_script_asks_for_what_was_wished(make: Callable[..., slurm.Slurm], tmp_path: Path) -> None:
    folder = tmp_path / "50%j 'é'"
    folder.mkdir()
    tasks = tasks_in(tmp_path, 5)
    array = SlurmArray(
        name="recbench-x", side_by_side=4, threads=2, gpus=2, elements=(tuple(tasks[:4]), tuple(tasks[4:]))
    )
    options = {"partition": "gpu", "account": "vision", "memory": "16G", "cpus": 8, "gpu_type": "a100", "at_most": 1}
    wished = make(
        **options, time="90m", warning=60, extra="--exclusive --comment='a b'", setup="module load cuda\ntrue"
    )
    lines = wished._script(folder, array).read_text().splitlines()
    directives = {line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")}
    assert directives >= {
        "--array=0-1%1", "--job-name=recbench-x", "--partition=gpu", "--account=vision", "--mem=16G", "--time=90",
        "--cpus-per-task=8", "--gpus-per-node=a100:2", "--signal=USR2@60", "--requeue", "--exclusive",
        "--comment='a b'", "--open-mode=append",
    }  # fmt: skip
    assert not any("wckey" in directive for directive in directives)  # submitit's own would need an account for it
    assert lines.index("module load cuda") < next(i for i, line in enumerate(lines) if line.startswith("srun"))
    printed = subprocess.run(
        ["/bin/bash", "-c", "srun() { printf '%s\\n' \"$@\"; }; eval \"$0\"", lines[-1]],
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert printed[-1] == str(folder)  # as the shell reads it
    assert f"--output={str(folder).replace('%', '%%')}/%a.out" in printed


@pytest.mark.parametrize(
    ("count", "side", "timeout", "minutes"),
    [(1, 1, 3600, 70), (8, 2, 3600, 250), (1, 1, 30, 11), (1, 1, 10_000_000, 600)],
)
def test_the_time_limit_follows_from_the_timeout_of_jobs(
    count: int, side: int, timeout: float, minutes: int, make: Callable[..., slurm.Slurm], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Turns times the timeout, and ten minutes; never more than the partition allows."""
    monkeypatch.setattr(slurm_queue, "partitions", lambda _: [slurm_queue.Partition("gpu", True, 30, 600)])
    elements = (tuple(tasks_in(tmp_path, count, timeout=float(timeout))),)
    array = SlurmArray(name="x", side_by_side=side, threads=1, gpus=0, elements=elements)
    assert make()._time(array) == minutes
    assert make(time="5m")._time(array) == 5
    assert make()._time(array.model_copy(update={"elements": (tuple(tasks_in(tmp_path, count)),)})) == 30


# What an array's folder holds


def test_tasks_and_events_survive_their_files(tmp_path: Path) -> None:
    (task,) = tasks_in(tmp_path, 1)
    task = dataclasses.replace(
        task, timeout=60.0, plugin_files=("/a b/ü.py",), trackers=(("wandb", {"offline": True}),)
    )
    folder = slurm_array.create(tmp_path)
    array = SlurmArray(name="recbench-x", side_by_side=1, threads=1, gpus=0, elements=((task,),))
    slurm_array.write(folder, array)
    assert list(slurm_array.found(tmp_path)) == [(folder, array)]
    assert not slurm_array.begun(folder, 0)
    events: list[Event] = [
        JobProgress(task.job_id, 1, 2, float("inf"), 100.0, 3.0),
        Ended(task.job_id, "crashed", "it\ndied", "out of memory"),
    ]
    slurm_array.tell(folder, 0, events[:1])
    told, place = slurm_array.told(folder, 0)
    slurm_array.tell(folder, 0, events[1:])
    assert told == events[:1]
    assert slurm_array.told(folder, 0, place)[0] == events[1:]
    assert slurm_array.ended(folder, 0) == {task.job_id: events[1]}


def test_a_line_that_is_being_written_is_read_next_time(tmp_path: Path) -> None:
    slurm_array.tell(tmp_path, 0, [Ended("a", "recorded")])
    file = tmp_path / "0.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole + whole[:20])
    events, place = slurm_array.told(tmp_path, 0)
    assert (len(events), place) == (1, len(whole))
    file.write_bytes(whole + whole)
    assert slurm_array.told(tmp_path, 0, place) == ([Ended("a", "recorded")], 2 * len(whole))


def test_strangers_among_the_arrays_are_left_alone(tmp_path: Path) -> None:
    for name in ("20260101-000000-0123abcd", "notes"):
        (tmp_path / "slurm" / name).mkdir(parents=True)
    (tmp_path / "slurm" / "20260101-000000-0123abcd" / "array.json").write_text("{}")
    assert list(slurm_array.found(tmp_path)) == []


# What a worker does


class Script(Executor):
    """Plays events; what is a function among them is called."""

    def __init__(self, *events: Event | Callable[[], object]) -> None:
        self.events = events
        self.asked: Sequence[Task] = ()
        self.stopped = 0

    def check(self, tasks: Sequence[Task]) -> None: ...
    def describe(self, tasks: int) -> str: ...  # type: ignore[empty-body]
    def drain(self) -> None: ...
    def kill(self) -> None: ...

    def stop(self) -> None:
        self.stopped += 1

    def map(self, tasks: Sequence[Task]) -> Iterator[Event]:
        self.asked = tasks
        for event in self.events:
            if callable(event):
                event()
            else:
                yield event


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Return the commands that Slurm was asked; it answers that the job runs and is not preempted."""
    made: list[tuple[str, ...]] = []

    def call(*command: str) -> str:
        made.append(command)
        return "JobId=17 JobState=RUNNING PreemptTime=None Requeue=1"

    monkeypatch.setattr(slurm_queue, "call", call)
    return made


def work(
    folder: Path, tasks: Sequence[Task], *events: Event | Callable[[], object], after: object = None
) -> SlurmWorker:
    """A worker to its end, which is sent a signal ``after`` the events."""
    worker = SlurmWorker(folder, 3, Script(), "17_3")
    wish = [lambda: worker.hear(after)] if isinstance(after, signal.Signals) else []
    stopped = [Ended(task.job_id, "interrupted") for task in tasks] if wish else []
    worker.executor = Script(*events, *wish, *stopped)
    worker.run(tasks)
    return worker


def test_what_is_over_in_an_earlier_life_of_the_element_is_not_run_again(
    tmp_path: Path, calls: list[tuple[str, ...]]
) -> None:
    one, two, three = tasks_in(tmp_path, 3)
    slurm_array.tell(tmp_path, 3, [Ended(one.job_id, "recorded"), Ended(two.job_id, "interrupted")])
    worker = work(tmp_path, [one, two, three], Ended(two.job_id, "recorded"), Ended(three.job_id, "crashed", "x"))
    assert isinstance(worker.executor, Script)
    assert [task.job_id for task in worker.executor.asked] == [two.job_id, three.job_id]
    assert {event.outcome for event in slurm_array.ended(tmp_path, 3).values()} == {"recorded", "crashed"}
    assert not calls


def test_near_the_time_limit_the_element_goes_back_to_the_queue(tmp_path: Path, calls: list[tuple[str, ...]]) -> None:
    tasks = tasks_in(tmp_path, 2)

    def save() -> None:
        (Path(tasks[0].folder) / "checkpoint").mkdir()
        (Path(tasks[0].folder) / "checkpoint" / "state.pt").touch()

    worker = work(tmp_path, tasks, save, after=AGAIN)
    assert isinstance(worker.executor, Script)
    assert worker.executor.stopped == 1
    assert calls == [("scontrol", "requeue", "17_3")]
    assert slurm_array.ended(tmp_path, 3) == {}  # the coordinator goes on waiting


def test_an_element_that_gets_nowhere_does_not_come_back_for_ever(tmp_path: Path, calls: list[tuple[str, ...]]) -> None:
    (task,) = tasks_in(tmp_path, 1)
    folder = Path(task.folder) / "checkpoint"
    folder.mkdir()
    (folder / "state.pt").touch()  # of an earlier life
    work(tmp_path, [task], after=AGAIN)
    assert not calls
    ended = slurm_array.ended(tmp_path, 3)[task.job_id]
    assert (ended.outcome, ended.reason) == ("crashed", "timeout")
    assert "time limit is too short" in ended.detail


@pytest.mark.parametrize(
    ("said", "again"),
    [
        ("JobState=RUNNING PreemptTime=None", False),  # a person, or a service that is being stopped
        ("JobState=RUNNING PreemptTime=2026-11-22T09:00:00", True),
        ("JobState=COMPLETING PreemptTime=None", False),  # cancelled
        ("JobState=PENDING PreemptTime=2026-11-22T09:00:00", False),  # Slurm has put it back by itself
    ],
)
def test_only_preempted_jobs_go_back_to_the_queue_on_sigterm(
    said: str, again: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[str, ...]] = []
    monkeypatch.setattr(slurm_queue, "call", lambda *command: made.append(command) or f"JobId=17 {said} x=1")
    work(tmp_path, tasks_in(tmp_path, 1), after=signal.SIGTERM)
    assert (("scontrol", "requeue", "17_3") in made) == again
    assert slurm_array.ended(tmp_path, 3) == {}  # what Slurm says of the element then, decides


def test_a_stop_of_the_coordinator_is_final(tmp_path: Path, calls: list[tuple[str, ...]]) -> None:
    work(tmp_path, tasks_in(tmp_path, 2), after=STOP)
    assert not calls
    assert [event.outcome for event in slurm_array.ended(tmp_path, 3).values()] == ["interrupted"] * 2


def test_a_requeue_that_slurm_refuses_is_a_loss_that_is_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*command: str) -> str:
        raise slurm_queue.SlurmError("scontrol: Requested operation is presently disabled")

    monkeypatch.setattr(slurm_queue, "call", refuse)
    done, task = tasks_in(tmp_path, 2)
    work(tmp_path, [done, task], Ended(done.job_id, "recorded"), after=AGAIN)
    ended = slurm_array.ended(tmp_path, 3)[task.job_id]
    assert (ended.outcome, ended.reason) == ("crashed", "lost")
    assert "presently disabled" in ended.detail


def test_neither_executor_nor_worker_imports_torch() -> None:
    code = (
        "import sys, recbench_executors.slurm, recbench_executors.slurm_worker; "
        "sys.exit('torch' in sys.modules or 'submitit' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# What a coordinator makes of it


class FakeSlurm:
    """A queue in which nothing happens but what a test lets happen. Answers as :mod:`slurm_queue` does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.queue: dict[tuple[str, int], Element] = {}
        self.folders: list[Path] = []
        self.asked: list[tuple[str, ...]] = []
        self.largest = 1001
        self.steps: list[Callable[[], object]] = []
        for name in ("elements", "submit", "cancel", "largest_array", "accounted", "partitions", "nodes"):
            monkeypatch.setattr(slurm_queue, name, getattr(self, name))

    def elements(self, names: object) -> dict[tuple[str, int], Element]:
        if self.steps:
            self.steps.pop(0)()
        return dict(self.queue)

    def submit(self, script: Path, output: str) -> None:
        self.folders.append(script.parent)
        array = slurm_array.read(script.parent)
        for index in range(len(array.elements)):
            self.queue[array.name, index] = Element(f"{len(self.folders)}_{index}", "RUNNING", nodes="n1")
            slurm_array.tell(script.parent, index)

    def state(self, word: str, number: int = 0, index: int = 0) -> None:
        place = slurm_array.read(self.folders[number]).name, index
        self.queue[place] = Element(self.queue[place].job, word, nodes="n1")

    def cancel(self, names: Sequence[str], *options: str) -> None:
        if names:
            self.asked.append(options)

    def largest_array(self) -> int:
        return self.largest

    def accounted(self, jobs: object) -> dict[str, Element]:
        return {}

    def partitions(self, wanted: str) -> list[slurm_queue.Partition]:
        return [slurm_queue.Partition("main", True, 60, 60)]

    def nodes(self, chosen: object) -> list[slurm_queue.Nodes]:
        return [slurm_queue.Nodes(2, 1000, 0)]


@pytest.fixture
def fake(make: Callable[..., slurm.Slurm], monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    return FakeSlurm(monkeypatch)


@pytest.mark.parametrize(
    ("state", "outcome", "reason", "words"),
    [
        ("FAILED", "crashed", "lost", "failed in Slurm as 1_0 on n1"),
        ("COMPLETED", "crashed", "lost", "completed in Slurm"),
        ("NODE_FAIL", "crashed", "lost", "node fail"),
        ("PREEMPTED", "crashed", "lost", "preempted"),
        ("TIMEOUT", "crashed", "timeout", "timeout"),
        ("OUT_OF_MEMORY", "crashed", "out of memory", "out of memory"),
        ("CANCELLED", "interrupted", "exit", "cancelled in Slurm as 1_0 on n1"),
    ],
)
def test_how_a_job_ended_whose_slurm_job_is_over_without_a_word(
    state: str, outcome: str, reason: str, words: str,
    fake: FakeSlurm, make: Callable[..., slurm.Slurm], tmp_path: Path,
) -> None:  # fmt: skip
    fake.steps = [lambda: None, lambda: fake.state(state)]
    (ended,) = make(poll=0.01).map(tasks_in(tmp_path, 1))
    assert isinstance(ended, Ended)
    assert (ended.outcome, ended.reason) == (outcome, reason)
    assert words in ended.detail


def test_a_slurm_job_in_which_recbench_never_began_is_no_lost_machine(
    fake: FakeSlurm, make: Callable[..., slurm.Slurm], tmp_path: Path
) -> None:
    """A node without Python would otherwise be tried again and again."""

    def fail() -> None:
        (fake.folders[0] / "0.jsonl").unlink()
        (fake.folders[0] / "0.out").write_text("srun: error: execve(): python: No such file or directory\n")
        fake.state("FAILED")

    fake.steps = [lambda: None, fail]
    (ended,) = make(poll=0.01).map(tasks_in(tmp_path, 1))
    assert isinstance(ended, Ended)
    assert ended.reason == "exit"
    assert "No such file or directory" in ended.detail


def test_what_was_told_counts_and_not_how_slurm_calls_it(
    fake: FakeSlurm, make: Callable[..., slurm.Slurm], tmp_path: Path
) -> None:
    one, two = tasks_in(tmp_path, 2)

    def tell() -> None:
        slurm_array.tell(
            fake.folders[0], 0, [JobProgress(one.job_id, 1, 2, 3.0, 4.0, 5.0), Ended(one.job_id, "recorded")]
        )
        fake.state("FAILED")

    fake.steps = [lambda: None, tell]
    events = list(make(poll=0.01, bundle=2).map([one, two]))
    assert [event.job_id for event in events] == [one.job_id, one.job_id, two.job_id]
    assert events[1] == Ended(one.job_id, "recorded")
    assert isinstance(events[2], Ended)
    assert events[2].reason == "lost"


def test_while_slurm_does_not_answer_the_coordinator_waits(
    fake: FakeSlurm, make: Callable[..., slurm.Slurm], tmp_path: Path
) -> None:
    (task,) = tasks_in(tmp_path, 1)

    def refuse() -> None:
        raise slurm_queue.SlurmError("squeue: Unable to contact slurm controller")

    def tell() -> None:
        slurm_array.tell(fake.folders[0], 0, [Ended(task.job_id, "recorded")])
        refuse()

    fake.steps = [lambda: None, refuse, refuse, tell]
    assert list(make(poll=0.01).map([task])) == [Ended(task.job_id, "recorded")]


def test_a_job_that_slurm_has_forgotten_is_asked_about_twice(
    fake: FakeSlurm, make: Callable[..., slurm.Slurm], tmp_path: Path
) -> None:
    (task,) = tasks_in(tmp_path, 1)
    known: dict[tuple[str, int], Element] = {}

    def forget() -> None:
        known.update(fake.queue)
        fake.queue.clear()

    fake.steps = [lambda: None, forget, lambda: fake.queue.update(known), forget]
    (ended,) = make(poll=0.01).map([task])
    assert isinstance(ended, Ended)
    assert ended.reason == "lost"
    assert not fake.steps


def test_many_jobs_are_several_arrays_where_the_cluster_takes_no_larger_ones(
    fake: FakeSlurm, make: Callable[..., slurm.Slurm], tmp_path: Path
) -> None:
    fake.largest = 2
    tasks = tasks_in(tmp_path, 10)
    ended = list(make(bundle=2, jobs_per_device=2, cpus=4, detach=True).map(tasks))
    arrays = [slurm_array.read(folder) for folder in fake.folders]
    assert [len(array.elements) for array in arrays] == [2, 2, 1]
    assert [task for array in arrays for element in array.elements for task in element] == tasks
    assert {(array.side_by_side, array.threads) for array in arrays} == {(2, 2)}
    assert len({array.name for array in arrays}) == 3
    assert {(event.job_id, event.outcome) for event in ended if isinstance(event, Ended)} == {
        (task.job_id, "interrupted") for task in tasks
    }


def test_what_the_cluster_does_not_take_now_is_left_for_later(
    fake: FakeSlurm, make: Callable[..., slurm.Slurm], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = tasks_in(tmp_path, 3)
    fake.largest = 2
    take = fake.submit

    def limited(script: Path, output: str) -> None:
        if fake.folders:
            raise slurm_queue.SlurmError("sbatch: error: QOSMaxSubmitJobPerUserLimit")
        take(script, output)

    monkeypatch.setattr(slurm_queue, "submit", limited)
    fake.steps = [
        lambda: slurm_array.tell(fake.folders[0], 0, [Ended(tasks[0].job_id, "recorded")]),
        lambda: slurm_array.tell(fake.folders[0], 1, [Ended(tasks[1].job_id, "recorded")]),
    ]
    fake.steps.insert(0, lambda: None)
    assert [event.job_id for event in make(poll=0.01).map(tasks)] == [task.job_id for task in tasks[:2]]
    assert len(fake.folders) == 1
    assert len(list((tmp_path / "slurm").glob("2*"))) == 1
    for index in (0, 1):
        fake.state("COMPLETED", index=index)
    with pytest.raises(UserError, match="QOSMaxSubmitJobPerUserLimit"):
        list(make(poll=0.01).map(tasks[2:]))


def test_a_second_coordinator_waits_for_the_array_of_the_first_and_does_not_stop_it(
    fake: FakeSlurm, make: Callable[..., slurm.Slurm], tmp_path: Path
) -> None:
    """The first one is a process of its own, since locks do not part coordinators of one process."""
    tasks = tasks_in(tmp_path, 2)
    list(make(detach=True).map(tasks))
    (folder,) = fake.folders
    code = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print(); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as first:
        assert first.stdout is not None
        first.stdout.readline()
        second = make(poll=0.01)
        assert set(second.resumed(tasks)) == {task.job_id for task in tasks}
        fake.steps = [
            lambda: None,
            lambda: slurm_array.tell(folder, 1, [Ended(tasks[1].job_id, "recorded")]),
            second.stop,
        ]
        assert list(second.map(tasks)) == [Ended(tasks[1].job_id, "recorded")]
        first.kill()
    assert fake.folders == [folder]
    assert not fake.asked
    third = make(poll=0.01)
    fake.steps = [lambda: None, third.stop, lambda: None, lambda: fake.state("COMPLETED")]
    (ended,) = third.map(tasks[:1])
    assert isinstance(ended, Ended)
    assert ended.outcome == "interrupted"
    assert ("--state=PENDING",) in fake.asked
    assert ("--signal=SIGINT", "--state=RUNNING") in fake.asked


def test_what_another_coordinator_stopped_is_taken_over(
    fake: FakeSlurm, make: Callable[..., slurm.Slurm], tmp_path: Path
) -> None:
    (task,) = tasks_in(tmp_path, 1)

    def stop() -> None:
        slurm_array.tell(fake.folders[0], 0, [Ended(task.job_id, "interrupted")])
        fake.state("COMPLETED")

    fake.steps = [lambda: None, stop]
    executor = make(poll=0.01)
    assert list(executor.map([task])) == [Ended(task.job_id, "busy")]
    assert executor.resumed([task]) == set()
    fake.steps = [lambda: None, lambda: slurm_array.tell(fake.folders[1], 0, [Ended(task.job_id, "recorded")])]
    assert list(executor.map([task])) == [Ended(task.job_id, "recorded")]
    assert [folder.exists() for folder in fake.folders] == [False, True]  # what is over is cleared away


def test_draining_takes_out_what_waits_and_lets_the_rest_finish(
    fake: FakeSlurm, make: Callable[..., slurm.Slurm], tmp_path: Path
) -> None:
    one, two = tasks_in(tmp_path, 2)
    executor = make(poll=0.01)

    def drain() -> None:
        executor.drain()
        (fake.folders[0] / "1.jsonl").unlink()  # it waits
        fake.state("PENDING", index=1)

    def end() -> None:
        slurm_array.tell(fake.folders[0], 0, [Ended(one.job_id, "recorded")])
        fake.state("CANCELLED", index=1)

    fake.steps = [lambda: None, drain, lambda: None, end]
    assert list(executor.map([one, two])) == [Ended(one.job_id, "recorded")]
    assert set(fake.asked) == {("--state=PENDING",)}
    assert list(executor.map([two])) == []
