"""Runs one job, in whichever process an executor starts: create the plugins, train, evaluate, write the record."""

from __future__ import annotations

import resource
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from recbench.contracts.dataset import Split
from recbench.contracts.entries import ImageShape
from recbench.contracts.executor import JobProgress, Reason, Task
from recbench.contracts.metric import Reference
from recbench.data.cache import Prepared, prepare
from recbench.errors import OutOfSpaceError, RecbenchError
from recbench.files import FULL, full_disk_named, lock
from recbench.job.code import check_code, libraries
from recbench.job.evaluation import Evaluation, NotFinite, evaluate
from recbench.job.observers import Observers
from recbench.job.parts import Model, build
from recbench.job.provenance import now, provenance
from recbench.job.training import Diverged, Interrupted, TrainingImages, Watch, seed_everything, train
from recbench.plan.model import Job
from recbench.plugin.manager import Plugins, load_plugins
from recbench.plugin.registry import Registry
from recbench.plugin.sources import record_imports
from recbench.store import artifacts, heartbeat
from recbench.store.attempt import CHECKPOINT, WARNINGS, AttemptFolder, SupersededError, discard, finish, warn
from recbench.store.record import Cost, Data, Evaluated, Failure, File, Record, Trained
from recbench.store.store import Store

Outcome = Literal["recorded", "interrupted", "busy"]
EVALUATION_BATCH = 128
TRACED_IMAGES = 4
"""As many as figure 2 of Bredell et al. shows."""


def run_task(task: Task, progress: Callable[[JobProgress], None], stop: Callable[[], bool]) -> Outcome:
    """Run one job to its record.

    Whatever goes wrong in the job ends up in its record as ``failed`` or ``diverged``. Safe to call for a job that is
    done or running elsewhere.

    Args:
        progress: told a few times a second.
        stop: asked after every step; when it says True, a checkpoint is written and ``"interrupted"`` returned.

    Raises:
        OutOfSpaceError: no room for the job's files.
    """
    folder = Path(task.folder)
    store = Store(folder.parent.parent)
    with lock(folder) as mine:
        if not mine:
            return "busy"
        if _settled(store, task):
            return "recorded"
        if heartbeat.elsewhere(folder):
            return "busy"
        job, suite = store.read_task(task.job_id)
        record_imports()
        try:
            work = AttemptFolder.begin(folder)
            if _settled(store, task):  # by the attempt that this one took over from
                return "recorded"
            work.clear()
            (folder / WARNINGS).unlink(missing_ok=True)
            return _run(_Attempt(job, suite, task, load_plugins(task.plugin_files, task.blocked), work), progress, stop)
        except SupersededError:
            return "recorded" if store.settled(task.job_id, task.supersedes) else "busy"


def _settled(store: Store, task: Task) -> bool:
    """Return whether the job has a final record; if it is done, all its files are brought to their places."""
    if not store.settled(task.job_id, task.supersedes):
        return False
    record = store.read(task.job_id)
    if record is not None and record.status != "failed":
        finish(Path(task.folder), record)
    return True


def _run(attempt: _Attempt, progress: Callable[[JobProgress], None], stop: Callable[[], bool]) -> Outcome:
    folder, job, work = attempt.folder, attempt.job, attempt.work
    beats = heartbeat.announced(folder, device_name(attempt.device), attempt.started, work.path)
    with attempt.observers, beats as announce:

        def tell(news: JobProgress) -> None:
            announce(news)
            progress(news)

        attempt.observers.notify("recbench_job_started", job=job.model_dump(mode="json"), job_id=job.id)
        try:
            record = attempt.run(tell, stop)
        except Interrupted:
            return "interrupted"
        except (OutOfSpaceError, SupersededError, KeyboardInterrupt):
            raise
        except Diverged as error:
            failure = Failure(
                type="Diverged", reason="diverged", message=str(error), epoch=error.epoch, step=error.step
            )
            record = attempt.record("diverged", failure=failure)
        except NotFinite as error:
            failure = Failure(type="NotFinite", reason="diverged", message=str(error))
            record = attempt.record("diverged", failure=failure)
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything; it goes into the record
            work.check()
            _name_full_disk(error, folder)
            failure = Failure(
                type=type(error).__name__,
                reason=reason_of(error),
                message=str(error),
                traceback=traceback.format_exc(),
            )
            record = attempt.record("failed", failure=failure)
        work.publish(Store(folder.parent.parent), record)
        discard(folder / CHECKPOINT)
        attempt.observers.notify("recbench_job_ended", job_id=job.id, record=record.model_dump(mode="json"))
        return "recorded"


def _name_full_disk(error: BaseException, folder: Path) -> None:
    """Raise an OutOfSpaceError if an error comes from a disk without room: that is no fault of the job."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in FULL:
            with full_disk_named(Path(seen.filename).parent if isinstance(seen.filename, str) else folder):
                raise seen
        seen = seen.__cause__ or seen.__context__


def reason_of(error: BaseException) -> Reason:
    """Return the reason for a job that raised this error: out of memory has many spellings, some in a cause."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MemoryError | torch.OutOfMemoryError) or any(word in str(seen) for word in _NO_MEMORY):
            return "out of memory"
        seen = seen.__cause__ or seen.__context__
    return "exception"


