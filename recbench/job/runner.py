"""Runs one job, in whichever process an executor starts: create the plugins, train, evaluate, write the record."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from recbench.contracts.architecture import Fitted
from recbench.contracts.dataset import Split
from recbench.contracts.entries import ImageShape
from recbench.contracts.executor import JobProgress, Task
from recbench.contracts.metric import Reference
from recbench.data.cache import Prepared, prepare
from recbench.errors import OutOfSpaceError, RecbenchError
from recbench.files import lock
from recbench.job.accidents import name_full_disk, reason_of
from recbench.job.code import check_code, libraries
from recbench.job.device import choose_device, device_name, peak_memory, precision_on
from recbench.job.evaluation import Evaluation, NotFinite, evaluate
from recbench.job.fitting import fit, fitting_cost
from recbench.job.guard import Diverged
from recbench.job.health import job_symptoms
from recbench.job.observers import Observers
from recbench.job.parts import MetricSpec, Model, build
from recbench.job.provenance import now, provenance
from recbench.job.scoring import adopt, is_scorable, rescored, score, stale
from recbench.job.stored_model import StoredModelError, load_model, training_of
from recbench.job.training import Interrupted, TrainingImages, Watch, seed_everything, train
from recbench.plan.model import EvaluationSplit, Job
from recbench.plugin.manager import Plugins, load_plugins
from recbench.plugin.registry import Registry
from recbench.plugin.sources import record_imports
from recbench.store import artifacts, heartbeat
from recbench.store.artifacts import EPOCHS, HISTORY, IMAGES, MODEL, SCORES, TRACES
from recbench.store.attempt import CHECKPOINT, WARNINGS, AttemptFolder, SupersededError, discard, finish, warn
from recbench.store.record import Cost, Data, Evaluated, Failure, JobStatus, Provenance, Record, Trained
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
    if task.calibrates:
        from recbench.job.calibration import calibrate  # which measures with the parts of jobs

        return calibrate(task, progress, stop)
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
            before = store.read(task.job_id)
            if before is not None and before.files:
                finish(folder, before)
            work = AttemptFolder.begin(folder)
            if _settled(store, task):  # by the attempt that this one took over from
                return "recorded"
            work.clear()
            (folder / WARNINGS).unlink(missing_ok=True)
            plugins = load_plugins(task.plugin_files, task.blocked)
            return _run(_Attempt(job, suite, task, plugins, work, before), progress, stop)
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
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything; it goes into the record
            work.check()
            name_full_disk(error, folder)
            if attempt.is_done:
                traceback.print_exc()
                warn(folder, f"its stored model was not scored: {type(error).__name__}: {error}")
                record = None
            else:
                record = _failed(attempt, error)
        if record is not None:
            attempt.publish(record)
        discard(work.path)
        discard(folder / CHECKPOINT)
        if record is not None:
            attempt.observers.notify("recbench_job_ended", job_id=job.id, record=record.model_dump(mode="json"))
        return "recorded"


def _failed(attempt: _Attempt, error: Exception) -> Record:
    """Return the record of a job that raised an error."""
    if isinstance(error, Diverged):
        failure = Failure(type="Diverged", reason="diverged", message=str(error), epoch=error.epoch, step=error.step)
        return attempt.record("diverged", failure=failure)
    metric = error.metric if isinstance(error, RecbenchError) else ""
    if isinstance(error, NotFinite):
        failure = Failure(type="NotFinite", reason="diverged", message=str(error), metric=metric)
        return attempt.record("diverged", failure=failure, **attempt.kept)
    failure = Failure(
        type=type(error).__name__,
        reason=reason_of(error),
        message=str(error),
        traceback="".join(traceback.format_exception(error)),
        metric=metric,
    )
    return attempt.record("failed", failure=failure, **attempt.kept)


class _Attempt:
    """One attempt at a job; collects facts on the way, for the record of a failure too."""

    def __init__(
        self, job: Job, suite: str, task: Task, plugins: Plugins, work: AttemptFolder, before: Record | None
    ) -> None:
        self.job = job
        self.suite = suite
        self.task = task
        self.folder = Path(task.folder)
        self.store = Store(self.folder.parent.parent)
        self.work = work
        self.before = before
        self.plugins = plugins
        self.observers = Observers(plugins, task, suite)
        self.started = now()
        self.device = choose_device(task.device)
        self.prepared: Prepared | None = None
        self.libraries: set[str] = set()
        self.training = job.training
        """As it is made, or was made: in the precision that ``auto`` stands for, once that is known."""
        self.kept: dict[str, Any] = {}
        """What the record of a failure says of training, once that is done."""

    @property
    def is_done(self) -> bool:
        """True if the job has a record with scores, which stays unless there are more."""
        return self.before is not None and self.before.status == "done"

    def publish(self, record: Record) -> None:
        ran = (record.rescored[-1] if self.is_done else record).provenance.device  # trained it may be elsewhere
        given = self.task.device.partition(":")[0]
        if given != "auto" and not ran.startswith(given):
            raise RecbenchError(f"the job was given {self.task.device}, and ran on {ran}")
        if self.is_done:
            self.work.replace(record)
        else:
            aside: set[JobStatus] = {"failed"} if self.before is None else {"failed", self.before.status}
            self.work.publish(self.store, record, aside)

    def run(self, progress: Callable[[JobProgress], None], stop: Callable[[], bool]) -> Record | None:
        """Return the record; None if the one that there is stays."""
        self.libraries = libraries(self.job, check_code(self.job, self.plugins))
        try:
            return self.done(progress, stop)
        except (Diverged, NotFinite):
            check_code(self.job, self.plugins)  # no record, of whatever status, is of other code
            raise

    def done(self, progress: Callable[[JobProgress], None], stop: Callable[[], bool]) -> Record | None:
        registry = Registry(self.plugins)
        self.prepared = prepared = prepare(self.job.dataset, registry, Path(self.task.cache))
        if prepared.replaced:
            warn(self.folder, prepared.replaced)
        seed_everything(self.job.seed, deterministic=self.job.training.deterministic)
        if self.before is not None and is_scorable(self.before, prepared.fingerprint):
            try:
                return self.scored(self.before, registry, prepared)
            except StoredModelError as error:
                if self.is_done:
                    raise
                warn(self.folder, f"{error}; it is trained again")
        elif self.is_done:
            raise StoredModelError("it has no model that was trained on these images")
        adopted = adopt(self.store, self.job, registry, prepared, self.device, self.work.path)
        if adopted is not None:
            model, built, self.kept, self.training = adopted
            return self.evaluated(model, built, prepared, {})
        return self.trained(registry, prepared, progress, stop)

    def scored(self, before: Record, registry: Registry, prepared: Prepared) -> Record | None:
        """Score the stored model, which trains nothing."""
        wanted = stale(before, self.job.metrics) if self.is_done else self.job.metrics
        model, built = load_model(self.store, before, registry, shape_of(prepared), self.device, wanted)
        self.training = training_of(before)
        check_code(self.job, self.plugins)
        if not self.is_done:
            self.kept = {name: getattr(before, name) for name in ("trained", "cost", "files")}
            return self.evaluated(model, built, prepared, artifacts.kept_traces(self.folder, before.files))
        new = score(wanted, built, lambda metrics: self.evaluate(model, metrics, prepared))
        for trouble in new.troubles:
            warn(self.folder, trouble)
        check_code(self.job, self.plugins)
        self.work.check()
        if not new.metrics:
            return None
        return rescored(before, new, self.folder, self.work.path, self.provenance())

    def trained(
        self, registry: Registry, prepared: Prepared, progress: Callable[[JobProgress], None], stop: Callable[[], bool]
    ) -> Record:
        job, config = self.job, self.job.training
        seed_everything(job.seed, deterministic=config.deterministic)  # again: the model may have been loaded in vain
        model, metrics = build(job, registry, shape_of(prepared), self.device)
        check_code(job, self.plugins)  # before a checkpoint is written

        if isinstance(model.architecture, Fitted):
            result = fit(model, on_device(prepared, "train", self.device), self.work.path)
            return self.kept_model(model, metrics, prepared, result, fitting_cost(result, peak_memory(self.device)), {})

        def tell(epoch: int, loss: float, images_per_second: float, seconds_left: float) -> None:
            done = max(1 - seconds_left * images_per_second / (config.epochs * prepared.counts["train"]), 0.0)
            progress(JobProgress(job.id, epoch, config.epochs, loss, images_per_second, seconds_left, done))

        def epoch_ended(values: Mapping[str, float]) -> None:
            epoch = int(values["epoch"])
            self.observers.notify("recbench_epoch_ended", job_id=job.id, epoch=epoch, values=values)

        def begins(precision: str) -> None:
            self.training = config.model_copy(update={"precision": precision})

        watch = Watch(tell, epoch_ended, stop, self.task.checkpoint_seconds, begins)
        data = TrainingImages(
            train=on_device(prepared, "train", self.device),
            validation=on_device(prepared, "validation", self.device),
            traced=on_device(prepared, job.split, self.device, TRACED_IMAGES),
        )
        origin = f"{job.id} {prepared.fingerprint}"
        position, traces = train(model, data, config, job.seed, self.folder, watch, self.work.path, origin)
        peak = peak_memory(self.device, data.bytes_on(self.device))
        del data  # the images of evaluation take its place
        batch_size = min(config.batch_size, prepared.counts["train"])
        speed = round(position.step * batch_size / position.seconds, 2)
        trained = Trained(
            epochs=config.epochs,
            steps=position.step,
            parameters=_count(model.architecture),
            loss_parameters=_count(model.loss),
            seconds=round(position.seconds, 3),
            images_per_second=speed,
            final=artifacts.read_history(self.work.path)[-1],
        )
        cost = Cost(
            images_per_second=speed,
            step_milliseconds=round(1000 * position.step_seconds, 3),
            peak_memory_bytes=peak,
            parameters=trained.parameters,
        )
        return self.kept_model(model, metrics, prepared, trained, cost, traces)

    def kept_model(
        self,
        model: Model,
        metrics: Mapping[str, MetricSpec],
        prepared: Prepared,
        trained: Trained,
        cost: Cost,
        traces: dict[str, torch.Tensor],
    ) -> Record:
        """Write the model that was made, and return the record of its scores."""
        self.work.check()
        artifacts.write_model(self.work.path, {"architecture": model.architecture, "loss": model.loss})
        if traces:
            artifacts.write_traces(self.work.path, traces)
        names = [name for name in (HISTORY, MODEL, TRACES, EPOCHS) if (self.work.path / name).exists()]
        self.kept = {"trained": trained, "cost": cost, "files": artifacts.describe(self.work.path, names)}
        return self.evaluated(model, metrics, prepared, traces)

    def evaluated(
        self, model: Model, metrics: Mapping[str, MetricSpec], prepared: Prepared, traces: Mapping[str, torch.Tensor]
    ) -> Record:
        """Score the trained model by all metrics; return the record, after writing the files that it describes."""
        start = time.perf_counter()
        evaluation = self.evaluate(model, metrics, prepared)
        seconds = time.perf_counter() - start
        check_code(self.job, self.plugins)
        self.work.check()
        names = [SCORES, IMAGES]
        artifacts.write_scores(self.work.path, evaluation.per_image)
        artifacts.write_images(self.work.path, evaluation.pictures)
        if evaluation.traces:
            artifacts.write_traces(self.work.path, {**traces, **evaluation.traces})
            names.append(TRACES)
        files = {**self.kept["files"], **artifacts.describe(self.work.path, names)}
        return self.record(
            "done",
            scores=evaluation.scores,
            without=tuple(label for label in self.job.metrics if label not in evaluation.scores),
            reasons=evaluation.reasons,
            evaluated=Evaluated(n=prepared.counts[self.job.split], kl=evaluation.kl, seconds=round(seconds, 3)),
            health=job_symptoms((self.work.path, self.folder), self.kept["files"], evaluation, traces),
            **{**self.kept, "files": files},
        )

    def evaluate(self, model: Model, metrics: Mapping[str, MetricSpec], prepared: Prepared) -> Evaluation:
        reference = reference_of(prepared, self.job.split, self.device, Path(self.task.cache))
        return evaluate(model, metrics, reference, batch_size=EVALUATION_BATCH, config=self.training)

    def record(self, status: JobStatus, **known: Any) -> Record:
        data = self.prepared and Data(fingerprint=self.prepared.fingerprint, **self.prepared.counts)
        return Record(
            job_id=self.job.id,
            suite=self.suite,
            status=status,
            job=self.job,
            protocol=self.job.protocol(self.prepared.fingerprint) if self.prepared else None,
            data=data,
            provenance=self.provenance(),
            **known,
        )

    def provenance(self) -> Provenance:
        return provenance(
            self.plugins,
            device=device_name(self.device),
            precision=precision_on(self.training.precision, self.device),
            threads=torch.get_num_threads(),
            started=self.started,
            libraries=self.libraries,
        )


def shape_of(prepared: Prepared) -> ImageShape:
    """Return the shape of the images in a cache."""
    _, channels, height, width = prepared.load("train").shape
    return ImageShape(channels, height, width)


def reference_of(prepared: Prepared, split: EvaluationSplit, device: torch.device, cache: Path) -> Reference:
    """Return the images of a split as metrics of whole sets get them."""
    return Reference(
        images=on_device(prepared, split, device),
        fingerprint=f"{prepared.fingerprint} {split}",
        cache=cache / "references",
        device=device,
        split=split,
        train=torch.from_numpy(prepared.load("train")),
    )


def on_device(prepared: Prepared, split: Split, device: torch.device, count: int | None = None) -> torch.Tensor:
    """Return the images of a split, or its first few, as a uint8 tensor: on the device if they fit into half of its
    free memory, else memory-mapped on the CPU."""
    images = torch.from_numpy(prepared.load(split)[:count])  # before it is moved: a slice keeps all memory
    if device.type == "cuda" and images.nbytes < torch.cuda.mem_get_info(device)[0] / 2:
        return images.to(device)
    return images


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
