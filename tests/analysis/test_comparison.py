"""Comparisons of suites and methods: what changed, and whether the scores did, by tests that scipy knows too."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas
import pytest
from scipy import stats

from recbench.analysis.comparison import Comparison, Side, compare
from recbench.analysis.earlier import earlier_version
from recbench.errors import UserError
from recbench.plan.model import Column, PlannedJob
from recbench.plan.plan import Plan
from recbench.store.archive import export, opened
from recbench.store.record import Data, File, Record, Score, parse_record, sealed
from recbench.store.sources import ArchiveSource, FolderSource
from recbench.store.store import Store
from tests.conftest import TINY, Recbench
from tests.made_up import COLUMNS, make_plan, make_record

IMAGES = 40
FID = Column(name="fid", direction="lower", digits=1)
BASE = np.random.default_rng(0).normal(20, 3, IMAGES)
"""Effects of the images that all methods share."""


def noise(*numbers: int, scale: float = 0.3) -> np.ndarray:
    return np.random.default_rng(list(numbers)).normal(0, scale, IMAGES)


def write(
    folder: Path, plan: Plan, values: Callable[[PlannedJob], np.ndarray], fingerprint: str = "f" * 64
) -> FolderSource:
    """Records with these values of PSNR for every image (and a thousandth of them as MSE, their mean as FID)."""
    store = Store(folder)
    store.write_plan(plan, "name: made-up\n")
    for planned in plan.jobs:
        table = pandas.DataFrame({"psnr": values(planned), "mse": values(planned) / 1000})
        store.folder(planned.id).mkdir(parents=True)
        table.to_parquet(store.folder(planned.id) / "scores.parquet", index=False)
        store.write_task(plan.job(planned), plan.suite)
        scores = {n: Score(mean=float(table[n].mean()), std=float(table[n].std(ddof=0)), n=IMAGES) for n in table}
        scores["fid"] = Score(mean=float(table["psnr"].mean()), std=None, n=0)
        job = plan.job(planned)
        data = Data(fingerprint=fingerprint, train=32, validation=4, test=IMAGES)
        content = (store.folder(planned.id) / "scores.parquet").read_bytes()
        described = File(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        facts = {"data": data, "protocol": job.protocol(fingerprint), "files": {"scores.parquet": described}}
        store.add(make_record(plan, planned, {name: scores[name] for name in plan.metrics}, **facts))
    return FolderSource(folder)


def side(source: FolderSource, method: str | None = None, name: str = "") -> Side:
    return Side(name or source.name, source, source.plan, method)


def changes(found: Comparison) -> dict[str, tuple[float | None, str, str]]:
    (pair,) = found.pairs
    return {change.column.name: (change.p, change.verdict, change.basis) for change in pair.changes}


def test_single_seeds_are_compared_by_the_paired_t_test_over_images(tmp_path: Path) -> None:
    plan = make_plan(seeds=(0,), columns=COLUMNS[:1])
    shifts = {0: 0.0, 1: 0.2}
    source = write(tmp_path / "a", plan, lambda p: BASE + shifts[p.method] + noise(p.method))
    found = compare(side(source, "l2"), side(source, "l1"))
    expected = stats.ttest_rel(BASE + 0.2 + noise(1), BASE + noise(0))
    (change,) = found.pairs[0].changes
    assert change.p == pytest.approx(expected.pvalue, rel=1e-6)
    interval = expected.confidence_interval(0.95)
    assert (change.low, change.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert change.verdict == "better"
    assert change.basis == "images, pair by pair"


def test_a_metric_of_whole_sets_is_compared_by_welchs_test_over_seeds(tmp_path: Path) -> None:
    plan = make_plan(seeds=(0, 1, 2), columns=(FID,))
    source = write(tmp_path / "a", plan, lambda p: BASE + 3 * p.method + noise(p.method, p.seed, scale=2))
    found = compare(side(source, "l2"), side(source, "l1"))
    means = [[float((BASE + 3 * m + noise(m, s, scale=2)).mean()) for s in (0, 1, 2)] for m in (0, 1)]
    p, verdict, basis = changes(found)["fid"]
    expected = stats.ttest_ind(means[1], means[0], equal_var=False)
    assert p == pytest.approx(expected.pvalue, rel=1e-6)
    (change,) = found.pairs[0].changes
    interval = expected.confidence_interval(0.95)
    assert (change.low, change.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert (verdict, basis) == ("worse", "seeds")


def test_one_seed_of_a_set_metric_says_nothing(tmp_path: Path) -> None:
    source = write(tmp_path / "a", make_plan(seeds=(0,), columns=(FID,)), lambda p: BASE + p.method)
    assert changes(compare(side(source, "l2"), side(source, "l1")))["fid"] == (None, "open", "nothing")


def test_p_values_are_corrected_for_all_that_is_compared(tmp_path: Path) -> None:
    plan = make_plan(seeds=(0,), columns=COLUMNS)
    first = write(tmp_path / "a", plan, lambda p: BASE + noise(p.method))
    other = plan.model_copy(
        update={"methods": tuple(m.model_copy(update={"kl_weight": 9.0 + i}) for i, m in enumerate(plan.methods))}
    )
    other = other.model_copy(update={"jobs": tuple(j.model_copy(update={"id": other.job(j).id}) for j in other.jobs)})
    second = write(tmp_path / "b", other, lambda p: BASE + 0.1 + noise(p.method, 1))
    found = compare(side(first, name="before"), side(second, name="after"))
    raw = [stats.ttest_rel(BASE + 0.1 + noise(m, 1), BASE + noise(m)).pvalue for m in (0, 1) for _ in COLUMNS]
    order = np.argsort(raw, kind="stable")
    holm = np.minimum(np.maximum.accumulate(np.array(raw)[order] * np.arange(4, 0, -1)), 1)
    p = [change.p for pair in found.pairs for change in pair.changes]
    assert sorted(p) == pytest.approx(sorted(holm), rel=1e-6)
    assert [pair.changed for pair in found.pairs] == [("kl_weight: 0.5 → 9.0",), ("kl_weight: 1.5 → 10.0",)]


def with_code(plan: Plan, code: str) -> Plan:
    methods = tuple(m.model_copy(update={"loss": m.loss.model_copy(update={"code": code})}) for m in plan.methods)
    plan = plan.model_copy(update={"methods": methods})
    return plan.model_copy(update={"jobs": tuple(j.model_copy(update={"id": plan.job(j).id}) for j in plan.jobs)})


def test_two_versions_of_a_loss_in_one_folder(tmp_path: Path) -> None:
    before, after = (with_code(make_plan(("l2",), columns=COLUMNS[:1]), code) for code in ("aaaa1111", "bbbb2222"))
    write(tmp_path / "a", before, lambda p: BASE + noise(p.seed))
    source = write(tmp_path / "a", after, lambda p: BASE + 5 + noise(p.seed, 1))
    old = earlier_version(source, source.plan, "l2", "aaaa")
    found = compare(Side("old", source, old, "l2"), side(source, "l2"))
    assert found.pairs[0].changed == ("loss.code: aaaa1111 → bbbb2222",)
    assert found.pairs[0].seeds == (2, 2)
    assert changes(found)["psnr"][1] == "better"
    with pytest.raises(UserError, match=r"l2 .*'cccc'.*: aaaa1111, bbbb2222"):
        earlier_version(source, source.plan, "l2", "cccc")


def test_an_export_can_be_compared(tmp_path: Path) -> None:
    plan = make_plan(columns=COLUMNS[:1])
    source = write(tmp_path / "a", plan, lambda p: BASE + noise(p.method, p.seed))
    export(source.store, tmp_path / "a.zip")
    with opened(tmp_path / "a.zip") as archive:
        packed = ArchiveSource(archive)
        found = compare(Side("zip", packed, packed.plan), side(source))
        assert all(pair.same for pair in found.pairs)
        mixed = compare(Side("zip", packed, packed.plan, "l2"), side(source, "l1"))
    assert mixed.pairs[0].changes == compare(side(source, "l2"), side(source, "l1")).pairs[0].changes


def longer(plan: Plan) -> Plan:
    training = plan.settings[0].training.model_copy(update={"epochs": 99})
    plan = plan.model_copy(update={"settings": (plan.settings[0].model_copy(update={"training": training}),)})
    return plan.model_copy(update={"jobs": tuple(j.model_copy(update={"id": plan.job(j).id}) for j in plan.jobs)})


def test_unequal_protocols_are_refused_with_the_mismatch(tmp_path: Path) -> None:
    plan = make_plan(columns=COLUMNS[:1])
    first = write(tmp_path / "a", plan, lambda p: BASE + noise(p.seed))
    second = write(tmp_path / "b", longer(plan), lambda p: BASE + noise(p.seed, 1))
    with pytest.raises(UserError, match=r"training\.epochs: 3 and 99"):
        compare(side(first), side(second))
    found = compare(side(first), side(second), anyway=True)
    assert all(any("epochs" in line for line in pair.protocol) for pair in found.pairs)
    assert all(change.basis == "images, pair by pair" for pair in found.pairs for change in pair.changes)


def test_other_images_are_refused_and_never_paired(tmp_path: Path) -> None:
    plan = make_plan(columns=COLUMNS[:1])
    first = write(tmp_path / "a", plan, lambda p: BASE + noise(p.seed))
    second = write(tmp_path / "b", plan, lambda p: BASE + 1 + noise(p.seed, 1), fingerprint="e" * 64)
    with pytest.raises(UserError, match="images: "):
        compare(side(first), side(second))
    found = compare(side(first), side(second), anyway=True)
    assert {change.basis for pair in found.pairs for change in pair.changes} <= {"images of their own"}


def test_without_files_means_and_spreads_are_compared(tmp_path: Path) -> None:
    plan = make_plan(columns=COLUMNS[:1])
    source = write(tmp_path / "a", plan, lambda p: BASE + 0.2 * p.method + noise(p.method, p.seed))
    paired = changes(compare(side(source, "l2"), side(source, "l1")))["psnr"]
    for file in (tmp_path / "a").rglob("scores.parquet"):
        file.unlink()
    alone = changes(compare(side(source, "l2"), side(source, "l1")))["psnr"]
    assert alone[2] == "images of their own"
    assert paired[0] is not None
    assert alone[0] is not None
    assert alone[0] > paired[0]


def test_what_only_one_side_has_is_named(tmp_path: Path) -> None:
    first = write(tmp_path / "a", make_plan(("l2", "l1"), columns=COLUMNS[:1]), lambda p: BASE + noise(p.seed))
    second = write(tmp_path / "b", make_plan(("l2", "ce"), columns=COLUMNS[:1]), lambda p: BASE + noise(p.seed))
    found = compare(side(first), side(second))
    assert (found.only_first, found.only_second) == (("l1 (photos · vae)",), ("ce (photos · vae)",))
    with pytest.raises(UserError, match="no method in common"):
        compare(side(first, "l1"), side(second))
    with pytest.raises(UserError, match="has no method 'l3'; choose from: l1, l2"):
        compare(side(first, "l3"), side(second))


@pytest.mark.slow
def test_compare_and_verify_from_the_command_line(finished_tiny: Path, recbench: Recbench) -> None:
    """Real jobs: two methods compared; every stored model verified; models and records that were changed found out."""
    done = recbench("compare", "tiny:l2", "tiny:l1", "--format", "json")
    assert done.returncode == 0, done.stderr
    (pair,) = json.loads(done.stdout)["pairs"]
    assert pair["methods"] == ["l2", "l1"]
    assert {change["column"]["name"]: change["basis"] for change in pair["changes"]} == {
        "psnr": "images, pair by pair",
        "ssim": "images, pair by pair",
    }
    assert "scores differ significantly" in recbench("compare", "tiny:l2", "tiny:l1").stdout

    done = recbench("verify", "tiny", "--plugin", TINY)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 of 4 jobs are verified" in done.stdout
    assert "every bit must be equal" in done.stdout
    jobs = finished_tiny.parent / "results" / "tiny" / "jobs"
    job = sorted(folder.name for folder in jobs.iterdir())[0]

    model = jobs / job / "model.safetensors"
    whole = model.read_bytes()
    model.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    damaged = recbench("verify", job[:8], "--plugin", TINY)
    assert damaged.returncode == 1
    assert "model.safetensors: not as recorded" in damaged.stdout
    assert "NOT verified" in damaged.stdout

    # Other weights with a record to match: only the evaluation finds it out.
    from safetensors.numpy import load, save

    tensors = load(whole)
    tensors["architecture.decoder.weight"] = tensors["architecture.decoder.weight"] * np.float32(0.5)
    model.write_bytes(save(tensors))
    file = jobs / job / "record.json"
    record: Record = parse_record(job, file.read_bytes())
    described = File(bytes=model.stat().st_size, sha256=hashlib.sha256(model.read_bytes()).hexdigest())
    forged = record.model_copy(update={"files": {**record.files, "model.safetensors": described}})
    file.write_bytes(sealed(forged.model_dump_json(indent=1)))
    found = recbench("verify", job, "--plugin", TINY, "--format", "json")
    assert found.returncode == 1, found.stderr
    (verification,) = json.loads(found.stdout)
    assert {check["state"] for check in verification["checks"]} == {"fine"}
    psnr = next(score for score in verification["scores"] if score["metric"] == "psnr")
    assert psnr["verdict"] == "differs"
    assert abs(psnr["difference"]) > 0.01
    assert recbench("verify", job, "--plugin", TINY, "--tolerance", "10").returncode == 0

    file.write_bytes(file.read_bytes().replace(b'"seed": 0', b'"seed": 1'))
    assert recbench("verify", job, "--plugin", TINY).returncode == 1
    assert recbench("verify", "0123456789abcdef").returncode == 2


def test_intervals_and_corrected_p_values_never_contradict_each_other(tmp_path: Path) -> None:
    """Of many methods, some differ alone, but not after the correction: then the interval must hold 0."""
    plan = make_plan([f"m{i}" for i in range(8)], seeds=(0,), columns=COLUMNS[:1])
    other = make_plan([f"m{i}" for i in range(8)], seeds=(0,), columns=COLUMNS[:1], params={"C": 2.0})
    first = write(tmp_path / "a", plan, lambda p: BASE + noise(p.method))
    second = write(tmp_path / "b", other, lambda p: BASE + 0.04 * p.method + noise(p.method, 7))
    alone = 0
    for confidence in (0.8, 0.95):
        found = compare(side(first), side(second), confidence=confidence)
        for pair in found.pairs:
            (change,) = pair.changes
            assert change.p is not None and change.low is not None and change.high is not None
            significant = change.p <= 1 - confidence
            assert significant == (change.verdict in ("better", "worse")) == (not change.low <= 0 <= change.high)
            number = int(pair.methods[0][1:])
            raw = stats.ttest_rel(BASE + 0.04 * number + noise(number, 7), BASE + noise(number)).pvalue
            alone += raw <= 1 - confidence and not significant
    assert alone, "the correction matters here"


def test_the_difference_to_a_best_score_is_that_of_the_distances(tmp_path: Path) -> None:
    column = Column(name="psnr", direction=20.0)
    plan = make_plan(seeds=(0, 1, 2), columns=[column])
    source = write(tmp_path / "a", plan, lambda p: np.full(IMAGES, (18.0, 20.5)[p.method]) + noise(p.method, p.seed))
    (change,) = compare(side(source, "l2"), side(source, "l1")).pairs[0].changes
    assert change.verdict == "better"
    assert change.difference == pytest.approx(abs(change.second - 20) - abs(change.first - 20))
    assert change.low is not None and change.high is not None
    assert change.low <= change.difference <= change.high < 0
    (back,) = compare(side(source, "l1"), side(source, "l2")).pairs[0].changes
    assert back.verdict == "worse"


def test_differences_stay_within_what_the_range_allows(tmp_path: Path) -> None:
    column = Column(name="fid", direction="lower", score_range=(0, 20))
    plan = make_plan(seeds=(0, 1), columns=[column])
    source = write(tmp_path / "a", plan, lambda p: np.full(IMAGES, 2.0 + 9 * p.seed + p.method))
    (change,) = compare(side(source, "l2"), side(source, "l1")).pairs[0].changes
    assert (change.low, change.high) == (-20, 20)
