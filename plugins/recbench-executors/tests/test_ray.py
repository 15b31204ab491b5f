"""The Ray executor, on real Rays: one of its own, and a cluster of three nodes on this machine."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from recbench.contracts.executor import Task
from recbench.errors import UserError
from recbench_executors import ray_cluster, ray_host, recbench_executors
from tests.conftest import SOAK, TINY, TINY_SUITE

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the package ray is not installed")
SLOW_JOBS = "losses=[{name: misbehaving, params: {what: slow}}]"


def make(**params: Any) -> ray_cluster.Ray:
    (entry,) = (entry for entry in recbench_executors() if entry.name == "ray")
    return ray_cluster.Ray(**entry.complete(params))


def task(**facts: Any) -> Task:
    return Task(**{"job_id": "0" * 16, "folder": "nowhere", "cache": "nowhere", **facts})


def test_shares_of_a_gpu_fit_onto_it_as_ray_counts() -> None:
    """Ray keeps resources in ten-thousandths, rounded to the nearest."""
    for jobs in range(1, 101):
        counted = round(ray_cluster.share(jobs) * 10_000)
        assert counted * jobs <= 10_000 < (counted + 1) * jobs
        assert ray_cluster.places({"CPU": 1000, "GPU": 1}, 1, ray_cluster.share(jobs)) == jobs


@pytest.mark.parametrize(
    ("resources", "cpus", "gpu", "expected"),
    [
        ({"CPU": 8.0}, 1, 0.0, 8),
        ({"CPU": 8.0}, 3, 0.0, 2),
        ({"CPU": 8.0}, 9, 0.0, 0),
        ({"CPU": 8.0}, 1, 1.0, 0),
        ({"CPU": 8.0, "GPU": 2.0}, 1, 1.0, 2),
        ({"CPU": 8.0, "GPU": 2.0}, 1, 0.25, 8),
        ({"CPU": 6.0, "GPU": 2.0}, 1, 0.25, 6),
        ({"GPU": 2.0}, 1, 0.25, 0),
    ],
)
def test_places_of_a_node(resources: dict[str, float], cpus: int, gpu: float, expected: int) -> None:
    assert ray_cluster.places(resources, cpus, gpu) == expected


def test_the_switchboard_passes_on_each_thing_once() -> None:
    board = ray_host.Switchboard()
    assert board.exchange("a", None) is False
    assert board.exchange("a", {"epoch": 1}) is False
    assert board.exchange("a", {"epoch": 2}) is False
    assert board.collect(stopping=False) == ({"a"}, [{"epoch": 2}])
    assert board.collect(stopping=True) == (set(), [])
    assert board.exchange("b", None) is True


def test_without_ray_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'recbench\[ray\]'"):
        make()


def test_neither_ray_nor_torch_is_imported_before_a_job_is_to_run() -> None:
    code = "import sys, recbench_executors.ray_cluster; sys.exit(bool({'ray', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@needs_ray
def test_addresses_that_cannot_be_used_are_refused_at_once() -> None:
    with pytest.raises(UserError, match="run recbench on a node of the cluster"):
        make(address="ray://somewhere:10001")
    with socket.socket() as nobody:  # bound, but not listening
        nobody.bind(("127.0.0.1", 0))
        with pytest.raises(UserError, match="no Ray cluster could be reached"):
            make(address=f"127.0.0.1:{nobody.getsockname()[1]}").check([task()])
    with pytest.raises(UserError, match="Ray chooses the GPU"):
        make().check([task(device="cuda:1")])


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """Ray's sockets need a short path, and a folder of its own keeps it away from other Rays of this machine."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def environment(root: Path) -> dict[str, str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("RECBENCH_", "RAY_"))}
    clean["RECBENCH_PREFLIGHT"] = "0"
    extra = {"RAY_TMPDIR": str(root), "HOME": str(root), "RECBENCH_CACHE": str(root / "cache"), "NO_COLOR": "1"}
    return {**clean, **extra, "COLUMNS": "160", "OMP_NUM_THREADS": "1"}


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    file = tmp_path / "with a space ü" / "tiny.yaml"
    file.parent.mkdir()
    file.write_text(TINY_SUITE)
    return file


