"""``recbench logs``: the log of a job."""

from __future__ import annotations

import codecs
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import click

from recbench.cli.completion import complete_jobs
from recbench.cli.options import results_option
from recbench.cli.stored import chosen_job
from recbench.cli.terminal import err
from recbench.cli.text import echo
from recbench.errors import UserError
from recbench.files import holder
from recbench.store import heartbeat
from recbench.store.artifacts import ArtifactError, read_history
from recbench.store.store import Store

_POLL = 0.3
_CHUNK = 1 << 16


@click.command("logs")
@click.argument("job", shell_complete=complete_jobs)
@results_option
@click.option("--follow", is_flag=True, help="Keep printing new output until the job ends.")
def logs_command(job: str, results: Path, follow: bool) -> None:
    """Print the log of JOB, given by its id or the beginning of its id; if it failed, the reason goes to stderr.

    Of a job that is done and has printed nothing, its epochs are shown.
    """
    folder = _folder(job, results)
    if not follow and _has_printed_nothing(folder) and _tell_epochs(folder):
        return
    with _log(folder, follow).open("rb") as stream:
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        for chunk in _chunks(folder, follow, stream):
            if sys.stdout.isatty():
                echo(decoder.decode(chunk), nl=False)
            else:  # a file or a program gets every byte
                click.echo(chunk, nl=False)
    try:
        record = Store(folder.parent.parent).read(folder.name)
    except ValueError as error:
        err.print(f"its record cannot be used: {error}", soft_wrap=True)
        return
    if record is None:
        err.print(
            "the job is running" if holder(folder) is not None or heartbeat.at_work(folder) else "the job has no record"
        )
    elif record.failure is not None:
        failure = record.failure
        story = failure.traceback.rstrip() if failure.reason == "exception" else ""
        text = f"{record.status}: {failure.type}: {failure.message}"
        err.print("\n".join(filter(None, [story, text])), soft_wrap=True)


def _has_printed_nothing(folder: Path) -> bool:
    try:
        return (folder / "log.txt").stat().st_size == 0
    except FileNotFoundError:
        return True


def _tell_epochs(folder: Path) -> bool:
    """Print the epochs and the scores of a job; return False if it is not done, or its history is not there."""
    try:
        record = Store(folder.parent.parent).read(folder.name)
        if record is None or record.status != "done":
            return False
        epochs = read_history(folder, record.files)
    except (ArtifactError, ValueError, OSError):
        return False
    validation = ("validation", "validation_psnr", "validation_ssim")
    always = ("objective", "reconstruction", "kl", "penalty", *validation, "learning_rate", "images_per_second")
    for epoch in epochs:
        shown = [*always, *(name for name in epoch if name not in (*always, "epoch", "step", "auxiliary"))]
        values = "  ".join(f"{name} {epoch[name]:.5g}" for name in shown if epoch.get(name) is not None)
        echo(f"epoch {epoch['epoch']:g}/{record.job.training.epochs}  {values}")
    echo("done: " + "  ".join(f"{name} {score.mean:.5g}" for name, score in record.scores.items()))
    return True


def _folder(job: str, results: Path) -> Path:
    folders: dict[str, list[Path]] = {}
    for folder in sorted(results.glob("*/jobs/*/")):
        folders.setdefault(folder.name, []).append(folder)
    job_id = chosen_job(job, list(folders))
    if len(folders[job_id]) > 1:  # suites can share a job; show the folder that was modified last
        folders[job_id].sort(key=lambda folder: folder.stat().st_mtime)
        suites = ", ".join(folder.parent.parent.name for folder in folders[job_id])
        err.print(f"job {job_id} is in the suites {suites}; showing the last one", soft_wrap=True)
    return folders[job_id][-1]


def _log(folder: Path, follow: bool) -> Path:
    file = folder / "log.txt"
    while follow and not file.exists():  # the job is still waiting
        time.sleep(_POLL)
    if not file.is_file():
        raise UserError(f"job {folder.name} does not have a log yet; --follow waits for it")
    return file


def _chunks(folder: Path, follow: bool, stream: BinaryIO) -> Iterator[bytes]:
    """Yield the log, and with ``follow`` what is appended to it for as long as the job is running."""
    while True:
        working = follow and (holder(folder) is not None or heartbeat.at_work(folder) is not None)
        while chunk := stream.read(_CHUNK):
            yield chunk
        if not working:
            return
        time.sleep(_POLL)
