"""The Slurm executor on a real Slurm: a cluster of two nodes on this host, on which things go wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from recbench.contracts.executor import Task
from recbench.errors import UserError
from recbench.files import holder
from recbench_executors import recbench_executors, slurm
from tests.conftest import ROOT

pytestmark = pytest.mark.slow(seconds=60)

TINY = Path(__file__).parents[3] / "tests" / "tiny_plugin.py"
PROGRAMS = f"{os.environ['PATH']}:/usr/sbin"  # not every user looks there
PARTITIONS = """
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=30
PartitionName=low Nodes=ALL PriorityTier=1 GraceTime=30 PreemptMode=CANCEL MaxTime=60 State=UP
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF MaxTime=60 State=UP
"""
SUITE = """\
name: {name}
datasets: [blobs]
architectures: [linear]
losses:
  - {{name: misbehaving, params: {{what: slow}}, kl_weight: 0.001}}
seeds: {seeds}
training: {{epochs: {epochs}, batch_size: 16, learning_rate: 1e-2}}
metrics: [psnr, ssim]
"""
EPOCHS = 60
"""Of 0.2 s each: long enough for something to happen to them."""


class Cluster:
    """A running Slurm, in whose environment commands are run."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("RECBENCH_", "SLURM_"))},
            "SLURM_CONF": str(base / "slurm.conf"),
            "PATH": f"{base / 'bin'}:{PROGRAMS}",
            "RECBENCH_CACHE": str(base / "cache"),
            "OMP_NUM_THREADS": "1",
            "NO_COLOR": "1",
            "COLUMNS": "160",
        }

    def call(self, *command: str) -> str:
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def queue(self, *options: str) -> list[str]:
        """Elements that wait or run, such as ``17_3``."""
        return self.call("squeue", "--noheader", "--array", "--format=%i", *options).split()

    def arrays(self) -> set[str]:
        """The arrays that were submitted since the cluster started, also those that are over."""
        lines = self.call("squeue", "--noheader", "--array", "--states=all", "--format=%F %j").splitlines()
        return {line for line in lines if "recbench-" in line}

    def pid(self, daemon: str) -> int:
        return int((self.base / f"{daemon}.pid").read_text())


def free_ports(count: int) -> int:
    """The first of some consecutive ports that nobody uses."""
    for first in range(17800 + os.getpid() % 100 * 100, 60000, 100):  # processes of xdist look elsewhere
        try:
            for port in range(first, first + count):
                with socket.socket() as tried:
                    tried.bind(("", port))
        except OSError:
            continue
        return first
    raise AssertionError("no free ports")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    tools = ROOT / "tests" / "slurm"
    for program in ("slurmctld", "slurmd", "munged", "sbatch"):
        if shutil.which(program, path=PROGRAMS) is None:
            pytest.skip(f"{program} is not installed (Debian: slurm-wlm, munge)")
    if os.geteuid() != 0:
        pytest.skip("tests/slurm/up.sh starts the daemons of Slurm as root")
    pytest.importorskip("submitit")
    base = tmp_path_factory.mktemp("slurm")
    cluster = Cluster(base)
    settings = {**cluster.environment, "SLURM_BASE": str(base), "SLURM_PORT": str(free_ports(4))}
    with (base / "up.txt").open("w") as output:
        up = subprocess.run(
            ["bash", str(tools / "up.sh"), "2", "2", "0"],
            env=settings, stdout=output, stderr=output, timeout=120, check=False,
        )  # fmt: skip
    try:
        if up.returncode:
            pytest.skip(f"no Slurm could be started here: {(base / 'up.txt').read_text()[-500:]}")
        allow_preemption(cluster)
        yield cluster
    finally:
        subprocess.run(["bash", str(tools / "down.sh")], env=settings, capture_output=True, timeout=60, check=False)


def allow_preemption(cluster: Cluster) -> None:
    """Add the partitions low and high, and the usual time from SIGTERM to SIGKILL; all of it is read at the start."""
    with (cluster.base / "slurm.conf").open("a") as stream:
        stream.write(PARTITIONS)
    os.kill(cluster.pid("slurmctld"), signal.SIGTERM)
    wait_for(lambda: not (cluster.base / "slurmctld.pid").exists(), "the controller to end")
    cluster.call("slurmctld")
    wait_for(lambda: len(cluster.call("sinfo", "-hN", "-p", "low", "-t", "idle", "-o", "%N").split()) == 2, "the nodes")


