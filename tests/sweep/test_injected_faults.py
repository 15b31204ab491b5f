"""Sweeps under real faults: jobs that die in every way, coordinators that are killed or share a folder, terminals that
go away, plugins that cannot be imported. Records alone are tested in test_faults_records.py, interruptions that a sweep
continues from in test_sweep.py, full disks and bad files in test_bad_input.py."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import CommandLine, ended
from tests.conftest import TINY, Recbench
from tests.sweep.test_sweep import LONG, OBSERVER, RUN, outcome, records, wait_for_checkpoint, workers
from tests.tiny_plugin import CHILD

pytestmark = pytest.mark.slow(seconds=25)


def misbehaving(*what: str, step: int = 2) -> tuple[str, ...]:
    grid = f"losses=[l2, {{name: misbehaving, params: {{what: {{grid: [{', '.join(what)}]}}, step: {step}}}}}]"
    return "--set", grid, "--set", "seeds=[0]", "--set", "training.epochs=1"


def by_what(root: Path) -> dict[str, dict[str, Any]]:
    found = [json.loads(file.read_text()) for file in root.glob("results/tiny/jobs/*/record.json")]
    return {record["job"]["loss"]["params"].get("what", "l2"): record for record in found}


def wait(for_what: Callable[[], object], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not for_what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def started(
    root: Path, environment: dict[str, str], *arguments: object, **more: Any
) -> AbstractContextManager[subprocess.Popen[str]]:
    """A command in the background, in a process that shares nothing."""
    command = [sys.executable, "-m", "recbench", *map(str, arguments)]
    return ended(subprocess.Popen(command, cwd=root, env=environment, stderr=subprocess.PIPE, text=True, **more))


def children_left() -> list[str]:
    """Sleeping processes that misbehaving losses have started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if command[:2] == [b"sleep", CHILD.encode()]:
            found.append(folder.name)
    return found


# 4. Each way to die costs one job, and has a name

DEATHS = {
    "exit": ("ProcessDied", "exit", "exit code 3"),
    "kill": ("ProcessDied", "killed", "SIGKILL"),
    "segv": ("ProcessDied", "crash", "SIGSEGV"),
    "hang": ("TimedOut", "timeout", "ended after 20 s"),
    "leave a child": ("ProcessDied", "killed", "SIGKILL"),
    "raise": ("RuntimeError", "exception", "raises on purpose"),
    "memory": ("RuntimeError", "out of memory", "DefaultCPUAllocator"),
    "memory of numpy": ("MemoryError", "out of memory", "Unable to allocate"),
    "memory of the gpu": ("OutOfMemoryError", "out of memory", "CUDA out of memory"),
}


def test_every_way_to_die_has_a_name_and_costs_one_job(tiny: Path, recbench: Recbench) -> None:
    done = recbench(*RUN, *misbehaving(*DEATHS), "--timeout", "20s")
    assert done.returncode == 1, done.stderr
    found = by_what(tiny.parent)
    assert found.pop("l2")["status"] == "done"
    assert found.keys() == DEATHS.keys()
    for what, (kind, reason, words) in DEATHS.items():
        failure = found[what]["failure"]
        assert (found[what]["status"], failure["reason"]) == ("failed", reason), what
        assert kind in failure["type"], what  # NumPy's has a prefix in some versions
        assert words in failure["message"]
    assert not children_left(), "a job was killed, and its own children were not"
    assert not workers(tiny.parent)

    shown = recbench("status")
    assert shown.returncode == 0
    assert "tiny: 1 of 10 jobs done, 0 running, 9 failed, 0 waiting" in shown.stdout
    for _, reason, _ in DEATHS.values():
        assert f"  {reason}  " in shown.stdout
    told = recbench("logs", found["raise"]["job_id"][:8])
    assert told.returncode == 0
    assert 'raise RuntimeError("this loss raises on purpose")' in told.stderr


