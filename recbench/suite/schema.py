"""The structure of a suite file: its keys and their types; :mod:`recbench.suite.validation` checks their values."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from recbench.contracts.sums import sum_name
from recbench.errors import did_you_mean, quoted
from recbench.suite.document import KeyPath

Problems = list[tuple[KeyPath, str]]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Choice(_Strict):
    """An item of a section: the name of an entry, and its parameters."""

    name: str
    label: str | None = None
    params: dict[str, Any] = {}


class PartChoice(_Strict):
    """A loss in a weighted sum of losses."""

    name: str
    weight: Any = None
    params: dict[str, Any] = {}


class LossChoice(Choice):
    """A loss or a sum of losses, with the weight of the KL term (or its scale, if that is tuned), and the architectures
    it is for."""

    sum: list[PartChoice] | None = Field(None, min_length=1)
    kl_weight: Any = None
    scale: Any = None
    architectures: list[str] | None = Field(None, min_length=1)


class PublishedSpec(_Strict):
    """Published numbers of one source, by method and metric."""

    source: str
    dataset: str | None = None
    architecture: str | None = None
    scores: dict[str, dict[str, Any]] = Field(min_length=1)


class Ranking(_Strict):
    """The metrics that are ranked."""

    metrics: list[str] | None = Field(None, min_length=1)


class TuningRange(_Strict):
    """The range of the KL weight in tuning."""

    low: float
    high: float


class Selection(_Strict):
    """The metric that selects among candidates."""

    metric: str


class TuningChoice(_Strict):
    """The tuning of every method of the suite."""

    strategy: Literal["grid", "random", "optuna"] = "grid"
    budget: int = Field(ge=1)
    kl_weight: TuningRange
    params: dict[str, Any] | None = None
    seeds: list[int] | None = Field(None, min_length=1)
    select: Selection | None = None
    seed: int = Field(0, ge=0, lt=2**32)
    calibration_steps: int = Field(50, ge=1, le=100_000)


class SuiteFile(_Strict):
    """A suite file. Values of parameters and of the section ``training`` are checked later, one by one."""

    name: str | None = None
    description: str = ""
    datasets: list[Choice] = Field(min_length=1)
    architectures: list[Choice] = Field(min_length=1)
    losses: list[LossChoice] = Field(min_length=1)
    metrics: list[Choice] = Field(min_length=1)
    baselines: list[Choice] = []
    seeds: list[int] = Field(min_length=1)
    training: dict[str, Any]
    ranking: Ranking = Ranking()
    published: list[PublishedSpec] = []
    tuning: TuningChoice | None = None
    executors: dict[str, dict[str, Any]] = {}


ITEMS = ("datasets", "architectures", "losses", "metrics")
_LISTED = (*ITEMS, "baselines")
_MODELS: dict[str, type[BaseModel]] = {
    "datasets": Choice,
    "architectures": Choice,
    "losses": LossChoice,
    "metrics": Choice,
    "baselines": Choice,
    "ranking": Ranking,
    "published": PublishedSpec,
    "tuning": TuningChoice,
    "tuning.kl_weight": TuningRange,
    "tuning.select": Selection,
}


def unfold_short_forms(data: dict[str, Any]) -> None:
    """Replace the short form ``- l2`` of an item by ``- {name: l2}``, in all sections of items and in sums of losses,
    and give each sum its name."""
    for key in _LISTED:
        if isinstance(data.get(key), list):
            data[key] = _unfolded(data[key])
    for item in data["losses"] if isinstance(data.get("losses"), list) else ():
        if isinstance(item, dict) and "sum" in item:
            parts = item["sum"] = _unfolded(item["sum"]) if isinstance(item["sum"], list) else item["sum"]
            names = [part.get("name") for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
            known = [name for name in names if isinstance(name, str)]
            item.setdefault("name", sum_name(known if len(known) == len(names) else []))


def _unfolded(items: list[Any]) -> list[Any]:
    return [{"name": item} if isinstance(item, str) else item for item in items]


def read(data: dict[str, Any]) -> tuple[SuiteFile, Problems]:
    """Return a file in its structure, without its invalid parts, and the problems of these: path and message."""
    try:
        return SuiteFile.model_validate(data), []
    except ValidationError as error:
        problems = [(detail["loc"], _message(detail)) for detail in error.errors()]
    kept = {key: _valid_part(key, data.get(key)) for key in SuiteFile.model_fields}
    return SuiteFile.model_construct(**kept), problems


def _valid_part(key: str, value: Any) -> Any:
    """Return the valid parts of a section; invalid items of a list become None, so that indices stay the same."""
    if key in _LISTED:
        return [_valid_item(_MODELS[key], item) for item in value] if isinstance(value, list) else []
    if key == "published":
        return []
    if key == "seeds":
        return [seed if type(seed) is int else None for seed in value] if isinstance(value, list) else []
    if key == "training":
        return value if isinstance(value, dict) else {}
    if key == "ranking":
        return _valid_item(Ranking, value) or Ranking()
    if key == "tuning":
        return None
    if key == "executors":
        return {}
    if key == "name":
        return value if isinstance(value, str) or value is None else "suite"
    return value if isinstance(value, str) else ""


def _valid_item(model: type[BaseModel], item: Any) -> BaseModel | None:
    for _ in range(2):
        try:
            return model.model_validate(item)
        except ValidationError as error:
            if isinstance(item, dict):
                item = copy.deepcopy(item)
                for detail in error.errors():
                    _remove(item, detail["loc"])
    return None


def _remove(item: dict[str, Any], path: KeyPath) -> None:
    """Remove a key of an item, or of a part of a sum, which then remains without it."""
    if path[0] == "sum" and len(path) > 2 and path[2] != "name" and isinstance(item.get("sum"), list):
        item["sum"][cast(int, path[1])].pop(path[2], None)
    else:
        item.pop(cast(str, path[0]), None)


def _message(detail: Mapping[str, Any]) -> str:
    """Return the message about a problem that pydantic found."""
    kind, path = detail["type"], detail["loc"]
    if kind == "extra_forbidden" and "sum" in path[2:-1]:
        return f"unknown key; {did_you_mean(str(path[-1]), list(PartChoice.model_fields))}"
    if kind == "extra_forbidden":
        nested = _MODELS.get(f"{path[0]}.{path[1]}") if len(path) == 3 else None
        model = nested or (_MODELS.get(str(path[0]), SuiteFile) if len(path) > 1 else SuiteFile)
        return f"unknown key; {did_you_mean(str(path[-1]), list(model.model_fields))}"
    if kind == "missing":
        return "is missing"
    if kind == "too_short":
        return "is empty: at least one item is needed"
    expected = {
        "string_type": "text",
        "list_type": "a list",
        "dict_type": "a mapping",
        "int_type": "a whole number",
        "float_type": "a number",
        "literal_error": "one of grid, random, optuna",
        "model_type": "a name, or a mapping with one" if path[0] in _LISTED else "a mapping",
    }.get(kind)
    return f"{quoted(detail['input'])} is not {expected}" if expected else str(detail["msg"])
