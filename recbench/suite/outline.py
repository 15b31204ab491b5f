"""The outline of a suite: what it compares and how much, told without its images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from recbench.contracts.shapes import ImageShape
from recbench.plugin.registry import Registry
from recbench.suite.document import load
from recbench.suite.grid import GridCell, setting_loss_pairs
from recbench.suite.schema import unfold_short_forms
from recbench.suite.validation import Validator


@dataclass(frozen=True)
class Outline:
    """The description and the size of a suite, and what it lacks.

    Attributes:
        description: its text.
        datasets: names of its data sets.
        jobs: the most jobs that it can have; combinations that its images rule out are counted.
        problems: one line for each data set that cannot be created, and for weights that are missing.
    """

    description: str
    datasets: tuple[str, ...]
    jobs: int
    problems: tuple[str, ...]


class _OutlineValidator(Validator):
    """A validator for which a data set that is not there is no problem of the suite."""

    absent: tuple[str, ...] = ()

    def shape(self, dataset: GridCell) -> ImageShape | None:
        """Return the shape of a data set's images; None if it cannot be created, which is noted."""
        before = list(self.problems)
        shape = super().shape(dataset)
        if len(self.problems) > len(before):
            self.absent += (f"images of {dataset.registered.entry.name}",)
            self.problems[:] = before
        return shape


def outline(file: Path, registry: Registry) -> Outline:
    """Return the outline of a suite file.

    Raises:
        SuiteError: it is invalid, whatever images there are.
    """
    document = load(file)
    unfold_short_forms(document.data)
    validator = _OutlineValidator(document, document.problems, registry, file.stem, 1_000_000, None)
    valid = validator.validate()
    searched = len(setting_loss_pairs(valid.cells, len(valid.trainings)))
    tuning = valid.file.tuning
    tried = tuning.budget * len(tuning.seeds or [0]) if tuning is not None else 0
    return Outline(
        description=valid.file.description,
        datasets=tuple(dict.fromkeys(cell.registered.entry.name for cell in valid.cells["datasets"])),
        jobs=searched * (tried + len(valid.file.seeds)),
        problems=(*validator.absent, *(["weights"] if valid.lacking else [])),
    )