def wait_for(condition: Callable[[], object], what: str, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited too long for {what}"
        time.sleep(0.1)


class Sweep:
    """A suite in a folder with an awkward name, and the coordinators that run it."""

    def __init__(self, cluster: Cluster, folder: Path, name: str, jobs: int, epochs: int = EPOCHS) -> None:
        self.cluster = cluster
        self.folder = folder / "Läufe 50%j 'x'"
        self.folder.mkdir()
        self.root = self.folder / "results" / name
        self.jobs = jobs
        (self.folder / "suite.yaml").write_text(SUITE.format(name=name, seeds=list(range(jobs)), epochs=epochs))

    def start(self, *options: str, executor: str = "slurm") -> subprocess.Popen[str]:
        chosen = ("poll=0.5", *options) if executor == "slurm" else options
        command = [sys.executable, "-m", "recbench", "run", "suite.yaml", "--plugin", str(TINY)]
        command += ["--executor", executor, *(word for option in chosen for word in ("--executor-option", option))]
        return subprocess.Popen(
            command, cwd=self.folder, env=self.cluster.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *options: str, executor: str = "slurm") -> str:
        """Run to the end; gives what was said on stderr."""
        return finish(self.start(*options, executor=executor), 0)

    def running(self, count: int) -> None:
        """Wait until so many jobs are in training."""
        wait_for(lambda: len(list(self.root.glob("jobs/*/history.jsonl"))) >= count, f"{count} jobs in training")

    def records(self) -> dict[int, dict[str, object]]:
        """Return the results of each job by seed, without times."""
        found = {}
        for file in self.root.glob("jobs/*/record.json"):
            record = json.loads(file.read_text())
            assert record["status"] == "done", record["failure"]
            found[record["job"]["seed"]] = {
                "scores": record["scores"],
                "objective": record["trained"]["final"]["objective"],
            }
        return found


def finish(coordinator: subprocess.Popen[str], code: int) -> str:
    output, said = coordinator.communicate(timeout=300)
    assert coordinator.returncode == code, f"{said}\n{output}"
    return said


@pytest.fixture(scope="module")
def undisturbed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, object]]:
    """Return the results of the jobs on this machine, without Slurm."""
    sweep = Sweep(cluster, tmp_path_factory.mktemp("local"), "local", 3)
    sweep.run("jobs=3", "threads=1", executor="local")
    return sweep.records()


@pytest.fixture
def sweep(cluster: Cluster, tmp_path: Path) -> Iterator[Callable[..., Sweep]]:
    yield lambda jobs, **options: Sweep(cluster, tmp_path, "suite", jobs, **options)
    subprocess.run(["scancel", "--user=root"], env=cluster.environment, check=False)
    wait_for(lambda: not cluster.queue(), "an empty queue")


def make(**params: object) -> slurm.Slurm:
    entry = next(entry for entry in recbench_executors() if entry.name == "slurm")
    return slurm.Slurm(**entry.complete(params))


