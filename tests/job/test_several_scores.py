"""Metrics that give several scores from one pass, from the suite's text to boards; and what distances compare."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import recbench
from recbench.api.metrics import StandaloneMetric
from recbench.cli import main
from recbench.contracts.checked import ContractError
from recbench.contracts.entries import Convention, MetricEntry, MetricScore
from recbench.contracts.metric import BoundMetric, ImageMetric, Metric, Reference, SetMetric
from recbench.errors import SuiteError, UserError
from recbench.job.evaluation import MetricError, NotFinite, compared, evaluate
from recbench.job.parts import MetricSpec
from recbench.job.scoring import score
from recbench.plan.model import ComponentSpec
from recbench.plugin.manager import Plugin, load_plugins
from recbench.plugin.registry import Registered, Registry
from recbench.store.record import Score
from recbench.suite.suite import load_suite
from recbench.testing import metric_cases
from tests.job.test_evaluation import CONFIG, IMAGES, Normal, make

CPU = torch.device("cpu")
NAMES = ("mean_error", "largest_error")


class Errors(ImageMetric):
    """Mean and largest absolute error, and how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, decoded: Tensor, target: Tensor) -> Mapping[str, Tensor]:
        self.calls += 1
        errors = (decoded - target).abs().flatten(1)
        return {"mean_error": errors.mean(1), "largest_error": errors.amax(1)}


class Bounds(BoundMetric):
    """Both terms of the bound."""

    needs_log_prob = True

    def forward(self, log_prob: Tensor, kl: Tensor) -> Mapping[str, Tensor]:
        return {"mean_error": -log_prob, "largest_error": kl}


class Whole(SetMetric):
    """What it is made to return, once."""

    def __init__(self, *values: object) -> None:
        super().__init__()
        self.values = list(values)

    def update(self, decoded: Tensor, target: Tensor) -> None:
        pass

    def compute(self) -> Any:
        return self.values.pop(0)


def reference(cache: Path) -> Reference:
    return Reference(IMAGES, "of a test", cache, CPU, "test", IMAGES.repeat(3, 1, 1, 1))


def specs(metric: Metric, **facts: Any) -> dict[str, MetricSpec]:
    """A metric under a label for each of its scores."""
    return {name: MetricSpec(metric, score=name, names=NAMES, **facts) for name in NAMES}


def test_one_pass_gives_all_scores(tmp_path: Path) -> None:
    errors = Errors()
    metrics = {**specs(errors), **{f"bound of {k}": v for k, v in specs(Bounds()).items()}}
    found = evaluate(make(Normal()), metrics, reference(tmp_path), batch_size=4, config=CONFIG)
    assert errors.calls == 3  # batches of ten images
    target, decoded = (found.looked[name].astype(np.float64) / 255 for name in ("target", "decoded"))
    by_hand = np.abs(decoded - target).reshape(len(IMAGES), -1)
    assert found.per_image["mean_error"] == pytest.approx(by_hand.mean(1), abs=1e-6)
    assert found.per_image["largest_error"] == pytest.approx(by_hand.max(1), abs=1e-6)
    assert found.scores["largest_error"].mean == pytest.approx(by_hand.max(1).mean(), abs=1e-6)
    assert list(found.scores) == list(metrics)
    assert found.per_image["bound of largest_error"] == pytest.approx(found.per_image["kl"])


def test_a_set_is_computed_once(tmp_path: Path) -> None:
    metric = Whole({"mean_error": 1, "largest_error": 2.5})
    found = evaluate(make(Normal()), specs(metric), reference(tmp_path), batch_size=4, config=CONFIG)
    assert {name: each.mean for name, each in found.scores.items()} == {"mean_error": 1, "largest_error": 2.5}


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (0.5, "must return a float for each of mean_error, largest_error, by name; it returned a float"),
        (None, "it returned None"),
        ({"mean_error": 0.5}, "what it returned lacks largest_error"),
        ({"mean_error": 0.5, "largest_error": "x"}, "must return a float as largest_error; it returned a str"),
        ({"mean_error": 0.5, "largest_error": True}, "it returned a bool"),
        ({"mean_error": 0.5, "largest_error": 1.0, "hue": 1.0}, "has hue, which the entry does not declare in scores"),
    ],
)
def test_what_is_wrong_with_returned_scores_is_named(returned: object, said: str, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=said) as caught:
        evaluate(make(Normal()), specs(Whole(returned)), reference(tmp_path), batch_size=4, config=CONFIG)
    assert caught.value.metric == "mean_error"


