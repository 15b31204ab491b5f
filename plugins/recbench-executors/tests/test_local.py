"""The local executor's choices; how it runs jobs is tested with whole sweeps in the root's tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from recbench.contracts.executor import Task
from recbench.errors import UserError
from recbench_executors import gpus, local, recbench_executors
from recbench_executors.gpus import visible_gpus

TASK = Task(job_id="0" * 16, folder="nowhere", cache="nowhere")


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "cores", lambda: 8)


def make(**params: Any) -> local.Local:
    entry = next(entry for entry in recbench_executors() if entry.name == "local")
    return local.Local(**entry.complete(params))


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(
    ("visible", "params", "words"),
    [
        ("", {}, "8 side by side on the CPU, 1 thread each"),
        ("", {"jobs": 2}, "2 side by side on the CPU, 4 threads each"),
        ("", {"jobs": 3, "threads": 5}, "3 side by side on the CPU, 5 threads each"),
        ("", {"jobs": 16}, "16 side by side on the CPU, 1 thread each"),
        ("0,1", {}, "2 side by side on 2 GPUs, 4 threads each"),
        ("GPU-5ebe9f43", {"jobs": 4}, "4 side by side on 1 GPU, 2 threads each"),
        ("-1", {}, "8 side by side on the CPU, 1 thread each"),
    ],
)
def test_jobs_and_threads_follow_the_machine_and_never_the_number_of_tasks(
    visible: str, params: dict[str, int], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert {make(**params).describe(tasks) for tasks in (1, 7, 1000)} == {words}


MIG = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-1)
  MIG 1g.5gb      Device  0: (UUID: MIG-c6d4f1ef)
  MIG 2g.10gb     Device  1: (UUID: MIG-e7c1)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-2)
GPU 2: NVIDIA A100-SXM4-40GB (UUID: GPU-3)
  MIG 7g.40gb     Device  0: (UUID: MIG-GPU-3/1/0)"""
"""As ``nvidia-smi -L`` lists GPUs of which some are cut into instances; the last one as an older driver names it."""


