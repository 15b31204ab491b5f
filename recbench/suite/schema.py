"""The structure of a suite file: its keys and their types. Values are checked in :mod:`recbench.suite.validation`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from recbench.errors import did_you_mean, quoted

Problems = list[tuple[tuple[int | str, ...], str]]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Choice(_Strict):
    """An item of a section: what is chosen, and its parameters."""

    name: str
    label: str | None = None
    params: dict[str, Any] = {}


class LossChoice(Choice):
    """A loss, with its weight of the KL term, or its scale where that is tuned, and the architectures it is for."""

    kl_weight: Any = None
    scale: Any = None
    architectures: list[str] | None = Field(None, min_length=1)


class Table(_Strict):
    """Numbers that somebody printed."""

    source: str
    dataset: str | None = None
    architecture: str | None = None
    scores: dict[str, dict[str, Any]] = Field(min_length=1)


class Ranking(_Strict):
    """What ranks are made of."""

    metrics: list[str] | None = Field(None, min_length=1)


class Span(_Strict):
    """A range in which something is tuned."""

    low: float
    high: float


class Selection(_Strict):
    """What decides between candidates."""

    metric: str


class TuningChoice(_Strict):
    """How every method of the suite is tuned."""

    strategy: Literal["grid", "random", "optuna"] = "grid"
    budget: int = Field(ge=1)
    kl_weight: Span
    params: dict[str, Any] | None = None
    seeds: list[int] | None = Field(None, min_length=1)
    select: Selection | None = None
    seed: int = Field(0, ge=0, lt=2**32)
    calibration_steps: int = Field(50, ge=1, le=100_000)


class SuiteFile(_Strict):
    """The structure of a suite file; parameters and training are checked one by one afterwards."""

    name: str | None = None
    description: str = ""
    datasets: list[Choice] = Field(min_length=1)
    architectures: list[Choice] = Field(min_length=1)
    losses: list[LossChoice] = Field(min_length=1)
    metrics: list[Choice] = Field(min_length=1)
    seeds: list[int] = Field(min_length=1)
    training: dict[str, Any]
    ranking: Ranking = Ranking()
    published: list[Table] = []
    tuning: TuningChoice | None = None
    executors: dict[str, dict[str, Any]] = {}


ITEMS = ("datasets", "architectures", "losses", "metrics")
_MODELS: dict[str, type[BaseModel]] = {
    "datasets": Choice,
    "architectures": Choice,
    "losses": LossChoice,
    "metrics": Choice,
    "ranking": Ranking,
    "published": Table,
    "tuning": TuningChoice,
    "tuning.kl_weight": Span,
    "tuning.select": Selection,
}


def read(data: dict[str, Any]) -> tuple[SuiteFile, Problems]:
    """The file in its structure, and what is wrong with it: path and message. That is left out of the structure."""
    try:
        return SuiteFile.model_validate(data), []
    except ValidationError as error:
        problems = [(detail["loc"], _in_words(detail)) for detail in error.errors()]
    kept = {key: _salvaged(key, data.get(key)) for key in SuiteFile.model_fields}
    return SuiteFile.model_construct(**kept), problems


def _salvaged(key: str, value: Any) -> Any:
    """What can be used of a section that may be wrong; wrong items of a list become None, so that all keep places."""
    if key in ITEMS:
        return [_salvaged_item(_MODELS[key], item) for item in value] if isinstance(value, list) else []
    if key == "published":
        return []
    if key == "seeds":
        return [seed if type(seed) is int else None for seed in value] if isinstance(value, list) else []
    if key == "training":
        return value if isinstance(value, dict) else {}
    if key == "ranking":
        return _salvaged_item(Ranking, value) or Ranking()
    if key == "tuning":
        return None
    if key == "executors":
        return {}
    if key == "name":
        return value if isinstance(value, str) or value is None else "suite"
    return value if isinstance(value, str) else ""


def _salvaged_item(model: type[BaseModel], item: Any) -> BaseModel | None:
    for _ in range(2):
        try:
            return model.model_validate(item)
        except ValidationError as error:
            if isinstance(item, dict):
                item = {key: value for key, value in item.items() if key not in {e["loc"][0] for e in error.errors()}}
    return None


def _in_words(detail: Mapping[str, Any]) -> str:
    """A problem that pydantic found, in our words."""
    kind, path = detail["type"], detail["loc"]
    if kind == "extra_forbidden":
        nested = _MODELS.get(f"{path[0]}.{path[1]}") if len(path) == 3 else None
        model = nested or (_MODELS.get(str(path[0]), SuiteFile) if len(path) > 1 else SuiteFile)
        return f"unknown key; {did_you_mean(str(path[-1]), list(model.model_fields))}"
    if kind == "missing":
        return "is missing"
    if kind == "too_short":
        return "is empty: at least one is needed"
    expected = {
        "string_type": "text",
        "list_type": "a list",
        "dict_type": "a mapping",
        "int_type": "a whole number",
        "float_type": "a number",
        "literal_error": "one of grid, random, optuna",
        "model_type": "a name, or a mapping with one" if path[0] in ITEMS else "a mapping",
    }.get(kind)
    return f"{quoted(detail['input'])} is not {expected}" if expected else str(detail["msg"])