def test_what_may_pass_is_tried_again_and_what_diverged_only_when_asked(tiny: Path, recbench: Recbench) -> None:
    suite = misbehaving("raise once", "nan")
    done = recbench(*RUN, *suite, "--retries", "2")
    assert done.returncode == 1, done.stderr
    found = by_what(tiny.parent)
    assert {what: record["status"] for what, record in found.items()} == {
        "l2": "done",
        "raise once": "done",
        "nan": "diverged",
    }
    jobs = tiny.parent / "results/tiny/jobs"
    kept = {path.parent.name: path.name for path in jobs.glob("*/failed-*.json")}
    assert kept == {found["raise once"]["job_id"]: "failed-1.json"}
    assert "(--diverged" in recbench("retry", "tiny", "--plugin", TINY).stderr
    assert "is done" in recbench("retry", "tiny", found["l2"]["job_id"]).stderr
    again = recbench("retry", "tiny.yaml", found["nan"]["job_id"][:10], "--plugin", TINY)
    assert again.returncode == 1, again.stderr
    assert "1 of 3 jobs to run" in again.stderr
    first = json.loads((jobs / found["nan"]["job_id"] / "diverged-1.json").read_text())
    assert first["failure"] == found["nan"]["failure"] == by_what(tiny.parent)["nan"]["failure"]


# 5. Nothing outlives a coordinator


def test_a_job_that_holds_the_interpreter_in_c_dies_with_a_killed_coordinator(
    tiny: Path, environment: dict[str, str]
) -> None:
    """No thread of such a job can notice anything: the system has to end it."""
    root = tiny.parent
    with started(root, environment, *RUN, *misbehaving("hang in c")) as process:
        wait(lambda: by_what(root).get("l2") and workers(root))
        time.sleep(1)
        process.kill()
        wait(lambda: not workers(root), 30)


# 13. Several coordinators on one folder


def test_coordinators_share_the_work_and_take_over_from_the_dead(
    tiny: Path, environment: dict[str, str], recbench: Recbench, command_line: CommandLine
) -> None:
    """Three on one folder; one is killed in the middle. The others end with all jobs done, each trained once but for
    those that the dead one was at. Observers of a killed job die with it, perhaps before they have noted its start."""
    root = tiny.parent
    (root / "observer.py").write_text(OBSERVER)
    suite = (*RUN, *LONG, "--plugin", "observer.py", "--checkpoint-seconds", "0.1", "--set", "seeds=[0, 1, 2, 3]")

    def coordinator() -> AbstractContextManager[Any]:
        return ended(command_line.start(*suite, cwd=root, environment=environment))

    with coordinator() as victim, coordinator() as one:
        wait_for_checkpoint(root, victim)
        with coordinator() as other:
            wait(lambda: len(records(root)) >= 1)
            mine = len(workers(root))
            victim.kill()
            for process in (one, other):
                _, errors = process.communicate(timeout=240)
                assert process.returncode == 0, errors
    found = records(root)
    assert len(found) == 4
    assert all(record["status"] == "done" for record in found.values())
    starts = (root / "seen.txt").read_text().count("started")
    assert 1 <= starts <= 4 + mine
    assert "4/4 jobs done" in recbench("leaderboard").stdout
    assert not list(root.glob("results/tiny/jobs/*/failed-*"))


# 14. Ctrl-C twice, and terminals that go away


def test_the_second_ctrl_c_ends_jobs_that_do_not_listen(tiny: Path, environment: dict[str, str]) -> None:
    root = tiny.parent
    with started(root, environment, *RUN, *misbehaving("hang")) as process:
        wait(children_left)
        found = recbench_status(root, environment)
        assert any(job["state"] == "running" and job["running"]["process"] in workers(root) for job in found["jobs"])
        process.send_signal(signal.SIGINT)
        time.sleep(2)
        assert process.poll() is None, "it waits for the job to write a checkpoint"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert not workers(root)
    wait(lambda: not children_left(), 10)


def recbench_status(root: Path, environment: dict[str, str]) -> Any:
    command = [sys.executable, "-m", "recbench", "status", "--format", "json"]
    return json.loads(subprocess.run(command, cwd=root, env=environment, capture_output=True, check=True).stdout)