class Cluster:
    """Three nodes, all on this machine: the head, where no jobs run, and two with a CPU each."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster as Simulated

        small = {"object_store_memory": 80 * 2**20}
        head = {**small, "num_cpus": 0, "include_dashboard": False}
        self.cluster = Simulated(initialize_head=True, head_node_args=head)
        self.address = str(self.cluster.address)
        self.nodes = [self.cluster.add_node(**small, num_cpus=1) for _ in range(2)]

    def kill_a_node(self) -> None:
        self.cluster.remove_node(self.nodes.pop(), allow_graceful=False)

    @contextmanager
    def another(self, **resources: int) -> Iterator[None]:
        """A further node, for a while."""
        node = self.cluster.add_node(**resources, object_store_memory=80 * 2**20)
        try:
            yield
        finally:
            self.cluster.remove_node(node, allow_graceful=True)

    def close(self) -> None:
        self.cluster.shutdown()


@pytest.fixture(scope="module")
def cluster(environment: dict[str, str]) -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("RECBENCH_", "RAY_"))]:
            patch.delenv(name)
        for name in ("RAY_TMPDIR", "HOME"):
            patch.setenv(name, environment[name])
        made = Cluster()
        yield made
        made.close()


def command(suite: Path, *extra: str, executor: str = "ray") -> list[str]:
    run = [sys.executable, "-m", "recbench", "run", str(suite), "--plugin", str(TINY), "--executor", executor]
    return [*run, "--device", "cpu", "--results", str(suite.parent / "results"), *extra]


def at(cluster: Cluster, **options: object) -> list[str]:
    pairs = {"address": cluster.address, **options}
    return [part for key, value in pairs.items() for part in ("--executor-option", f"{key}={value}")]


def run(
    suite: Path, environment: dict[str, str], *extra: str, executor: str = "ray"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(suite, *extra, executor=executor),
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@contextmanager
def running(suite: Path, environment: dict[str, str], *extra: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command(suite, *extra), env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def press_ctrl_c(process: subprocess.Popen[str]) -> None:
    """As a terminal does: all processes of the group get it, also those of a Ray that was started from there."""
    os.killpg(process.pid, signal.SIGINT)


def records(suite: Path) -> dict[tuple[str, int], dict[str, Any]]:
    found = [json.loads(file.read_text()) for file in suite.parent.glob("results/tiny/jobs/*/record.json")]
    kinds = [record["job"]["loss"]["params"].get("deed", record["job"]["loss"]["name"]) for record in found]
    return {(kind, record["job"]["seed"]): record for kind, record in zip(kinds, found, strict=True)}


def outcome(suite: Path) -> dict[tuple[str, int], Any]:
    """All that finished jobs computed: scores, and the checksums of models and images."""
    return {
        key: (record["scores"], [record["files"][name]["sha256"] for name in ("model.safetensors", "images.npz")])
        for key, record in records(suite).items()
        if record["status"] == "done"
    }


def checkpoints(suite: Path) -> list[Path]:
    return list(suite.parent.glob("results/tiny/jobs/*/checkpoint/state.pt"))


def wait_for(truth: Callable[[], bool], process: subprocess.Popen[str] | None = None, seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not truth():
        assert process is None or process.poll() is None, f"the run ended before: {process.communicate()}"
        assert time.monotonic() < deadline
        time.sleep(0.05)


def jobs_at_work(suite: Path) -> list[int]:
    """Processes with an open file in the results."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            links = [str(link.readlink()) for link in (folder / "fd").iterdir()] if folder.name.isdigit() else []
        except OSError:
            continue
        if any(link.startswith(str(suite.parent / "results")) for link in links):
            found.append(int(folder.name))
    return found


