"""The GPUs of this machine, found without starting CUDA."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from itertools import takewhile

_NAMES_A_GPU = re.compile(r"[0-9]+|(GPU|MIG)-\S+")


def visible_gpus() -> list[str]:
    """Return GPUs as CUDA_VISIBLE_DEVICES names them, without initializing CUDA, which a fork could not share.

    A GPU that is cut into instances (MIG) is as many as it has instances.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:  # CUDA reads as far as the first name that is none
        return list(takewhile(_NAMES_A_GPU.fullmatch, (name.strip() for name in chosen.split(","))))
    lister = shutil.which("nvidia-smi")
    if lister is None:
        return []
    try:
        listed = subprocess.run([lister, "-L"], capture_output=True, text=True, timeout=60, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):  # a driver without a working device
        return []
    found: list[list[str]] = []
    for line in listed.stdout.splitlines():
        if line.startswith("GPU "):
            found.append([])
        elif found and (instance := re.fullmatch(r"\s+MIG .*\(UUID:\s*(MIG-[^)\s]+)\)\s*", line)):
            found[-1].append(instance[1])
    return [name for index, instances in enumerate(found) for name in instances or [str(index)]]