def test_scores_that_nothing_declares_are_named(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="the entry declares none of them in scores"):
        evaluate(make(Normal()), {"x": MetricSpec(Errors())}, reference(tmp_path), batch_size=4, config=CONFIG)


@pytest.mark.parametrize(
    ("error", "left"),
    [(MetricError("it broke"), ["psnr"]), (NotFinite("NaN"), ["mean_error", "psnr"])],
    ids=["the metric fails", "one score is NaN"],
)
def test_a_metric_that_fails_loses_all_scores_of_the_pass(error: recbench.UserError, left: list[str]) -> None:
    error.metric = "largest_error"
    built = {**specs(Errors()), "psnr": MetricSpec(Whole())}
    calls = []

    def run(metrics: Mapping[str, MetricSpec]) -> Any:
        calls.append(list(metrics))
        if "largest_error" in metrics:
            raise error
        return "evaluated"

    found = score({name: ComponentSpec(name=name) for name in built}, built, run)
    assert calls == [["mean_error", "largest_error", "psnr"], left]
    assert list(found.metrics) == left and len(found.troubles) == 1


# Suites and commands

PLUGIN = """
from recbench import ImageMetric, MetricEntry, MetricScore, Parameter, hookimpl


class Errors(ImageMetric):
    def __init__(self, shape, *, power):
        super().__init__()
        self.power = power

    def forward(self, decoded, target):
        errors = (decoded - target).abs().flatten(1) ** self.power
        return {"mean_error": errors.mean(1), "largest_error": errors.amax(1)}


@hookimpl
def recbench_metrics():
    yield MetricEntry(
        name="errors", factory=Errors, summary="errors", direction="lower", score_range=(0, 1),
        parameters=(Parameter("power", float, 1.0, "of errors", minimum=1),),
        scores=(MetricScore(name="mean_error"), MetricScore(name="largest_error", digits=2, direction=0.0)),
    )
"""
SUITE = """
datasets: [{{name: shapes, params: {{size: 32, train: 8, validation: 8, test: 8}}}}]
architectures: [{{name: vae_bredell_small, params: {{latent_size: 4}}}}]
losses: [l2]
metrics: {metrics}
seeds: [0]
training: {{epochs: 1, batch_size: 8}}
{more}
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    file = tmp_path / "errors.py"
    file.write_text(PLUGIN)
    return file


@pytest.fixture
def load(plugin: Path, tmp_path: Path) -> Callable[..., Any]:
    registry = Registry(load_plugins([str(plugin)]))

    def call(metrics: str, more: str = "") -> Any:
        file = tmp_path / "s.yaml"
        file.write_text(SUITE.format(metrics=metrics, more=more))
        return load_suite(file, registry)

    return call


def test_each_score_has_a_column(load: Callable[..., Any]) -> None:
    grid, own = "{name: errors, params: {power: {grid: [2, 3]}}}", "{name: errors, label: mine, params: {power: 4}}"
    with pytest.raises(SuiteError, match="label"):
        load("[errors, {name: errors, params: {power: 2}}]")  # both are called mean_error
    suite = load(f"[psnr, {grid}, {own}]")
    names = ["psnr"]
    for own in ("power=2", "power=3"):
        names += [f"mean_error {own}", f"largest_error {own}"]
    names += ["mine mean_error", "mine largest_error"]
    assert [column.name for column in suite.plan.columns] == names == list(suite.plan.metrics)
    column = next(column for column in suite.plan.columns if column.name == "mine largest_error")
    assert (column.direction, column.digits, column.score_range) == (0.0, 2, (0, 1))
    assert suite.plan.metrics["mine largest_error"].score == "largest_error"
    assert "score" not in suite.plan.metrics["psnr"].model_dump()  # as it was before scores had names


def test_the_resolved_suite_lists_a_metric_once_and_gives_the_same_plan(
    load: Callable[..., Any], plugin: Path, tmp_path: Path
) -> None:
    suite = load("[{name: errors, params: {power: {grid: [1, 2]}}}]", "ranking: {metrics: [largest_error power=2]}")
    assert suite.resolved.count("name: errors") == 2
    again = tmp_path / "again.yaml"
    again.write_text(suite.resolved.replace("name: s\n", "name: s\n"))
    assert load_suite(again, Registry(load_plugins([str(plugin)]))).plan == suite.plan


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("ranking: {metrics: [errors]}", "'errors' gives several scores: name one of mean_error, largest_error"),
        ("ranking: {metrics: [mean_errors]}", "did you mean 'mean_error'"),
    ],
)
def test_what_ranks_is_a_score(load: Callable[..., Any], more: str, said: str) -> None:
    with pytest.raises(SuiteError, match=said):
        load("[errors]", more)


def test_a_score_selects_in_tuning(load: Callable[..., Any]) -> None:
    more = "tuning: {budget: 2, kl_weight: {low: 0.1, high: 1}, select: {metric: %s}}"
    assert load("[errors]", more % "largest_error").plan.tuning.direction == 0.0
    with pytest.raises(SuiteError, match="'errors' gives several scores"):
        load("[errors]", more % "errors")


def test_given_images_rank_by_each_score_with_a_report(
    plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    target = generator.integers(20, 230, (9, 3, 16, 16), dtype=np.uint8)
    np.save("target.npy", target)
    for name, level in (("near", 3), ("far", 20)):
        (tmp_path / name).mkdir()
        for seed in range(2):
            moved = target + generator.normal(0, level, target.shape)
            np.save(f"{name}/seed-{seed}.npy", moved.clip(0, 255).astype(np.uint8))
    command = ["rank-images", "target.npy", "near", "far", "--metrics", "psnr,errors,spectrum_recon"]
    monkeypatch.setattr(
        "sys.argv", ["recbench", *command, "--plugin", str(plugin), "--format", "json", "--report", "out"]
    )
    main()
    out, _ = capsys.readouterr()
    (board,) = json.loads(out)["boards"]
    assert board["ranking"] == ["psnr", "mean_error", "largest_error", "spectrum_recon"]
    first = np.load("near/seed-0.npy").astype(float) - target, np.load("near/seed-1.npy").astype(float) - target
    expected = np.mean([np.abs(each).max((1, 2, 3)).mean() / 255 for each in first])
    assert board["rows"][0]["cells"]["largest_error"]["mean"] == pytest.approx(expected)
    page = (tmp_path / "out/report/index.html").read_text()
    for text in ("near", "far", "largest_error", "The same targets with every method", "from given images"):
        assert text in page
    assert "jobs.csv" not in page and "Interpolations" not in page and "methods/" not in page
    lines = (tmp_path / "out/report/data/board-1-per-image-2-mean_error.csv").read_text().splitlines()
    own = np.mean([np.abs(each).mean((1, 2, 3)) / 255 for each in first], axis=0)
    assert [float(line.split(",")[1]) for line in lines[1:]] == pytest.approx(own, rel=1e-5)
    assert len(list((tmp_path / "out/report/images").iterdir())) == 3


def test_the_python_api_gives_scores_by_name(plugin: Path) -> None:
    metric = recbench.metric("errors", plugins=[plugin])
    decoded, target = torch.zeros(4, 3, 8, 8), torch.ones(4, 3, 8, 8)
    found = metric(decoded, target)
    assert isinstance(found, dict) and found.keys() == set(NAMES) and found["mean_error"].tolist() == [1.0] * 4
    metric.update(decoded, target)
    metric.update(target[:2], target[:2])
    assert metric.compute() == {"mean_error": pytest.approx(2 / 3), "largest_error": pytest.approx(2 / 3)}
    table = {"method": ["a", "b"] * 4, "seed": [0] * 8, "image": [0, 0, 1, 1, 2, 2, 3, 3], "score": [0.1, 0.3] * 4}
    import pandas as pd

    assert recbench.rank(pd.DataFrame(table), metric="mean_error", plugins=[plugin])["method"].tolist() == ["a", "b"]
    with pytest.raises(UserError, match="gives the scores mean_error, largest_error"):
        recbench.rank(pd.DataFrame(table), metric="errors", plugins=[plugin])


def entry(made: Callable[[], Metric], **facts: Any) -> MetricEntry:
    scores = tuple(MetricScore(name=name) for name in NAMES)
    return MetricEntry(
        name="errors", factory=lambda shape: made(), summary="", direction="lower", scores=scores, **facts
    )


class Backwards(Errors):
    def forward(self, decoded: Tensor, target: Tensor) -> Mapping[str, Tensor]:
        return {name: 1 - value for name, value in super().forward(decoded, target).items()}


@pytest.mark.parametrize(("made", "failing"), [(Errors, set()), (Backwards, {"equal_images_score_best"})])
def test_conformance_checks_every_score(made: type[Metric], failing: set[str]) -> None:
    failed = set()
    for case in metric_cases([entry(made)]):
        try:
            case.run()
        except AssertionError:
            failed.add(case.check.__name__)
    assert failed == failing


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"scores": (MetricScore(name="a"), MetricScore(name="a"))}, "a score is declared twice"),
        ({"scores": MetricScore(name="a")}, "is there a comma missing"),
        ({"convention": "test"}, "must be a Convention"),
        ({"packages": "numpy"}, "is there a comma missing"),
    ],
)
def test_what_an_entry_declares_is_checked(facts: dict[str, Any], said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        MetricEntry(name="m", factory="m:M", summary="", direction="lower", **facts)


def test_a_missing_package_is_named_with_how_to_install_it() -> None:
    made = replace(entry(Errors), packages=("json", "no_such_package"), install="pip install 'recbench[none]'")
    metric = StandaloneMetric(Registered(made, Plugin(name="p", origin="p", distribution="p", version="1")), {}, None)
    with pytest.raises(UserError, match=r"not installed: no_such_package; pip install 'recbench\[none\]'"):
        metric(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))


# What distances compare


@pytest.mark.parametrize(
    ("declared", "params", "expected"),
    [
        ("test", {"images": 0}, ("test", 10, 10)),
        ("test", {"images": 4}, ("test", 4, 4)),
        ("train", {}, ("train", 30, 10)),
        ("which", {"which": "train", "images": 20}, ("train", 20, 10)),
    ],
)
def test_what_a_distance_compares_is_recorded(
    declared: str, params: dict[str, Any], expected: tuple[str, int, int], tmp_path: Path
) -> None:
    convention = Convention(reference=declared, resize="not at all", limit="images")
    metric = Whole({"mean_error": 0.0, "largest_error": math.pi})
    metrics = specs(metric, convention=convention, params=params)
    found = evaluate(make(Normal()), metrics, reference(tmp_path), batch_size=4, config=CONFIG)
    for each in found.scores.values():
        assert each.compared is not None
        assert (each.compared.reference, each.compared.references, each.compared.images) == expected
        assert each.compared.resize == "not at all"
    assert compared(MetricSpec(metric), reference(tmp_path)) is None


def test_scores_of_older_records_compare_what_is_not_known() -> None:
    assert Score.model_validate_json('{"mean": 1.5, "std": null, "n": 0}').compared is None
