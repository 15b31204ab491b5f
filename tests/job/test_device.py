"""Devices: which one, in which precision, and how it says that there is no memory."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from recbench.contracts.checked import ContractError, respected
from recbench.contracts.executor import Task
from recbench.contracts.numerics import allow_tf32, float32_flags, ieee, set_float32_flags
from recbench.errors import RecbenchError
from recbench.job import device as devices
from recbench.job.accidents import reason_of
from recbench.job.checkpoint import Position, random_states, restore_random_states
from recbench.job.device import autocast, choose_device, peak_memory, precision_on
from recbench.job.runner import _Attempt

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def flags() -> Iterator[None]:
    before = float32_flags()
    yield
    set_float32_flags(before)


@pytest.mark.parametrize(
    "text",
    [
        "CUDA out of memory. Tried to allocate 20.00 GiB.",
        "CUDA error: out of memory",
        "CUDA driver error: out of memory",
        "CUDA_ERROR_OUT_OF_MEMORY: out of memory",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
        "cuFFT error: CUFFT_ALLOC_FAILED",
        "cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
        "cusolver error: CUSOLVER_STATUS_INTERNAL_ERROR, when calling `cusolverDnCreate(handle)`",
        "CUDA error: CUSPARSE_STATUS_INSUFFICIENT_RESOURCES when calling `cusparseSpMM(handle)`",
        "Unable to find a valid cuDNN algorithm to run convolution",
        "Triton Error [CUDA]: out of memory",
        "GET was unable to find an engine to execute this computation",
        "Unable to find an engine to execute this computation",
        "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes",
        "std::bad_alloc",
    ],
)
def test_out_of_memory_has_many_spellings(text: str) -> None:
    assert reason_of(RuntimeError(text)) == "out of memory"
    try:
        try:
            raise RuntimeError(text)
        except RuntimeError as error:
            raise ValueError("a plugin's own words") from error
    except ValueError as error:
        assert reason_of(error) == "out of memory"


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: device-side assert triggered",
        "CUDNN_STATUS_BAD_PARAM",
        "no memory of it",
        "cuFFT error: CUFFT_INTERNAL_ERROR",
        "cusolver error: CUSOLVER_STATUS_INTERNAL_ERROR, when calling `cusolverDnSgeqrf(handle, m, n)`",
        "the option on_out_of_memory is unknown",
    ],
)
def test_other_errors_are_exceptions(text: str) -> None:
    assert reason_of(RuntimeError(text)) == "exception"


@pytest.mark.parametrize(
    "error",
    [
        NameError("name 'out_of_memory' is not defined"),
        NameError("name 'CUDA_ERROR_OUT_OF_MEMORY' is not defined"),
        AttributeError("module 'plugin' has no attribute 'bad_alloc'"),
        KeyError("on_out_of_memory"),
        KeyError("out of memory"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/data/out_of_memory/x.npy"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/data/out of memory/x.npy"),
    ],
    ids=repr,
)
def test_a_name_that_sounds_like_memory_is_no_lack_of_it(error: Exception) -> None:
    assert reason_of(error) == "exception"
    error.__cause__ = OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
    assert reason_of(error) == "out of memory"


def test_a_gpu_that_torch_cannot_use_is_named_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def init() -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040).\nPlease update it.")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    with pytest.raises(RecbenchError, match=r"device cuda does not exist: torch sees 0 GPUs; torch .* too old \(found"):
        choose_device("cuda")
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(RecbenchError, match="is built without CUDA"):
        choose_device("cuda:0")
    assert choose_device("auto") == CPU


@pytest.mark.parametrize(
    ("flags", "chosen"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16", "bf16"),
        ("flags\t\t: fpu amx_bf16 amx_tile", "bf16"),
        ("flags\t\t: fpu avx512f avx512_vnni", "float32"),
        ("model name\t: avx512_bf16\nflags\t\t: fpu", "float32"),
    ],
)
def test_auto_is_bf16_where_the_processor_multiplies_it(
    flags: str, chosen: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{flags}\n")
    monkeypatch.setattr(devices, "Path", lambda _: tmp_path / "cpuinfo")
    devices._multiplies_bf16.cache_clear()
    try:
        assert precision_on("auto", CPU) == chosen
        with autocast(CPU, "auto"):
            assert torch.is_autocast_enabled("cpu") == (chosen == "bf16")
    finally:
        devices._multiplies_bf16.cache_clear()
    assert precision_on("float32", CPU) == precision_on("tf32", CPU) == "float32"
    assert precision_on("bf16", CPU) == "bf16"


@pytest.mark.parametrize(("capability", "chosen"), [((9, 0), "bf16"), ((7, 5), "float32")])
def test_auto_on_a_gpu(capability: tuple[int, int], chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    devices._multiplies_bf16.cache_clear()
    assert precision_on("auto", GPU) == chosen
    assert precision_on("tf32", GPU) == "tf32"
    devices._multiplies_bf16.cache_clear()


# TensorFloat-32


def uses_tf32() -> bool:
    """As torch says, by the interface that every version has."""
    return torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32


def test_only_a_network_of_a_suite_that_says_so_uses_tf32() -> None:
    allow_tf32(allowed=False)
    assert not uses_tf32()
    with autocast(GPU, "tf32"):
        assert uses_tf32()
    assert not uses_tf32()
    with autocast(GPU, "bf16"):
        assert not uses_tf32()


SETTINGS = {
    "old interface": "torch.backends.cudnn.allow_tf32 = True",
    "new interface": "torch.backends.cudnn.conv.fp32_precision = 'tf32'",
    "matrices": "torch.backends.cuda.matmul.fp32_precision = 'tf32'",
    "words": "torch.set_float32_matmul_precision('high')",
}


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_whatever_a_plugin_has_set_metrics_are_ieee(setting: str) -> None:
    """By either interface of torch, which refuses to read the one after the other was used."""
    allow_tf32(allowed=False)
    try:
        exec(setting)
    except AttributeError as error:
        pytest.skip(str(error))
    before = float32_flags()
    with ieee():
        assert not uses_tf32()
    assert float32_flags() == before
    allow_tf32(allowed=False)
    assert not uses_tf32()


def test_a_plugin_that_sets_it_breaks_its_contract() -> None:
    allow_tf32(allowed=False)
    said = r"it changes the precision of products of float32 \(TF32\)"
    with pytest.raises(ContractError, match=said), respected("the loss", "forward"):
        torch.backends.cudnn.allow_tf32 = True
    assert not uses_tf32()


# Memory and random states


def test_images_are_no_cost_of_a_method(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 1000)
    assert peak_memory(GPU, images=300) == 700


@pytest.mark.parametrize(("saved", "device", "restored"), [(4, 0, 0), (4, 3, 3), (2, 3, 1), (1, 5, 0)])
def test_random_states_come_back_where_there_are_other_gpus(
    saved: int, device: int, restored: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Any] = []
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, where: found.append((state, where)))
    states = {**random_states(CPU), "cuda": [f"state {index}" for index in range(saved)]}
    where = torch.device("cuda", device)
    restore_random_states(states, where)
    assert found == [(f"state {restored}", where)]
    restore_random_states(states, CPU)
    assert len(found) == 1


def test_only_the_state_of_the_jobs_own_gpu_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of all would begin to use all."""
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda where: f"state of {where}")
    assert random_states(torch.device("cuda", 2))["cuda"] == ["state of cuda:2"]
    assert random_states(CPU)["cuda"] == []


