"""Provenance: versions, machine and device that a job ran with."""

from __future__ import annotations

import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

import recbench
from recbench.plugin.manager import Plugins
from recbench.store.record import Provenance

_PACKAGES = ("torch", "torchvision", "numpy", "pytorch-msssim", "lpips", "pytorch-fid", "scikit-image", "pillow")


def now() -> str:
    """Return the time in UTC, to the second, in ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


_DISTRIBUTIONS = {"PIL": "pillow", "skimage": "scikit-image", "pytorch_msssim": "pytorch-msssim"}
"""Distributions whose modules have other names; those of others are searched for, which takes longer."""


def provenance(
    plugins: Plugins,
    *,
    device: str,
    threads: int,
    started: str,
    libraries: Iterable[str] = (),
    precision: str | None = None,
) -> Provenance:
    """Collect the provenance of this process.

    Args:
        device: of the job.
        threads: of the job.
        libraries: further top-level modules, or distributions, whose versions matter to the job.
        precision: that the network computes in.
    """
    names = {*_PACKAGES, *map(_distribution, libraries)}
    return Provenance(
        recbench=recbench.__version__,
        plugins={
            plugin.name: f"{plugin.distribution} {plugin.version}".strip()
            for plugin in plugins.found
            if plugin.status == "loaded"
        },
        packages={name: found for name in sorted(names) if (found := _version(name)) is not None},
        python=platform.python_version(),
        platform=platform.platform(),
        processor=_processor(),
        device=device,
        threads=threads,
        git=_git_commit(),
        started=started,
        finished=now(),
        precision=precision,
        **(_of_gpu() if device.startswith("cuda") and precision else {}),
    )


def _of_gpu() -> dict[str, str | None]:
    """Return what the numbers of a GPU depend on besides torch: the driver, and the CUDA and cuDNN that torch has."""
    import torch

    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return {"driver": _driver(), "cuda": torch.version.cuda, "cudnn": None if cudnn is None else str(cudnn)}


def _driver() -> str | None:
    """Return the version of NVIDIA's driver, as its kernel module says it."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"Kernel Module.*?\s(\d+(?:\.\d+)+)", text)
    return found[1] if found else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def _owners() -> Mapping[str, list[str]]:
    return packages_distributions()


def _distribution(module: str) -> str:
    """Return the name of the distribution of a top-level module, as far as it is known."""
    name = _DISTRIBUTIONS.get(module, module)
    return name if _version(name) is not None else next(iter(_owners().get(module, ())), name)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _git_commit() -> str | None:
    """Return the commit of recbench's checkout, with ``+changes`` if it is not clean; None outside of a checkout."""
    root = Path(recbench.__file__).parent.parent
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return commit + ("+changes" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    # Without optional locks: a job that is killed meanwhile would leave the repository locked.
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)  # noqa: S603
    return done.stdout.strip()