BAD_LOSSES = """
import os, signal, time
from recbench import LossEntry, Parameter, hookimpl


@hookimpl
def recbench_losses():
    deed = Parameter("deed", str, "none", "what it does")
    yield LossEntry(name="bad", factory=f"{__name__}:make", summary="misbehaves", parameters=(deed,))


def make(setting, *, deed):
    if deed == "raise":
        raise RuntimeError("this loss raises on purpose")
    if deed == "exit":
        os._exit(3)
    if deed == "hang":
        time.sleep(3600)
    os.kill(os.getpid(), getattr(signal, deed))
"""
DEEDS = {"raise": "exception", "exit": "exit", "SIGSEGV": "crash", "SIGKILL": "killed", "hang": "timeout"}


@pytest.mark.slow(seconds=200)
@needs_ray
def test_crashes_hangs_and_errors_cost_only_their_own_job_and_numbers_are_those_of_local(
    cluster: Cluster, suite: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "bad.py").write_text(BAD_LOSSES)
    bad = f"{{name: bad, params: {{deed: {{grid: [{', '.join(DEEDS)}]}}}}}}"
    losses = ("--set", f"losses=[l2, {bad}, l1]", "--set", "seeds=[0]", "--plugin", str(tmp_path / "bad.py"))
    done = run(suite, environment, *at(cluster), *losses, "--timeout", "20s")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "raylet" not in done.stdout + done.stderr
    found = records(suite)
    assert {kind: record["failure"]["reason"] for (kind, _), record in found.items() if record["failure"]} == DEEDS
    assert {kind for (kind, _), record in found.items() if record["status"] == "done"} == {"l2", "l1"}
    assert not jobs_at_work(suite)

    by_local = tmp_path / "local" / "tiny.yaml"
    by_local.parent.mkdir()
    by_local.write_text(TINY_SUITE)
    good = ("--set", "losses=[l2, l1]", "--set", "seeds=[0]", "--executor-option", "threads=1")
    assert run(by_local, environment, *good, executor="local").returncode == 0
    assert outcome(suite) == outcome(by_local)


@pytest.mark.slow
@needs_ray
def test_what_no_node_can_give_is_refused_before_anything_runs(
    cluster: Cluster, suite: Path, environment: dict[str, str]
) -> None:
    """The cluster has two CPUs, but no node has both."""
    refused = run(suite, environment, *at(cluster, cpus=2))
    assert refused.returncode == 2
    assert "no node of the Ray cluster could ever run a job that asks for 2 CPUs" in refused.stderr
    assert "2 nodes with 1 CPU and 0 GPUs, 1 node with 0 CPUs and 0 GPUs" in refused.stderr
    refused = run(suite, environment, *at(cluster), "--device", "cuda")
    assert refused.returncode == 2
    assert "no node of the Ray cluster has a GPU" in refused.stderr
    assert not list(suite.parent.glob("results/tiny/jobs/*/log.txt"))


