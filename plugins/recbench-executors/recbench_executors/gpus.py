"""The GPUs of this machine, found without starting CUDA."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

DEVICES = Path("/dev")
"""Where a driver has a file for each GPU."""
_NUMBER = re.compile(r"\s*([+-]?[0-9]+)")


def visible_gpus(note: Callable[[str], None] = lambda text: None) -> list[str]:
    """Return GPUs as CUDA_VISIBLE_DEVICES names them, without initializing CUDA, which a fork could not share.

    A GPU that is cut into instances (MIG) is as many as it has instances.

    Args:
        note: told why none is listed where there may be one.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return _read(chosen)
    lister = shutil.which("nvidia-smi")
    if lister is None:
        if any(DEVICES.glob("nvidia[0-9]*")):
            note("there is no nvidia-smi, which lists GPUs; CUDA_VISIBLE_DEVICES=0 names one")
        return []
    try:
        listed = subprocess.run([lister, "-L"], capture_output=True, text=True, timeout=60, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError) as error:  # a driver without a working device
        said = error.stderr.strip() or error.stdout.strip() if isinstance(error, subprocess.CalledProcessError) else ""
        why = said.splitlines()[-1] if said else str(error)
        note(f"nvidia-smi -L failed: {why}; CUDA_VISIBLE_DEVICES=0 names a GPU without it")
        return []
    found: list[list[str]] = []
    for line in listed.stdout.splitlines():
        if line.startswith("GPU "):
            found.append([])
        elif found and (instance := re.fullmatch(r"\s+MIG .*\(UUID:\s*(MIG-[^)\s]+)\)\s*", line)):
            found[-1].append(instance[1])
    return [name for index, instances in enumerate(found) for name in instances or [str(index)]]


def variables_for(gpu: str | None) -> dict[str, str]:
    """Return the environment variables with which a process sees one GPU, or none."""
    if gpu is None:
        return {"CUDA_VISIBLE_DEVICES": ""}
    # Numbers are nvidia-smi's; those of a user mean what they meant.
    order = {} if "CUDA_VISIBLE_DEVICES" in os.environ else {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    return {**order, "CUDA_VISIBLE_DEVICES": gpu}


def _read(chosen: str) -> list[str]:
    """Return the GPUs of a user's CUDA_VISIBLE_DEVICES as torch reads it: up to the first name that is of another kind
    than the first (a number, ``GPU-…`` or ``MIG-…``) or none, and no GPU at all if one is named twice before that."""
    found: list[str] = []
    kind = chosen[:4] if chosen.startswith(("GPU-", "MIG-")) else ""
    for item in chosen.split(","):
        name = item
        if not kind:  # "1x" counts as 1
            number = _NUMBER.match(item)
            name = str(int(number[1])) if number else "-1"
        if name in found:
            return []
        if not name.startswith(kind or tuple("0123456789")):
            break
        found.append(name)
    return found
