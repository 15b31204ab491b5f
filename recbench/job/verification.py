"""Verification of a job: its record and files must be whole, and its stored model must reproduce its scores."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from recbench.data.cache import Prepared, prepare
from recbench.errors import UserError
from recbench.files import open_regular
from recbench.job.code import changed_code
from recbench.job.device import choose_device, device_name, precision_on
from recbench.job.evaluation import evaluate
from recbench.job.provenance import now, provenance
from recbench.job.runner import EVALUATION_BATCH, reference_of, shape_of
from recbench.job.stored_model import StoredModelError, load_model, training_of
from recbench.job.training import seed_everything
from recbench.plan.merge import flat
from recbench.plan.model import Frozen
from recbench.plugin.manager import Plugins
from recbench.plugin.registry import Registry
from recbench.store.artifacts import SCORES, ArtifactError, read_scores
from recbench.store.record import Number, Record
from recbench.store.store import Store

ELSEWHERE = 1e-3
"""Tolerance on another machine, device or version of a package, where sums are rounded differently."""


class ScoreCheck(Frozen):
    """One check of a job. The state ``"changed"`` is reported, but is not an error."""

    name: str
    state: Literal["fine", "changed", "wrong"]
    says: str


class Again(Frozen):
    """A metric that was computed again.

    Attributes:
        recorded, computed: means over the images; null in ``computed`` where there is none now.
        difference: computed − recorded, also in units of the larger of the recorded mean and spread (``relative``).
        largest: largest difference for a single image; null where these are not known.
    """

    metric: str
    recorded: Number
    computed: Number | None
    difference: Number | None
    relative: Number | None
    largest: Number | None
    verdict: Literal["identical", "within tolerance", "differs"]


class Verification(Frozen):
    """The result of verifying a job.

    Attributes:
        loss, seed: of the job; unknown where its record cannot be used.
        tolerance: relative difference that was allowed; 0 where every bit should be equal.
    """

    job_id: str
    loss: str = ""
    seed: int | None = None
    checks: tuple[ScoreCheck, ...]
    scores: tuple[Again, ...] = ()
    tolerance: float | None = None

    @property
    def verified(self) -> bool:
        """True if nothing is wrong and all scores are reproduced."""
        right = all(check.state != "wrong" for check in self.checks)
        return right and bool(self.scores) and all(score.verdict != "differs" for score in self.scores)


def verify(
    store: Store, job_id: str, registry: Registry, cache: Path, device: str = "", tolerance: float | None = None
) -> Verification:
    """Check a finished job's record and files, and evaluate its stored model again.

    Sets torch's number of threads to that of the job, since sums are rounded differently with another.

    Args:
        cache: folder of the image caches.
        device: as for ``recbench run``; empty: of the kind that the job ran on, if there is one here.
        tolerance: relative difference that is allowed; None: none where machine, device and packages are those of the
            job, and its algorithms are deterministic; ``ELSEWHERE`` otherwise.

    Raises:
        UserError: the job is not done, or its plugins, weights or images are not here.
    """
    try:
        record = store.read(job_id)
    except ValueError as error:
        return Verification(job_id=job_id, checks=(ScoreCheck(name="record", state="wrong", says=str(error)),))
    if record is None or record.status != "done" or record.data is None:
        raise UserError(f"job {job_id} has no scores: it is {record.status if record else 'not done'}")
    found = {"job_id": job_id, "loss": record.job.loss.name, "seed": record.job.seed}
    checks = [
        ScoreCheck(name="record", state="fine", says="whole"),
        _protocol(record),
        _files(store, record),
        _code(record, registry),
    ]
    prepared = _images(store, record, registry, cache)
    if prepared.fingerprint != record.data.fingerprint:
        says = f"not those of the job: fingerprint {prepared.fingerprint[:16]}, then {record.data.fingerprint[:16]}"
        return Verification(**found, checks=(*checks, ScoreCheck(name="images", state="wrong", says=says)))
    checks.append(
        ScoreCheck(name="images", state="fine", says=f"the same ({record.evaluated.n if record.evaluated else 0})")
    )
    where = choose_device(device or _kind(record))
    torch.set_num_threads(record.provenance.threads or torch.get_num_threads())
    changed = _environment(record, registry.plugins, where)
    exact = not changed and record.job.training.deterministic
    checks.append(_machine(changed))
    seed_everything(record.job.seed, deterministic=record.job.training.deterministic)
    try:
        model, metrics = load_model(store, record, registry, shape_of(prepared), where)
    except StoredModelError as error:
        return Verification(**found, checks=(*checks, ScoreCheck(name="model", state="wrong", says=str(error))))
    reference = reference_of(prepared, record.job.split, where, cache)
    evaluation = evaluate(model, metrics, reference, batch_size=EVALUATION_BATCH, config=training_of(record))
    allowed = tolerance if tolerance is not None else 0.0 if exact else ELSEWHERE
    computed = {name: score.mean for name, score in evaluation.scores.items()}
    images = evaluation.per_image
    return Verification(
        **found,
        checks=tuple(checks),
        scores=tuple(_again(store, record, computed, images, evaluation.kl, allowed)),
        tolerance=allowed,
    )


def _images(store: Store, record: Record, registry: Registry, cache: Path) -> Prepared:
    """Return the images of a job from where the suite has them now, or else from where the job had them."""
    with suppress(UserError):
        for setting in store.read_plan().settings:
            if setting.dataset.identity == record.job.dataset.identity:
                return prepare(setting.dataset, registry, cache)
    return prepare(record.job.dataset, registry, cache)


def _protocol(record: Record) -> ScoreCheck:
    assert record.data is not None, "the job is done"
    expected = record.job.protocol(record.data.fingerprint, record.schema_version)
    if record.protocol == expected:
        return ScoreCheck(name="protocol", state="fine", says=f"{expected} follows from the job and its images")
    return ScoreCheck(name="protocol", state="wrong", says=f"{record.protocol}, but {expected} follows from the job")


def _files(store: Store, record: Record) -> ScoreCheck:
    folder = store.folder(record.job_id)
    missing, wrong = [], []
    for name, described in record.files.items():
        try:
            with os.fdopen(open_regular(folder / name), "rb") as stream:
                fits = os.fstat(stream.fileno()).st_size == described.bytes  # or it may take for ever to read
                if not fits or hashlib.file_digest(stream, "sha256").hexdigest() != described.sha256:
                    wrong.append(name)
        except FileNotFoundError:
            missing.append(name)
        except OSError:
            wrong.append(name)
    if wrong:
        return ScoreCheck(name="files", state="wrong", says=f"{', '.join(wrong)}: not as recorded")
    says = f"{len(record.files) - len(missing)} of {len(record.files)} as recorded"
    if missing:
        return ScoreCheck(name="files", state="changed", says=f"{says}; not here: {', '.join(missing)}")
    return ScoreCheck(name="files", state="fine", says=says)


def _code(record: Record, registry: Registry) -> ScoreCheck:
    changed = changed_code(record.job, registry)
    if changed:
        return ScoreCheck(name="code", state="changed", says=f"has changed: {', '.join(changed)}")
    return ScoreCheck(name="code", state="fine", says="as it was")


def _kind(record: Record) -> str:
    return "cuda" if record.provenance.device.startswith("cuda") and torch.cuda.is_available() else "cpu"


def _environment(record: Record, plugins: Plugins, device: torch.device) -> list[str]:
    """Return how this process differs from the job's in what affects the rounding of sums."""
    here = provenance(
        plugins,
        device=device_name(device),
        precision=precision_on(training_of(record).precision, device),
        threads=torch.get_num_threads(),
        started=now(),
        libraries=record.provenance.packages,
    )
    counts = {"packages", "processor", "device", "threads", "precision", "driver", "cuda", "cudnn"}
    then, today = (flat(one.model_dump(include=counts)) for one in (record.provenance, here))
    return [
        f"{name.removeprefix('packages.')}: {then.get(name, 'none')}, now {today.get(name, 'none')}"
        for name in {**then, **today}
        if then.get(name) != today.get(name)
    ]