def test_the_duration_of_a_step_leaves_the_warm_up_out() -> None:
    assert Position(step=120, seconds=14.0, warm_steps=20, warm_seconds=4.0).step_seconds == 0.1
    assert Position(step=20, seconds=4.0, warm_steps=20, warm_seconds=4.0).step_seconds == 0.2
    assert Position(step=5, seconds=1.0).step_seconds == 0.2


@pytest.mark.parametrize(
    ("given", "trained", "scored", "refused"),
    [
        ("cpu", "cuda:0 (NVIDIA H200)", None, True),
        ("cuda:1", "cpu", None, True),
        ("auto", "cuda:0 (NVIDIA H200)", None, False),
        ("cpu", "cuda:0 (NVIDIA H200)", "cpu", False),
        ("cuda", "cpu", "cuda:0 (NVIDIA H200)", False),
        ("cpu", "cpu", "cuda:0 (NVIDIA H200)", True),
    ],
)
def test_a_record_of_another_device_than_the_job_was_given_is_refused(
    given: str, trained: str, scored: str | None, refused: bool
) -> None:
    """What counts is where this attempt ran: a model is scored wherever it was trained."""
    made = [SimpleNamespace(provenance=SimpleNamespace(device=device)) for device in (trained, scored)]
    record: Any = SimpleNamespace(provenance=made[0].provenance, rescored=made[1:])
    task = Task(job_id="0" * 16, folder="nowhere", cache="nowhere", device=given)
    work = SimpleNamespace(replace=lambda _: None, publish=lambda *_: None)
    attempt: Any = SimpleNamespace(task=task, is_done=scored is not None, before=None, work=work, store=None)
    with pytest.raises(RecbenchError, match="the job was given") if refused else nullcontext():
        _Attempt.publish(attempt, record)