WATCHFUL = """
import os, time
from pathlib import Path
from recbench import hookimpl

if os.environ.get("CUDA_VISIBLE_DEVICES"):  # in a job, which is the leader of its group
    seen = Path({folder!r})
    (seen / str(os.getpgid(0))).write_text(os.environ["CUDA_VISIBLE_DEVICES"])
    deadline = time.monotonic() + 200
    while len(list(seen.iterdir())) < 4 and time.monotonic() < deadline:
        time.sleep(0.1)


@hookimpl
def recbench_losses():
    return []
"""


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="two minutes: make soak runs it")
@needs_ray
def test_jobs_share_gpus(cluster: Cluster, suite: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """On a node that says it has two GPUs, four jobs run at the same time, two on each: each waits for all others
    while its plugins are loaded. The GPUs do not exist, which the jobs notice only afterwards."""
    (tmp_path / "seen").mkdir()
    (tmp_path / "watchful.py").write_text(WATCHFUL.format(folder=str(tmp_path / "seen")))
    patient = {**environment, "RECBENCH_PLUGIN_SECONDS": "300"}
    watchful = ("--plugin", str(tmp_path / "watchful.py"), "--device", "cuda")
    with cluster.another(num_cpus=4, num_gpus=2):
        done = run(suite, patient, *at(cluster, jobs_per_device=2), *watchful)
    assert "up to 4 side by side on 1 node of a Ray cluster, 1 thread and 0.5 GPU each" in done.stderr
    seen = sorted(file.read_text() for file in (tmp_path / "seen").iterdir())
    assert seen == ["0"] * 4 + ["1"] * 4  # each job imports the file twice, first in a fork
    assert len(records(suite)) == 4
    for record in records(suite).values():
        assert "device cuda does not exist: torch sees 0 GPUs" in record["failure"]["message"]


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="two minutes: make soak runs it")
@needs_ray
def test_stopped_killed_and_continued_with_a_node_less_nothing_is_lost_or_done_twice(
    cluster: Cluster, suite: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """Ctrl-C, then SIGKILL of the coordinator, then SIGKILL of a node in mid-sweep, and in the end the records of an
    undisturbed run by the local executor."""
    observer = tmp_path / "observer.py"
    observer.write_text(
        "from pathlib import Path\nfrom recbench import hookimpl\n\n"
        "@hookimpl\ndef recbench_job_ended(job_id, record):\n"
        f"    Path({str(tmp_path / 'ended')!r}).open('a').write(job_id + ' ' + record['status'] + '\\n')\n"
    )
    slow = ("--set", SLOW_JOBS, "--set", "seeds=[0, 1, 2, 3]", "--set", "training.epochs=15")
    arguments = (*slow, "--checkpoint-seconds", "0.1")
    watched = (*at(cluster), *arguments, "--plugin", str(observer))

    with running(suite, environment, *watched) as process:
        wait_for(lambda: len(checkpoints(suite)) == 2, process)
        press_ctrl_c(process)
        _, errors = process.communicate(timeout=100)
        assert process.returncode == 130, errors
        assert "Traceback" not in errors
        assert not jobs_at_work(suite)

    with running(suite, environment, *watched) as process:
        wait_for(lambda: len(jobs_at_work(suite)) == 2, process)
        process.kill()
        process.communicate()
        wait_for(lambda: not jobs_at_work(suite))

    with running(suite, environment, *watched) as process:
        wait_for(lambda: len(jobs_at_work(suite)) == 2, process)
        cluster.kill_a_node()
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        assert "Traceback" not in errors

    ended = sorted((tmp_path / "ended").read_text().splitlines())
    assert ended == sorted(f"{record['job_id']} done" for record in records(suite).values())
    assert len(ended) == 4

    undisturbed = tmp_path / "undisturbed" / "tiny.yaml"
    undisturbed.parent.mkdir()
    undisturbed.write_text(TINY_SUITE)
    assert run(undisturbed, environment, *arguments, executor="local").returncode == 0
    assert outcome(suite) == outcome(undisturbed)


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="a minute: make soak runs it")
@needs_ray
def test_a_ray_of_its_own_is_gone_with_the_sweep_that_a_second_ctrl_c_ends(
    suite: Path, environment: dict[str, str], root: Path
) -> None:
    def alive() -> list[str]:
        """Ray's processes say in their arguments or environment where their folder is."""
        found = []
        for folder in Path("/proc").iterdir():
            try:
                if folder.name.isdigit() and str(root / "own").encode() in (folder / "environ").read_bytes():
                    found.append((folder / "cmdline").read_text())
            except OSError:
                continue
        return found

    (root / "own").mkdir()
    (suite.parent / "bad.py").write_text(BAD_LOSSES)
    losses = ("--set", "losses=[l2, {name: bad, params: {deed: hang}}]", "--set", "seeds=[0]")
    arguments = (*losses, "--plugin", str(suite.parent / "bad.py"))
    with running(suite, {**environment, "RAY_TMPDIR": str(root / "own")}, *arguments) as process:
        wait_for(lambda: len(records(suite)) == 1 and len(jobs_at_work(suite)) == 1, process)
        press_ctrl_c(process)
        time.sleep(3)  # the job hangs, and hears nothing
        assert process.poll() is None
        press_ctrl_c(process)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "of a Ray cluster, 1 thread each" in errors
    assert "Traceback" not in errors
    assert records(suite)["l2", 0]["status"] == "done"
    wait_for(lambda: not alive() and not jobs_at_work(suite), seconds=60)