def _machine(changed: list[str]) -> ScoreCheck:
    if changed:
        return ScoreCheck(name="machine", state="changed", says="; ".join(changed))
    return ScoreCheck(name="machine", state="fine", says="processor, device, threads and packages as they were")


def _again(
    store: Store,
    record: Record,
    computed: Mapping[str, float],
    images: Mapping[str, NDArray[np.float64]],
    kl: float | None,
    tolerance: float,
) -> Iterator[Again]:
    recorded = _per_image(store, record)
    for name, score in record.scores.items():
        yield _compared(
            name, score.mean, score.std, computed.get(name), recorded.get(name), images.get(name), tolerance
        )
    then = record.evaluated.kl if record.evaluated is not None else None
    if then is not None and "kl" not in record.scores:
        # Older records say 0 of architectures without a divergence.
        today = 0.0 if kl is None else kl
        yield _compared("kl", then, None, today, recorded.get("kl"), images.get("kl"), tolerance)


def _compared(
    name: str,
    then: float,
    std: float | None,
    today: float | None,
    each_then: NDArray[np.float64] | None,
    each_today: NDArray[np.float64] | None,
    tolerance: float,
) -> Again:
    if today is None:
        return Again(
            metric=name, recorded=then, computed=None, difference=None, relative=None, largest=None, verdict="differs"
        )
    difference = 0.0 if today == then else today - then
    scale = max(abs(then), std or 0.0)
    relative = 0.0 if difference == 0 else abs(difference) / scale if scale > 0 else math.inf
    if math.isnan(relative):  # an infinite score, then or now
        relative = math.inf
    largest = None
    if each_then is not None and each_today is not None and each_then.shape == each_today.shape:
        unequal = each_then != each_today
        largest = float(np.abs(each_today[unequal] - each_then[unequal]).max()) if unequal.any() else 0.0
    identical = difference == 0 and largest in (None, 0.0)
    near = relative <= tolerance and tolerance > 0
    return Again(
        metric=name,
        recorded=then,
        computed=today,
        difference=difference,
        relative=relative,
        largest=largest,
        verdict="identical" if identical else "within tolerance" if near else "differs",
    )


def _per_image(store: Store, record: Record) -> dict[str, NDArray[np.float64]]:
    """Return the recorded scores per image; empty if the file is missing or has another checksum."""
    if SCORES not in record.files:
        return {}
    with suppress(ArtifactError):
        return read_scores(store.folder(record.job_id), files=record.files)
    return {}
