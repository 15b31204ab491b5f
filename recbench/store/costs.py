"""The columns in which tables show the cost of training: one list for every format, the report and exports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from recbench.store.record import Cost


@dataclass(frozen=True)
class CostColumn:
    """A field of :class:`~recbench.store.record.Cost` as a column of a table.

    Attributes:
        field: name of the field, and of the column in CSV files.
        label: head of the column in text, with its unit.
        better: the direction of the cheaper value.
        form: format specification of the shown number.
        divisor: the recorded number is divided by this before it is shown.
    """

    field: str
    label: str
    better: Literal["higher", "lower"]
    form: str
    divisor: int = 1

    def value(self, cost: Cost) -> float:
        """Return the number as recorded."""
        value: float = getattr(cost, self.field)
        return value

    def text(self, cost: Cost) -> str:
        """Return the number as shown, in the unit of the label."""
        return format(self.value(cost) / self.divisor, self.form)


COST_COLUMNS = (
    CostColumn("images_per_second", "images/s", "higher", ".1f"),
    CostColumn("step_milliseconds", "ms/step", "lower", ".1f"),
    CostColumn("peak_memory_bytes", "peak GiB", "lower", ".2f", divisor=2**30),
    CostColumn("parameters", "parameters", "lower", ",.0f"),
)
