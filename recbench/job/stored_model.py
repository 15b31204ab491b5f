"""Stored models: from a job's record and ``model.safetensors`` back to the network (and loss) that was trained.

Nothing is unpickled, and a file whose checksum is not that of the record is never loaded.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from recbench.contracts.architecture import Architecture
from recbench.contracts.entries import ArchitectureEntry, ImageShape, Range
from recbench.errors import RecbenchError
from recbench.files import read_regular
from recbench.job.parts import MetricSpec, Model, build, create_architecture
from recbench.plan.model import ComponentSpec, Training
from recbench.plugin.registry import Registry
from recbench.store.artifacts import MODEL, ArtifactError, read_model
from recbench.store.record import File, Record
from recbench.store.store import Store

_BYTES_EACH = 8
"""The most bytes that a parameter takes."""
_BYTES_BUFFERS = 1 << 30
"""The most bytes of buffers and names."""


class StoredModelError(RecbenchError):
    """A stored model cannot be used; the text says why."""


def load_model(
    store: Store,
    record: Record,
    registry: Registry,
    shape: ImageShape,
    device: torch.device,
    metrics: Mapping[str, ComponentSpec] | None = None,
) -> tuple[Model, dict[str, MetricSpec]]:
    """Load the network and the loss of a job as they were after training, in evaluation mode, and metrics.

    Args:
        shape: of the data set's images.
        metrics: by label; None for those of the record.

    Raises:
        StoredModelError: the file is missing, damaged or of another network; or the job has left none.
        RecbenchError: an entry is not installed, or pretrained weights that it needs are missing.
    """
    state = _state(store, record)
    job = record.job if metrics is None else record.job.model_copy(update={"metrics": dict(metrics)})
    model, built = build(job, registry, shape, device)
    _fill(model.architecture, state, "architecture")
    _fill(model.loss, state, "loss")
    return model, built


def load_architecture(
    store: Store, record: Record, registry: Registry, shape: ImageShape, device: torch.device
) -> tuple[Architecture, Range]:
    """Load the network alone, in evaluation mode, and the value range of its images. Needs neither the loss's plugin
    nor its pretrained weights.

    Raises:
        StoredModelError: as of :func:`load_model`.
        RecbenchError: the architecture is not installed.
    """
    state = _state(store, record)
    registered = registry.get("architectures", record.job.architecture.name)
    architecture = create_architecture(registered, record.job.architecture.params, shape)
    _fill(architecture, state, "architecture")
    architecture = architecture.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return architecture, cast(ArchitectureEntry, registered.entry).value_range


def training_of(record: Record) -> Training:
    """Return the training of a stored model in the precision that it had: where its suite says ``auto``, that which
    was chosen then, since this machine may choose another."""
    training, chosen = record.job.training, record.provenance.precision
    if training.precision != "auto" or chosen is None:  # as in older records
        return training
    return training.model_copy(update={"precision": chosen})


def _state(store: Store, record: Record) -> dict[str, Tensor]:
    if MODEL not in record.files:
        raise StoredModelError(f"job {record.job_id} left no model: it is {record.status}")
    expected, path = record.files[MODEL], store.folder(record.job_id) / MODEL
    trained = record.trained.parameters + record.trained.loss_parameters if record.trained is not None else 0
    if expected.bytes > _BYTES_EACH * trained + _BYTES_BUFFERS:
        raise StoredModelError(f"{path} has {expected.bytes:,} bytes, too many for {trained:,} parameters")
    try:
        content = read_regular(path, expected.bytes)
    except OSError as error:
        if error.errno == errno.EFBIG:
            content = b""  # it cannot be the file, so it need not be read
        else:
            raise StoredModelError(f"{path} cannot be read: {error.strerror}") from None
    except MemoryError:
        raise StoredModelError(f"{path} cannot be read: its {expected.bytes:,} bytes do not fit into memory") from None
    if File.of(content) != expected:
        raise StoredModelError(f"{path} is not the file that the record describes: its SHA-256 differs")
    try:
        return read_model(content)
    except ArtifactError as error:
        raise StoredModelError(f"{path} is not a safetensors file: {error}") from None


def _fill(module: nn.Module, state: Mapping[str, Tensor], prefix: str) -> None:
    mine = {name.removeprefix(f"{prefix}."): value for name, value in state.items() if name.startswith(f"{prefix}.")}
    try:
        module.load_state_dict(mine)
    except RuntimeError as error:
        what = " ".join(str(error).split())
        raise StoredModelError(f"the stored weights do not fit the {prefix} as it is now: {what}") from None
    module.eval()
