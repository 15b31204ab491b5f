"""A weighted sum of losses, as a loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from recbench.contracts.checked import auxiliaries_of, check_log, check_trace, check_values
from recbench.contracts.entries import Range
from recbench.contracts.loss import Auxiliary, Context, Loss
from recbench.job.images import convert


@dataclass(frozen=True)
class Part:
    """A loss in a sum.

    Attributes:
        key: what it is called in the sum: first part of the names of its traces.
        name: what errors call it.
        value_range: that of the images that it expects.
    """

    key: str
    name: str
    loss: Loss
    weight: float
    value_range: Range


class SumLoss(Loss):
    """A weighted sum of losses: the value of each image is the sum of weight × value over the parts.

    Weights do not multiply auxiliary objectives, each of which trains its own part alone. With one part of weight 1,
    values and gradients are those of the part, bit for bit. Images are in the value range of the first part.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        super().__init__()
        self.losses = nn.ModuleList(part.loss for part in parts)
        self._parts = tuple(parts)
        self.needs_last_layer = any(part.loss.needs_last_layer for part in parts)

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        """Return the sum for each image, (B,).

        Raises:
            ContractError: a part does not return a value for each image; the text names it.
        """
        total: Tensor | None = None
        for part in self._parts:
            values = part.loss(*self._in_range(part, decoded, target), context)
            check_values(part.name, "forward", values, decoded)
            weighted = values * part.weight
            total = weighted if total is None else total + weighted
        assert total is not None, "a sum has a part"
        return total

    def auxiliary(self) -> tuple[Auxiliary, ...]:
        """Return the auxiliary objectives of the parts."""
        return tuple(
            replace(own, objective=self._objective(part, own))
            for part in self._parts
            for own in auxiliaries_of(part.name, part.loss)
        )

    def trace(self, decoded: Tensor, target: Tensor, context: Context) -> Mapping[str, Tensor]:
        """Return what the parts trace, by names with the part's key before them: ``wiener.kernels``."""
        found: dict[str, Tensor] = {}
        for part in self._parts:
            traced = part.loss.trace(*self._in_range(part, decoded, target), context)
            check_trace(part.name, "trace", traced, len(decoded))
            found.update({f"{part.key}.{name}": values for name, values in traced.items()})
        return found

    def log(self) -> Mapping[str, Tensor | float]:
        """Return what the parts log, by names with the part's key before them: ``vqgan.adaptive_weight``."""
        return {
            f"{part.key}.{name}": value
            for part in self._parts
            for name, value in check_log(part.name, part.loss.log()).items()
        }

    def _in_range(self, part: Part, decoded: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        given = self._parts[0].value_range
        return convert(decoded, given, part.value_range), convert(target, given, part.value_range)

    def _objective(self, part: Part, own: Auxiliary) -> Callable[[Tensor, Tensor, Context], Tensor]:
        def objective(decoded: Tensor, target: Tensor, context: Context) -> Tensor:
            return own.objective(*self._in_range(part, decoded, target), context)

        return objective