def worker_of(cluster: Cluster, element: str) -> int:
    """The process that runs an element's jobs, whose children they are."""
    base, _, index = element.partition("_")
    for status in Path("/proc").glob("[0-9]*"):
        try:
            words = (status / "cmdline").read_bytes().split(b"\0")
            told = (status / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        of = {f"SLURM_ARRAY_JOB_ID={base}".encode(), f"SLURM_ARRAY_TASK_ID={index}".encode()}
        if b"recbench_executors.slurm_worker" in words and not words[0].endswith(b"srun") and of <= set(told):
            return int(status.name)
    raise AssertionError(f"nothing runs as {element}")


def test_a_suite_is_one_array_that_is_left_and_found_again_with_the_numbers_of_the_local_executor(
    cluster: Cluster, sweep: Callable[..., Sweep], undisturbed: dict[int, dict[str, object]]
) -> None:
    """Two jobs in each Slurm job, in turns."""
    one = sweep(3)
    said = finish(one.start("bundle=2", "detach=true"), 1)
    assert "an array of 2 Slurm jobs, 2 in each Slurm job" in said
    assert said.count("left to Slurm's queue") == 3
    elements = cluster.queue()
    assert len(elements) == 2
    one.run()
    assert one.records() == undisturbed
    assert cluster.arrays() == {
        f"{elements[0].partition('_')[0]} recbench-suite-{next(one.root.glob('slurm/2*')).name}"
    }
    assert "nothing to run" in one.run()


def test_jobs_that_are_killed_or_near_their_time_limit_end_with_the_numbers_of_undisturbed_ones(
    cluster: Cluster, sweep: Callable[..., Sweep], undisturbed: dict[int, dict[str, object]]
) -> None:
    one = sweep(2)
    coordinator = one.start()
    one.running(2)
    array = cluster.queue()[0].partition("_")[0]
    os.kill(worker_of(cluster, f"{array}_0"), signal.SIGKILL)
    cluster.call("scancel", "--signal=USR2", f"{array}_1")  # as Slurm does some time before the limit
    wait_for(lambda: "Restarts=1" in cluster.call("scontrol", "-o", "show", "job", f"{array}_1"), "a requeue")
    assert list(one.root.glob("jobs/*/checkpoint/state.pt"))
    finish(coordinator, 0)
    assert one.records() == {seed: undisturbed[seed] for seed in range(2)}
    (failed,) = one.root.glob("jobs/*/failed-1.json")  # that one died without a checkpoint or a requeue
    failure = json.loads(failed.read_text())["failure"]
    assert failure["reason"] == "lost"
    assert f"failed in Slurm as {array}_0" in failure["message"]


def test_preempted_jobs_go_back_to_the_queue_with_their_checkpoints(
    cluster: Cluster, sweep: Callable[..., Sweep], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """In a partition whose preempted jobs Slurm would cancel, and not put back by itself."""
    long = 90  # Slurm looks for jobs to preempt every five seconds only
    undisturbed = Sweep(cluster, tmp_path_factory.mktemp("local"), "local", 1, epochs=long)
    undisturbed.run("jobs=1", "threads=1", executor="local")
    one = sweep(1, epochs=long)
    coordinator = one.start("partition=low")
    one.running(1)
    cluster.call("sbatch", "--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")
    wait_for(lambda: list(one.root.glob("jobs/*/checkpoint/state.pt")), "a checkpoint")
    finish(coordinator, 0)
    assert one.records() == undisturbed.records()
    assert not list(one.root.glob("jobs/*/failed-*.json"))


def test_a_lost_node(cluster: Cluster, sweep: Callable[..., Sweep], undisturbed: dict[int, dict[str, object]]) -> None:
    """Its daemon and everything that runs on it die at once, as in a power cut; Slurm notices some seconds later."""
    one = sweep(1)
    coordinator = one.start()
    one.running(1)
    (element,), (node,) = cluster.queue(), cluster.call("squeue", "-h", "-o", "%N").split()
    worker = worker_of(cluster, element)
    for process in [cluster.pid(f"slurmd.{node}"), *steps_on(node, cluster), worker]:
        os.kill(process, signal.SIGKILL)
    try:
        finish(coordinator, 0)
        assert cluster.call("sinfo", "-h", "-n", node, "-p", "main", "-o", "%T").strip().startswith("down")
    finally:
        cluster.call("slurmd", "-N", node)
    assert one.records() == {0: undisturbed[0]}
    wait_for(lambda: node in cluster.call("sinfo", "-hN", "-t", "idle", "-o", "%N"), "the node to come back")


def steps_on(node: str, cluster: Cluster) -> list[int]:
    """Return the processes under a node's daemon that outlive it: the keepers of jobs, and the jobs' scripts."""
    listed = subprocess.run(["ps", "-eo", "pid=,args="], capture_output=True, text=True, check=True).stdout
    spool = str(cluster.base / f"spool.{node}")
    found = [line.split(None, 1) for line in listed.splitlines()]
    return [int(pid) for pid, words in found if spool in words or re.match(rf"slurmstepd.*{node}\b", words)]


def test_a_coordinator_that_died_comes_back_to_the_same_array_and_can_stop_it(
    cluster: Cluster, sweep: Callable[..., Sweep], undisturbed: dict[int, dict[str, object]]
) -> None:
    before = cluster.arrays()
    one = sweep(2)
    first = one.start("at_most=1")
    one.running(1)
    first.kill()
    first.communicate()
    elements = cluster.queue()
    assert len(elements) == 2
    waiting = make_in(cluster, lambda: make(poll=0.5).queue(one.root))
    assert sorted(re.sub(r" on n[12]| \(.*\)", "", text) for text in waiting.values()) == [
        f"pending in Slurm as {elements[0]}",
        f"running in Slurm as {elements[1]}",
    ]
    second = one.start("at_most=1")
    (folder,) = one.root.glob("slurm/2*")
    wait_for(lambda: holder(folder) == second.pid, "the second coordinator to take over the array")
    assert cluster.queue() == elements
    second.send_signal(signal.SIGINT)
    said = finish(second, 130)
    assert "the same command continues" in said
    assert not cluster.queue()
    assert len(list(one.root.glob("jobs/*/checkpoint/state.pt"))) == 1
    assert len({line.split()[1] for line in cluster.arrays() - before}) == 1
    one.run()
    assert one.records() == {seed: undisturbed[seed] for seed in range(2)}


def make_in(cluster: Cluster, function: Callable[[], dict[str, str]]) -> dict[str, str]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("SLURM_CONF", "PATH"):
            patch.setenv(name, cluster.environment[name])
        return function()


def test_cancelled_jobs_are_not_submitted_again_until_the_user_asks(
    cluster: Cluster, sweep: Callable[..., Sweep], undisturbed: dict[int, dict[str, object]]
) -> None:
    one = sweep(1)
    coordinator = one.start()
    one.running(1)
    (cancelled,) = cluster.queue()
    cluster.call("scancel", cancelled)
    said = finish(coordinator, 1)
    assert f"interrupted  misbehaving, seed 0 cancelled in Slurm as {cancelled}" in said
    assert list(one.root.glob("jobs/*/checkpoint/state.pt"))
    one.run()
    assert one.records() == {0: undisturbed[0]}


def test_the_second_interrupt_ends_jobs_at_once(cluster: Cluster, sweep: Callable[..., Sweep]) -> None:
    one = sweep(1, epochs=1000)
    coordinator = one.start("poll=30")  # it does not wait for its turn to ask again
    one.running(1)
    coordinator.send_signal(signal.SIGTERM)
    time.sleep(0.2)  # two signals at once may arrive as one
    coordinator.send_signal(signal.SIGTERM)
    finish(coordinator, 130)
    wait_for(lambda: not cluster.queue(), "an empty queue", seconds=5)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"partition": "nope"}, "no partition 'nope'; expected one of main, low, high"),
        ({"gpus": 3}, r"Slurm refuses such jobs \(the default partition, 3 GPUs, 1 core\): .*2 cores, \d+ MB, no GPU"),
        ({"memory": "900G"}, r"Slurm refuses such jobs .*900G\)"),
        ({"cpus": 64}, "Slurm refuses such jobs .*64 cores"),
        ({"constraint": "a100"}, "Invalid feature"),
        ({"extra": "--nodelist=n9"}, "Slurm refuses such jobs"),
        ({"time": "2d"}, "the partition main allows at most 01:00:00"),
    ],
)
def test_what_no_node_can_run_is_refused_at_once(cluster: Cluster, params: dict[str, object], words: str) -> None:
    task = Task(job_id="0" * 16, folder="nowhere", cache="nowhere")

    def check() -> dict[str, str]:
        with pytest.raises(UserError) as refused:
            make(**params).check([task])
        assert re.search(words, str(refused.value), re.DOTALL)
        make().check([task])
        return {}

    make_in(cluster, check)
    assert not cluster.queue()


def test_nodes_that_are_down_for_a_while_refuse_only_what_they_could_never_run(cluster: Cluster) -> None:
    task = Task(job_id="0" * 16, folder="nowhere", cache="nowhere")

    def check() -> dict[str, str]:
        make().check([task])
        with pytest.raises(UserError, match="Slurm refuses such jobs"):
            make(cpus=64).check([task])
        return {}

    cluster.call("scontrol", "update", "nodename=n[1-2]", "state=down", "reason=test")
    try:
        make_in(cluster, check)
    finally:
        cluster.call("scontrol", "update", "nodename=n[1-2]", "state=resume")
    wait_for(
        lambda: len(cluster.call("sinfo", "-hN", "-p", "main", "-t", "idle", "-o", "%N").split()) == 2, "the nodes"
    )
