"""How long the command line takes to answer: whole processes, from the call to the exit.

    python benchmarks/startup.py

Goals: ``--help`` and ``list losses`` under 0.5 s, a second ``run`` of a finished suite under 3 s, none with torch.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SUITE = """\
name: startup
datasets: [{name: photos, params: {size: 16, train: 64, validation: 8, test: 16}}]
architectures: [{name: vae_bredell, params: {widths: [4, 8], latent_size: 4, hidden: 8}}]
losses: [l2, l1, ce, ssim, wiener]
seeds: [0, 1]
training: {epochs: 1}
metrics: [psnr, ssim, mse, l1]
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--suite", type=Path, help="the suite to run twice; by default a tiny one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        suite = folder / "startup.yaml"
        suite.write_text(arguments.suite.read_text() if arguments.suite else SUITE)
        again = ["run", str(suite), "--results", str(folder / "results"), "--cache", str(folder / "cache")]
        start = time.perf_counter()
        call(again)
        print(f"(first run: {time.perf_counter() - start:.1f} s)")
        commands = {
            "--help": ["--help"],
            "list losses": ["list", "losses"],
            "show loss wiener": ["show", "loss", "wiener"],
            "validate": ["validate", str(suite)],
            "run --dry-run": [*again, "--dry-run"],
            "run, all done": again,
            "leaderboard": ["leaderboard", "--results", str(folder / "results")],
        }
        for name, command in commands.items():
            torch = "imports torch" if imports_torch(command) else "no torch"
            seconds = [timed(command) for _ in range(arguments.repeats)]
            spread = f"({min(seconds):.2f} to {max(seconds):.2f})"
            print(f"{name:<18} median {statistics.median(seconds):.2f} s {spread}, {torch}")


def call(arguments: list[str], *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *options, "-m", "recbench", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True)


def timed(arguments: list[str]) -> float:
    start = time.perf_counter()
    call(arguments)
    return time.perf_counter() - start


def imports_torch(arguments: list[str]) -> bool:
    return "| torch\n" in call(arguments, "-X", "importtime").stderr


if __name__ == "__main__":
    main()