def test_a_sweep_outlives_its_terminal(tiny: Path, environment: dict[str, str]) -> None:
    """The terminal is closed, as when a connection breaks: the kernel sends SIGHUP, and writing to it fails."""
    root = tiny.parent
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(root)
        os.execvpe(sys.executable, [sys.executable, "-m", "recbench", *map(str, RUN)], environment)
    os.read(terminal, 1)
    wait(lambda: workers(root))
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(records(root)) == 4
    assert (root / "results/tiny/leaderboard.json").is_file()


def test_a_sweep_outlives_its_pipes(tiny: Path, environment: dict[str, str]) -> None:
    root = tiny.parent
    with started(root, environment, *RUN, "--set", "seeds=[0]", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stderr.close()
        assert process.wait(timeout=240) == 0
    assert len(records(root)) == 2
    assert (root / "results/tiny/leaderboard.json").is_file()


JUMPING_CLOCK = """
import random, time
from recbench import hookimpl

true = time.time
jumps = random.Random(0)
time.time = lambda: true() + jumps.choice([-1, 1]) * jumps.uniform(0, 10 * 86400)

@hookimpl
def recbench_losses():
    return []
"""


def test_odd_paths_other_devices_and_clocks_that_jump_make_no_difference(
    tiny: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tiny.stat().st_dev:
        pytest.skip("there is no other device to write to")
    odd = tiny.parent / "Ergebnisse für Ünïcode 结果"
    odd.mkdir()
    (odd / "tiny.yaml").write_text(tiny.read_text())
    (odd / "clock.py").write_text(JUMPING_CLOCK)
    shared = memory / f"recbench test {os.getpid()} ∂"
    one = ("--set", "seeds=[0]")
    try:
        (odd / "results").symlink_to(shared)
        shared.mkdir()
        for root, more in ((odd, ("--plugin", "clock.py", "--timeout", "1h")), (tiny.parent, ())):
            with started(root, environment, *RUN, *one, *more) as process:
                _, errors = process.communicate(timeout=240)
                assert process.returncode == 0, errors
        assert outcome(odd) == outcome(tiny.parent)
        assert len(outcome(odd)) == 2
    finally:
        subprocess.run(["rm", "-r", str(shared)], check=False)


# 10. Plugins that cannot be imported

DEADLY = {
    "exits": ("import os; os._exit(3)", "importing it ended the process (exit code 3)"),
    "crashes": ("import ctypes; ctypes.string_at(0)", "importing it crashed the process (SIGSEGV)"),
    "hangs": ("import time; time.sleep(1000)", "importing it hung the process (not finished after 3 s"),
    "holds on": (
        "import ctypes; ctypes.PyDLL(None).sleep(1000)",
        "importing it hung the process (not finished after 3 s",
    ),
}


def test_a_plugin_that_hangs_or_ends_the_process_disables_only_itself(
    tiny: Path, recbench: Recbench, install: Callable[..., Path]
) -> None:
    sites = []
    for number, (source, _) in enumerate(DEADLY.values()):
        module = f"deadly_{number}"
        sites.append(install(f"dist-{number}", f"{module} = {module}", folder=f"site{number}", **{module: source}))
    path = os.pathsep.join(map(str, sites))
    begin = time.monotonic()
    listed = recbench("plugins", PYTHONPATH=path, RECBENCH_PLUGIN_SECONDS="3")
    assert listed.returncode == 0, listed.stderr
    for _, words in DEADLY.values():
        assert words in listed.stdout
    assert time.monotonic() - begin > 6, "the hanging ones were not tried"
    done = recbench(*RUN, "--set", "seeds=[0]", PYTHONPATH=path, RECBENCH_PLUGIN_SECONDS="3")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("is not used: importing it") == 4
    assert len(records(tiny.parent)) == 2


def test_a_plugin_file_that_hangs_is_an_error_that_says_so(tmp_path: Path, recbench: Recbench) -> None:
    source = "import time\nwhile True:\n    try:\n        time.sleep(1000)\n    except Exception:\n        pass\n"
    (tmp_path / "slow.py").write_text(source)
    done = recbench("list", "losses", "--plugin", "slow.py", RECBENCH_PLUGIN_SECONDS="2")
    assert done.returncode == 2
    assert "slow.py cannot be used: importing it hung the process (not finished after 2 s" in done.stderr


# 11. What is read back never runs


def test_a_checkpoint_that_holds_code_does_not_run_it(tiny: Path, recbench: Recbench) -> None:
    import torch

    class Pickled:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, ("touch pwned",)

    root = tiny.parent
    one = ("--set", "seeds=[0]", "--set", "losses=[l2]")
    (line,) = [line for line in recbench(*RUN, *one, "--dry-run").stdout.splitlines() if " missing " in line]
    checkpoint = root / "results/tiny/jobs" / line.split()[0] / "checkpoint"
    checkpoint.mkdir(parents=True)
    torch.save({"model": Pickled(), "position": Pickled()}, checkpoint / "state.pt")
    done = recbench(*RUN, *one)
    assert done.returncode == 0, done.stderr
    assert not list(root.rglob("pwned"))
    assert len(records(root)) == 1


# 12. Large suites are asked about


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 2)])
def test_a_large_suite_is_asked_about(tiny: Path, environment: dict[str, str], answer: str, code: int) -> None:
    seeds = f"seeds=[{', '.join(map(str, range(5001)))}]"
    arguments = [sys.executable, "-m", "recbench", "validate", "tiny.yaml", "--plugin", str(TINY), "--set", seeds]
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tiny.parent)
        os.execvpe(sys.executable, arguments, environment)
    said = b""
    while b"[y/N]" not in said:
        assert select.select([terminal], [], [], 60)[0], said
        said += os.read(terminal, 1000)
    assert b"10,002 jobs" in said
    os.write(terminal, answer.encode() + b"\n")
    said = b""
    while True:
        try:
            part = os.read(terminal, 1000)
        except OSError:
            break
        if not part:
            break
        said += part
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == code
    assert (b"is valid: 10002 jobs" in said) == (answer == "y")
    assert (b"--max-jobs raises the limit" in said) == (answer == "n")
    os.close(terminal)


