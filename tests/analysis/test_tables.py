from __future__ import annotations

import numpy as np

from recbench.analysis.ranking import rank
from recbench.analysis.tables import (
    board_cells,
    board_table,
    history_cells,
    history_table,
    per_image_table,
    scores_table,
)
from recbench.render.spreadsheet import csv_text
from recbench.store.record import Score
from tests.made_up import make_plan, make_record, make_trouble


def test_scores_are_a_row_per_job_and_metric() -> None:
    plan = make_plan()
    scores = {"psnr": Score(mean=20.5, std=1.5, n=8), "mse": Score(mean=0.25, std=None, n=0)}
    records = {planned.id: make_record(plan, planned, scores) for planned in plan.jobs[:2]}
    records[plan.jobs[2].id] = make_trouble(plan, plan.jobs[2])
    table = scores_table(plan, records)
    assert len(table) == 4
    assert list(table["job"]) == [job.id for job in plan.jobs[:2] for _ in scores]
    assert set(table.method) == {"l2"}
    means = table.pivot_table(index="seed", columns="metric", values="mean", aggfunc="first")
    assert means.loc[1].to_dict() == {"psnr": 20.5, "mse": 0.25}
    assert table[table.metric == "mse"]["std"].isna().all()


def test_histories_are_a_row_per_job_and_epoch() -> None:
    plan = make_plan()
    histories = {
        plan.jobs[1].id: [{"epoch": 1, "kl": 3.5}, {"epoch": 2, "kl": 3.0, "validation": 7.0}],
        plan.jobs[0].id: [{"epoch": 1, "kl": 4.5}],
    }
    table = history_table(plan, histories)
    assert list(table["job"]) == [plan.jobs[0].id, plan.jobs[1].id, plan.jobs[1].id]
    assert list(table.columns) == ["job", "setting", "method", "seed", "epoch", "kl", "validation"]
    columns, rows = history_cells(plan, histories, ["kl", "validation"])
    assert columns == list(table.columns)
    text = csv_text(columns[4:], (row[4:] for row in rows))
    assert text == "epoch,kl,validation\n1,4.5,\n1,3.5,\n2,3.0,7.0\n"


def test_per_image_scores_are_a_row_per_job_and_image() -> None:
    plan = make_plan()
    scores = {job.id: {"psnr": np.arange(3.0) + i, "kl": np.ones(3)} for i, job in enumerate(plan.jobs)}
    table = per_image_table(plan, scores)
    assert len(table) == 3 * len(plan.jobs)
    assert table.groupby("job", sort=False).psnr.mean().tolist() == [1.0, 2.0, 3.0, 4.0]
    assert table.image.tolist() == [0, 1, 2] * len(plan.jobs)
    assert per_image_table(plan, {}).empty


def test_boards_are_a_row_per_method_with_integers_as_integers() -> None:
    plan = make_plan(["a", "b"])
    records = {planned.id: make_record(plan, planned) for planned in plan.jobs[:2]}
    table = board_table(rank(plan, records)).set_index("method")
    assert table.loc["a", ["place", "tier", "seeds_done"]].tolist() == [1, "a", 2]
    assert table.loc["b", ["place", "psnr_mean", "psnr_in_family"]].isna().all()
    columns, rows = board_cells(rank(plan, records))
    assert columns == ["suite", "setting", "protocol", "place", "method", *list(table.columns)[4:]]
    assert csv_text(["place"], ([row[3]] for row in rows)) == 'place\n1\n""\n'