_NO_MEMORY = ("DefaultCPUAllocator: ", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


class _Attempt:
    """One attempt at a job; collects facts on the way, for the record of a failure too."""

    def __init__(self, job: Job, suite: str, task: Task, plugins: Plugins, work: AttemptFolder) -> None:
        self.job = job
        self.suite = suite
        self.task = task
        self.folder = Path(task.folder)
        self.work = work
        self.plugins = plugins
        self.observers = Observers(plugins, task, suite)
        self.started = now()
        self.device = choose_device(task.device)
        self.prepared: Prepared | None = None
        self.libraries: set[str] = set()

    def run(self, progress: Callable[[JobProgress], None], stop: Callable[[], bool]) -> Record:
        self.libraries = libraries(self.job, check_code(self.job, self.plugins))
        try:
            return self.done(progress, stop)
        except (Diverged, NotFinite):
            check_code(self.job, self.plugins)  # no record, of whatever status, is of other code
            raise

    def done(self, progress: Callable[[JobProgress], None], stop: Callable[[], bool]) -> Record:
        job, config = self.job, self.job.training
        registry = Registry(self.plugins)
        self.prepared = prepared = prepare(job.dataset, registry, Path(self.task.cache))
        if prepared.replaced:
            warn(self.folder, prepared.replaced)
        seed_everything(job.seed, deterministic=config.deterministic)
        model, metrics = build(job, registry, shape_of(prepared), self.device)
        check_code(job, self.plugins)  # before a checkpoint is written

        def tell(epoch: int, loss: float, images_per_second: float, seconds_left: float) -> None:
            progress(JobProgress(job.id, epoch, config.epochs, loss, images_per_second, seconds_left))

        def epoch_ended(values: Mapping[str, float]) -> None:
            epoch = int(values["epoch"])
            self.observers.notify("recbench_epoch_ended", job_id=job.id, epoch=epoch, values=values)

        watch = Watch(tell, epoch_ended, stop, self.task.checkpoint_seconds)
        data = TrainingImages(
            train=on_device(prepared, "train", self.device),
            validation=on_device(prepared, "validation", self.device),
            traced=on_device(prepared, job.split, self.device)[:TRACED_IMAGES],
        )
        origin = f"{job.id} {prepared.fingerprint}"
        position, traces = train(model, data, config, job.seed, self.folder, watch, self.work.path, origin)
        peak = peak_memory(self.device)

        start = time.perf_counter()
        reference = Reference(
            images=on_device(prepared, job.split, self.device),
            fingerprint=f"{prepared.fingerprint} {job.split}",
            cache=Path(self.task.cache) / "references",
            device=self.device,
        )
        evaluation = evaluate(model, metrics, reference, batch_size=EVALUATION_BATCH, config=config)
        seconds = time.perf_counter() - start
        batch_size = min(config.batch_size, prepared.counts["train"])
        final = artifacts.read_history(self.work.path)[-1]
        check_code(job, self.plugins)
        return self.record(
            "done",
            scores=evaluation.scores,
            without=tuple(label for label in job.metrics if label not in evaluation.scores),
            trained=Trained(
                epochs=config.epochs,
                steps=position.step,
                parameters=_count(model.architecture),
                loss_parameters=_count(model.loss),
                seconds=round(position.seconds, 3),
                images_per_second=round(position.step * batch_size / position.seconds, 2),
                final=final,
            ),
            cost=Cost(
                images_per_second=round(position.step * batch_size / position.seconds, 2),
                step_milliseconds=round(1000 * position.seconds / position.step, 3),
                peak_memory_bytes=peak,
                parameters=_count(model.architecture),
            ),
            evaluated=Evaluated(n=prepared.counts[job.split], kl=evaluation.kl, seconds=round(seconds, 3)),
            files=self.write_files(model, evaluation, {**traces, **evaluation.traces}),
        )

    def record(self, status: Literal["done", "failed", "diverged"], **known: Any) -> Record:
        data = self.prepared and Data(fingerprint=self.prepared.fingerprint, **self.prepared.counts)
        return Record(
            job_id=self.job.id,
            suite=self.suite,
            status=status,
            job=self.job,
            protocol=self.job.protocol(self.prepared.fingerprint) if self.prepared else None,
            data=data,
            provenance=provenance(
                self.plugins,
                device=device_name(self.device),
                threads=torch.get_num_threads(),
                started=self.started,
                libraries=self.libraries,
            ),
            **known,
        )

    def write_files(self, model: Model, evaluation: Evaluation, traces: Mapping[str, torch.Tensor]) -> dict[str, File]:
        """Write all artifacts, each atomically; return their sizes and checksums."""
        self.work.check()
        work = self.work.path
        if traces:
            artifacts.write_traces(work, traces)
        artifacts.write_scores(work, evaluation.per_image)
        artifacts.write_images(work, evaluation.pictures)
        artifacts.write_model(work, {"architecture": model.architecture, "loss": model.loss})
        return artifacts.describe(work, artifacts.ALL if traces else artifacts.ALWAYS)


def shape_of(prepared: Prepared) -> ImageShape:
    """Return the shape of the images in a cache."""
    _, channels, height, width = prepared.load("train").shape
    return ImageShape(channels, height, width)


def on_device(prepared: Prepared, split: Split, device: torch.device) -> torch.Tensor:
    """Return the images of a split as a uint8 tensor: on the device if they fit into half of its free memory, else
    memory-mapped on the CPU."""
    images = torch.from_numpy(prepared.load(split))
    if device.type == "cuda" and images.nbytes < torch.cuda.mem_get_info(device)[0] / 2:
        return images.to(device)
    return images


def choose_device(wanted: str) -> torch.device:
    """Return the torch device for ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        RecbenchError: it asks for a GPU that is not there.
    """
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(wanted)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise RecbenchError(f"device {wanted} does not exist: torch sees {torch.cuda.device_count()} GPUs")
    return device


def peak_memory(device: torch.device) -> int:
    """Return the peak memory in bytes: torch's on the GPU, or this process's on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def device_name(device: torch.device) -> str:
    """Return ``cpu``, or a GPU's index and model."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