# 15. Fork servers that are killed


def fork_servers(coordinator: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(") ")[2].split()[:2]
            if int(parent) == coordinator and state != "Z":
                found += (
                    [int(folder.name)] if b"multiprocessing.forkserver" in (folder / "cmdline").read_bytes() else []
                )
        except OSError:
            continue
    return found


@pytest.mark.parametrize("moments", [(0.3,), (), (4.0, 0.5)], ids=["while it starts", "between jobs", "while jobs run"])
def test_jobs_of_a_fork_server_that_is_killed_run_again_and_none_is_charged(
    tiny: Path, environment: dict[str, str], moments: tuple[float, ...]
) -> None:
    root, killed = tiny.parent, 0
    with started(root, environment, *RUN, *LONG, "--checkpoint-seconds", "0.1", "--max-failures", "1") as process:
        if not moments:  # as the first job ends, and the next is started
            wait(lambda: len(records(root)) >= 1)
        for moment in moments or (0.0,):
            wait(lambda: fork_servers(process.pid) or process.poll() is not None)
            time.sleep(moment)
            for server in fork_servers(process.pid):
                os.kill(server, signal.SIGKILL)
                killed += 1
        _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert killed
    assert "failed" not in errors
    assert len(records(root)) == 2
    assert not list(root.glob("results/tiny/jobs/*/failed-*"))
    assert not workers(root)


def test_nothing_of_a_sweep_is_left_behind_wherever_its_temporary_files_lie(
    tiny: Path, environment: dict[str, str]
) -> None:
    """The path is too long for a socket in it. One sweep ends, another is killed while its fork server starts."""
    root = tiny.parent
    long = root / ("t" * 90)
    long.mkdir()
    one = (*RUN, "--set", "seeds=[0]", "--set", "losses=[l2]")
    before = set(Path("/tmp").glob("recbench-*"))
    with started(root, {**environment, "TMPDIR": str(long)}, *one) as process:
        wait(lambda: fork_servers(process.pid))
        (server,) = fork_servers(process.pid)
        _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    wait(lambda: not Path(f"/proc/{server}").exists(), 5)
    assert not [path for path in long.iterdir() if path.name.startswith(("pymp-", "recbench-"))]
    own = [path for path in set(Path("/tmp").glob("recbench-*")) - before if f"-{process.pid}-" in path.name]
    assert not own
    with started(root, environment, *RUN) as process:
        wait(lambda: fork_servers(process.pid))
        (server,) = fork_servers(process.pid)
        process.kill()
        process.wait()
        wait(lambda: not Path(f"/proc/{server}").exists(), 5)


# 16. Checkpoints and image caches that are damaged, and disks that are full


def interrupted(commands: CommandLine, root: Path, environment: dict[str, str], *arguments: object) -> Path:
    """Interrupt a sweep of one job after a checkpoint; gives the checkpoint."""
    run = (*RUN, *arguments, "--checkpoint-seconds", "0.1")
    with ended(commands.start(*run, cwd=root, environment=environment)) as process:
        wait_for_checkpoint(root, process)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=240)
    assert process.returncode == 130
    (checkpoint,) = root.glob("results/tiny/jobs/*/checkpoint/state.pt")
    return checkpoint


