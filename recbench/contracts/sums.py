"""The entry of a weighted sum of losses, made of the entries of its parts.

It is a loss like any other: its name, ``sum:l1+st_lpips``, says which losses it is of, and its parameters are those of
its parts, each with the part's key before it, and a weight for each: ``l1.weight``, ``st_lpips.pretrained``. A suite
writes it as ``{sum: [{name: l1}, {name: st_lpips, weight: 0.1}]}``. A sum of likelihoods is not a likelihood: the
density that it would belong to is not normalized.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from recbench.contracts.entries import LossEntry, Range, Weights
from recbench.contracts.parameters import Parameter, Tunable
from recbench.contracts.shapes import ImageShape

PREFIX = "sum:"
"""How the name of a sum begins."""

WEIGHT = "weight"
_HEAVIEST = 1e9


@dataclass(frozen=True)
class PartParameter(Parameter):
    """A parameter of a part under its name in the sum: ``st_lpips.pretrained``, or the weight of the part.

    Attributes:
        is_weight: whether it is the weight of the part, which tuning chooses only where a suite names it, in any range
            above 0: its natural size is known to nobody.
    """

    is_weight: bool = False

    def __post_init__(self) -> None:
        """Check nothing: the part's entry has, and the dot in the name is meant."""


@dataclass(frozen=True, kw_only=True)
class SumEntry(LossEntry):
    """A weighted sum of losses.

    Attributes:
        parts: entries of the losses by key: their names, with ``#2`` after that of a loss that is there again.
    """

    parts: Mapping[str, LossEntry]

    def __post_init__(self) -> None:
        """Check nothing: the entries of the parts were checked."""

    def split(self, params: Mapping[str, Any]) -> list[tuple[str, float, dict[str, Any]]]:
        """Return the key, weight and parameters of each part.

        Args:
            params: complete parameters of the sum.
        """
        return [
            (key, params[f"{key}.{WEIGHT}"], {p.name: params[param_name(key, p.name)] for p in part.parameters})
            for key, part in self.parts.items()
        ]


def sum_name(names: Sequence[str]) -> str:
    """Return the name of the sum of losses of these names.

    >>> sum_name(["l1", "st_lpips"])
    'sum:l1+st_lpips'
    """
    return PREFIX + "+".join(names)


def part_names(name: str) -> list[str]:
    """Return the names of the losses in the name of a sum.

    >>> part_names("sum:l1+st_lpips")
    ['l1', 'st_lpips']
    """
    return name.removeprefix(PREFIX).split("+")


def part_keys(names: Sequence[str]) -> list[str]:
    """Return what the parts of a sum are called in it.

    >>> part_keys(["l1", "ssim", "ssim"])
    ['l1', 'ssim', 'ssim#2']
    """
    seen: Counter[str] = Counter()
    keys = []
    for name in names:
        seen[name] += 1
        keys.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return keys


def param_name(key: str, name: str) -> str:
    """Return what a parameter of a part is called in the sum; one called ``weight`` makes room for the part's weight.

    >>> param_name("ssim", "window"), param_name("ssim", "weight")
    ('ssim.window', 'ssim.params.weight')
    """
    return f"{key}.params.{name}" if name == WEIGHT else f"{key}.{name}"


def sum_entry(entries: Sequence[LossEntry]) -> SumEntry:
    """Return the entry of the weighted sum of losses.

    Its value range is that of the first: images are converted for the others. It takes the images that all parts take,
    needs the weights of all, and is of all their families.
    """
    names = [entry.name for entry in entries]
    parts = dict(zip(part_keys(names), entries, strict=True))
    made: SumEntry

    def check(shape: ImageShape, params: Mapping[str, Any]) -> Iterator[str]:
        split = made.split(params)
        if not any(weight for _, weight, _ in split):
            yield "has no part with a weight above 0"
        for key, _, own in split:
            yield from (f"has the part {key}, which {reason}" for reason in parts[key].refusals(shape, own))

    def needed(shape: ImageShape, params: Mapping[str, Any]) -> list[Weights]:
        found = (file for key, _, own in made.split(params) for file in parts[key].needed_weights(shape, own))
        return list(dict.fromkeys(found))

    def couples(params: Mapping[str, Any]) -> bool:
        return any(parts[key].couples(own) for key, _, own in made.split(params))

    families = frozenset[str]().union(*(entry.families for entry in entries))
    value_range: Range = entries[0].value_range
    made = SumEntry(
        name=sum_name(names),
        factory="recbench.job.sums:SumLoss",
        summary=f"weighted sum of {', '.join(parts)}",
        parameters=tuple(parameter for key, entry in parts.items() for parameter in _parameters(key, entry)),
        check=check,
        weights=tuple(dict.fromkeys(file for entry in entries for file in entry.weights)),
        needed=needed,
        value_range=value_range,
        family=" + ".join(sorted(families)),
        families=families,
        couples_batch=couples if any(entry.couples_batch for entry in entries) else False,
        stops_gradient=any(entry.stops_gradient for entry in entries),
        citation="\n  ".join(dict.fromkeys(entry.citation for entry in entries if entry.citation)),
        parts=parts,
    )
    return made


def _parameters(key: str, entry: LossEntry) -> Iterator[PartParameter]:
    yield PartParameter(
        name=f"{key}.{WEIGHT}",
        type=float,
        default=1.0,
        doc=f"what the values of {key} are multiplied by",
        minimum=0.0,
        maximum=_HEAVIEST,
        tunable=Tunable(0.01, 100.0, log=True),
        is_weight=True,
    )
    for parameter in entry.parameters:
        facts = {field.name: getattr(parameter, field.name) for field in fields(Parameter)}
        yield PartParameter(**{**facts, "name": param_name(key, parameter.name)})