@pytest.mark.parametrize(
    ("visible", "found"),
    [
        ("2, 0", ["2", "0"]),
        ("0,-1,1", ["0"]),
        ("0x", ["0"]),
        ("NoDevFiles", []),
        ("0,0", []),
        ("1,2,01", []),
        ("0,-1,0", ["0"]),
        ("GPU-a,GPU-b", ["GPU-a", "GPU-b"]),
        ("GPU-a,GPU-a", []),
        ("MIG-1/2,MIG-1/3", ["MIG-1/2", "MIG-1/3"]),
        ("MIG-1/2,MIG-1/2", []),
        ("GPU-5d,MIG-c6,2", ["GPU-5d"]),
        ("2,GPU-5d,2", ["2"]),
        ("GPU-a, GPU-b", ["GPU-a"]),
    ],
)
def test_the_users_choice_is_read_as_torch_reads_it(
    visible: str, found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise jobs would share a GPU, or get one that torch does not see."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert visible_gpus() == found
    assert [str(name) for name in torch.cuda._parse_visible_devices()] == found


def run_work(device: str, gpu: str | None, **environment: str) -> list[str]:
    """Return the device, the visible GPUs and their order that a job of this device, which was given this GPU, has."""
    script = (
        "import os, sys\n"
        "from recbench_executors import local\n"
        "from recbench.contracts.executor import Task\n"
        "def replaced(task, device): print(device, file=sys.stderr); return task\n"
        "def stop(*_):\n"
        "    for name in ('CUDA_VISIBLE_DEVICES', 'CUDA_DEVICE_ORDER'):\n"
        "        print(repr(os.environ.get(name)), file=sys.stderr)\n"
        "    os._exit(0)\n"
        "local.replace, local.os.open = replaced, stop\n"
        f"local.work(Task(job_id='0' * 16, folder='.', cache='.', device={device!r}), None, {gpu!r}, 1)\n"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CUDA_")}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env={**clean, **environment}, capture_output=True, text=True, check=True)
    return done.stderr.split()


@pytest.mark.parametrize(
    ("before", "order"), [({}, "PCI_BUS_ID"), ({"CUDA_VISIBLE_DEVICES": "1"}, None)], ids=["nvidia-smi", "the user"]
)
def test_numbers_mean_what_they_meant_to_whom_they_are_of(before: dict[str, str], order: str | None) -> None:
    """The driver's list is in the order of the bus; numbers that a user gave are in CUDA's own, which is another."""
    assert run_work("auto", "1", **before) == ["cuda", "'1'", repr(order)]


@pytest.fixture
def lister(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for nvidia-smi, to be written, which is found first."""
    file = tmp_path / "nvidia-smi"
    file.touch(0o755)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return file


def test_gpus_are_those_that_the_driver_lists(lister: Path) -> None:
    lister.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H200 (UUID: GPU-1)'\necho 'GPU 1: NVIDIA H200 (UUID: GPU-2)'\n")
    assert visible_gpus() == ["0", "1"]
    lister.write_text(f"#!/bin/sh\ncat <<'END'\n{MIG}\nEND\n")
    assert visible_gpus() == ["MIG-c6d4f1ef", "MIG-e7c1", "1", "MIG-GPU-3/1/0"]
    lister.write_text("#!/bin/sh\necho 'No devices were found' >&2\nexit 6\n")
    assert visible_gpus() == []


def test_a_job_that_was_given_no_gpu_sees_none() -> None:
    """Torch may see one that nvidia-smi does not list; every core's job would take it."""
    assert run_work("auto", None) == ["cpu", "''", "None"]
    assert run_work("cpu", None, CUDA_VISIBLE_DEVICES="0") == ["cpu", "''", "None"]
    assert run_work("cuda", None) == [
        "None",
        "None",
    ]  # torch says that there is none; never is it the CPU


@pytest.mark.usefixtures("eight_cores")
def test_a_list_of_gpus_that_fails_is_told(lister: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lister.write_text("#!/bin/sh\necho 'Driver/library version mismatch' >&2\nexit 18\n")
    why = "(nvidia-smi -L failed: Driver/library version mismatch; CUDA_VISIBLE_DEVICES=0 names a GPU without it)"
    assert make().describe(1) == f"8 side by side on the CPU {why}, 1 thread each"
    for params, device in (({}, "cuda"), ({"devices": "0"}, "auto")):
        with pytest.raises(UserError, match=r"no NVIDIA GPU was found .*version mismatch"):
            make(**params).check([replace(TASK, device=device)])
    cpu = make()
    cpu.check([replace(TASK, device="cpu")])
    assert cpu.describe(1) == "8 side by side on the CPU, 1 thread each"
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(gpus, "DEVICES", tmp_path)
    assert make().describe(1) == "8 side by side on the CPU, 1 thread each"
    (tmp_path / "nvidia0").touch()
    assert "on the CPU (there is no nvidia-smi, which lists GPUs; " in make().describe(1)


def test_a_gpu_that_is_not_there_is_refused_before_any_job_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    task = Task(job_id="0" * 16, folder="nowhere", cache="nowhere", device="cuda")
    with pytest.raises(UserError, match="no NVIDIA GPU"):
        make().check([task])


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(
    ("device", "params", "words"),
    [
        ("auto", {"devices": "0,2"}, "2 side by side on 2 GPUs"),
        ("cuda", {"devices": "2"}, "1 side by side on 1 GPU"),
        ("auto", {"devices": "GPU-b", "jobs_per_device": 3}, "3 side by side on 1 GPU"),
        ("auto", {"jobs_per_device": 2}, "6 side by side on 3 GPUs"),
        ("cuda:1", {"jobs_per_device": 2}, "2 side by side on 1 GPU"),
        ("cpu", {}, "8 side by side on the CPU"),
        ("cpu", {"jobs_per_device": 2}, "2 side by side on the CPU, 4 threads each"),
    ],
)
def test_devices_are_counted_among_the_visible_ones(
    device: str, params: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b,GPU-c")
    executor = make(**params)
    executor.check([Task(job_id="0" * 16, folder="nowhere", cache="nowhere", device=device)])
    assert executor.describe(1).startswith(words)


@pytest.mark.parametrize(
    ("device", "devices", "words"),
    [
        ("auto", "3", "from 0 to 2, got '3'"),
        ("auto", "0,0", "got '0'"),
        ("auto", "x", "got 'x'"),
        ("cuda:1", "0", "exclude each other"),
        ("cpu", "0", "exclude each other"),
        ("cuda:3", "", "there are 3 GPUs on this machine"),
    ],
)
def test_devices_that_are_not_there_are_refused(
    device: str, devices: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    with pytest.raises(UserError, match=words):
        make(devices=devices).check([Task(job_id="0" * 16, folder="nowhere", cache="nowhere", device=device)])


def test_exit_codes_in_words() -> None:
    assert local.how_it_died(-signal.SIGSEGV) == ("crash", "the job's process was ended by SIGSEGV")
    assert local.how_it_died(-signal.SIGKILL)[0] == "killed"
    assert local.how_it_died(-signal.SIGKILL, memory=True)[0] == "out of memory"
    assert local.how_it_died(-50)[1].endswith("by signal 50")
    assert local.how_it_died(3) == ("exit", "the job's process ended with exit code 3 and no record")


def test_without_tasks_nothing_starts() -> None:
    assert list(make().map([])) == []


def test_the_executor_imports_no_torch() -> None:
    code = "import sys, recbench_executors.local; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_jobs_get_the_allocator_settings_unless_the_user_chose_others(tmp_path: Path) -> None:
    """A job's environment is read from its process while it waits for its specification, which is missing."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from recbench.contracts.executor import Task\n"
        "from recbench_executors.local import Local\n"
        "if __name__ == '__main__':\n"
        "    task = Task(job_id='0' * 16, folder=sys.argv[1], cache=sys.argv[1])\n"
        "    print([event.outcome for event in Local(jobs=1, threads=1).map([task])])\n"
    )
    folder = tmp_path / "results" / "suite" / "jobs" / ("0" * 16)
    folder.mkdir(parents=True)
    plugin = tmp_path / "sitecustomize.py"
    plugin.write_text(
        "import os\n"
        f"file = os.open({str(tmp_path / 'arenas')!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)\n"
        "os.write(file, (str(os.environ.get('MALLOC_ARENA_MAX')) + ' ').encode())\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "MALLOC_ARENA_MAX"}
    for chosen, expected in ((None, "1"), ("7", "7")):
        extra = {} if chosen is None else {"MALLOC_ARENA_MAX": chosen}
        done = subprocess.run(
            [sys.executable, str(script), str(folder)],
            env={**environment, "PYTHONPATH": str(tmp_path), **extra},
            capture_output=True,
            text=True,
            check=True,
        )
        # the first is the script itself, the next are the fork server that jobs come from, and its helper
        seen = (tmp_path / "arenas").read_text().split()
        assert seen[0] == str(chosen)
        assert set(seen[1:]) == {expected}
        (tmp_path / "arenas").unlink()
        assert "['crashed']" in done.stdout
        assert "no specification" in (folder / "log.txt").read_text()


def test_jobs_import_nothing_for_their_files_that_the_fork_server_has_not(tmp_path: Path) -> None:
    code = """
import importlib, sys
from pathlib import Path
from recbench_executors.local import _PRELOADED
for name in _PRELOADED[1:]:  # the first one would end this process with its parent
    importlib.import_module(name)
import numpy, torch
from recbench.store import artifacts
before = {name.partition(".")[0] for name in sys.modules}
folder = Path(sys.argv[1])
artifacts.start_history(folder)
artifacts.write_scores(folder, {"psnr": numpy.ones(2)})
artifacts.write_images(folder, {"target": numpy.ones((1, 1, 2, 2), dtype=numpy.uint8)})
artifacts.write_model(folder, {"architecture": torch.nn.Linear(1, 1)})
print({name.partition(".")[0] for name in sys.modules} - before)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