SLOW = (
    "--set",
    "seeds=[0]",
    "--set",
    "training.epochs=6",
    "--set",
    "losses=[{name: misbehaving, params: {what: slow}}]",
)


def test_a_job_with_a_damaged_checkpoint_and_a_damaged_cache_says_so_and_gets_the_same_numbers(
    tiny: Path,
    recbench: Recbench,
    command_line: CommandLine,
    environment: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    root, cache = tiny.parent, tmp_path_factory.mktemp("own") / "cache"
    assert recbench(*RUN, *SLOW).returncode == 0
    undisturbed = outcome(root)
    (root / "results").rename(root / "undisturbed")
    own = {**environment, "RECBENCH_CACHE": str(cache)}
    checkpoint = interrupted(command_line, root, own, *SLOW)
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint.write_bytes(content)
    (images,) = cache.glob("images/*/test.npy")
    with images.open("r+b") as stream:
        stream.seek(1000)
        stream.write(bytes(600))
    done = recbench(*RUN, *SLOW, RECBENCH_CACHE=str(cache))
    assert done.returncode == 0, done.stderr
    assert "the decoded images of blobs in" in done.stderr
    said = " ".join(done.stderr.split())
    assert f"job {checkpoint.parent.parent.name}: {checkpoint} cannot be used (it is damaged" in said
    assert outcome(root) == undisturbed


def test_a_disk_that_is_full_when_a_large_checkpoint_is_written_costs_nothing(
    tiny: Path, recbench: Recbench, command_line: CommandLine, environment: dict[str, str]
) -> None:
    """Files may have 1 MiB, and the checkpoint has more: so is a disk full for it, and for nothing else."""
    root = tiny.parent
    large = ("--set", "datasets=[{name: blobs, params: {size: 48, count: 32}}]", *SLOW, "--device", "cpu")
    wide = (*large, "--set", "architectures=[{name: linear, params: {latent_size: 16}}]")
    checkpoint = interrupted(command_line, root, environment, *wide)
    before = checkpoint.read_bytes()
    assert len(before) > 2**20
    command = " ".join(["ulimit -f 1024;", "exec", sys.executable, "-m", "recbench", '"$@"'])
    arguments = map(str, (*RUN, *wide, "--checkpoint-seconds", "0.1"))
    done = subprocess.run(
        ["bash", "-c", command, "bash", *arguments],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert f"a file in {checkpoint.parent.parent} would be larger than the system allows" in " ".join(
        done.stderr.split()
    )
    assert "Traceback" not in done.stderr
    assert not records(root)
    assert checkpoint.read_bytes() == before
    assert not list(root.rglob("*.unfinished"))
    again = recbench(*RUN, *wide)
    assert again.returncode == 0, again.stderr
    assert len(records(root)) == 1
    assert not list(root.glob("results/tiny/jobs/*/failed-*"))