# A driver that writes down who asks it


DRIVER = """\
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static void note(const char *what) {
    FILE *file = fopen(getenv("STUB_DRIVER_LOG"), "a");
    if (file) { fprintf(file, "%d %s\\n", getpid(), what); fclose(file); }
}
int cuInit(unsigned flags) { note("cuInit"); return 100; }
int cuDriverGetVersion(int *version) { *version = 13020; return 0; }
int cuGetProcAddress_v2(const char *name, void **found, int version, unsigned long long flags, int *status) {
    *found = !strcmp(name, "cuInit") ? (void *)cuInit : !strcmp(name, "cuDriverGetVersion") ? (void *)cuDriverGetVersion
           : !strncmp(name, "cuGetProcAddress", 16) ? (void *)cuGetProcAddress_v2 : 0;
    if (status) *status = *found ? 0 : 1;
    return *found ? 0 : 500;
}
int cuGetProcAddress(const char *name, void **found, int version, unsigned long long flags) {
    return cuGetProcAddress_v2(name, found, version, flags, 0);
}
"""


@pytest.fixture
def driver(tmp_path: Path) -> dict[str, str]:
    """Variables with which a process finds a driver that has no GPU, and writes down every start of CUDA."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or torch.version.cuda is None or torch.cuda.is_available():
        pytest.skip("needs a C compiler, a build of torch with CUDA, and no GPU")
    (tmp_path / "driver.c").write_text(DRIVER)
    library = tmp_path / "lib" / "libcuda.so.1"
    library.parent.mkdir()
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, tmp_path / "driver.c"], check=True)
    lister = tmp_path / "bin" / "nvidia-smi"
    lister.parent.mkdir()
    lister.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H200 (UUID: GPU-1)'\n")
    lister.chmod(0o755)
    return {
        "LD_LIBRARY_PATH": str(library.parent),
        "STUB_DRIVER_LOG": str(tmp_path / "log"),
        "PATH": f"{lister.parent}{os.pathsep}{os.environ['PATH']}",
        "CUDA_VISIBLE_DEVICES": "0",
    }


def test_the_stub_driver_is_asked_when_cuda_starts(driver: dict[str, str]) -> None:
    """Otherwise the tests below would see nothing."""
    command = "import torch; torch.cuda.is_available(); print(torch.cuda.is_initialized())"
    subprocess.run([sys.executable, "-c", command], env={**os.environ, **driver}, check=True, capture_output=True)
    assert "cuInit" in Path(driver["STUB_DRIVER_LOG"]).read_text()
    assert ctypes.sizeof(ctypes.c_void_p) == 8


def test_the_fork_server_never_starts_cuda(driver: dict[str, str], tmp_path: Path) -> None:
    """What it loads may import torch and look at it; a fork of a process that has started CUDA cannot use a GPU."""
    modules = "from recbench_executors.local import _PRELOADED; import importlib\n"
    modules += "for name in _PRELOADED[1:]: importlib.import_module(name)\n"
    modules += "import torch; assert not torch.cuda.is_initialized()"
    done = subprocess.run(
        [sys.executable, "-c", modules], env={**os.environ, **driver}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    log = Path(driver["STUB_DRIVER_LOG"])
    assert not log.exists() or log.read_text() == ""


def test_a_job_that_was_given_a_gpu_and_cannot_use_it_fails(
    driver: dict[str, str], recbench: Any, tiny: Path, tmp_path: Path
) -> None:
    """With ``--device auto``: nvidia-smi lists a GPU, and torch cannot use it."""
    from tests.conftest import TINY

    environment = {**driver, "CUDA_VISIBLE_DEVICES": "0"}
    done = recbench("run", tiny, "--plugin", TINY, "--retries", "0", "--max-failures", "1", **environment)
    assert done.returncode == 1, done.stderr
    records = list((tmp_path / "results").glob("*/jobs/*/record.json"))
    assert records
    assert all('"status":"failed"' in re.sub(r"\s", "", record.read_text()) for record in records)
    assert all("device cuda does not exist: torch sees 0 GPUs" in record.read_text() for record in records)
    # Each process that asked the driver was a job's own.
    asked = {line.split()[0] for line in Path(driver["STUB_DRIVER_LOG"]).read_text().splitlines()}
    assert len(asked) == len(records)
