"""The section ``published`` of a suite: published numbers, assigned to the settings and methods of the plan."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from recbench.errors import did_you_mean, quoted
from recbench.plan.model import PublishedScore
from recbench.suite.document import KeyPath
from recbench.suite.grid import GridCells
from recbench.suite.schema import PublishedSpec
from recbench.suite.values import AddProblem, published_value


def published_scores(
    specs: Sequence[PublishedSpec], cells: GridCells, trainings: int, add_problem: AddProblem
) -> Iterator[PublishedScore]:
    """Yield the numbers of the section, each with the indices of its setting and method in the plan.

    Args:
        specs: the items of the section.
        cells: the cells of the suite.
        trainings: number of combinations in the section ``training``; a number applies to all of them.
        add_problem: records a problem, such as an unknown method; its numbers are left out.
    """
    places = list(itertools.product(cells["datasets"], cells["architectures"]))
    losses = [cell.label for cell in cells["losses"]]
    for index, spec in enumerate(specs):
        path: KeyPath = ("published", index)
        _check_place(path, spec, cells, add_problem)
        matching = [
            place for place, (dataset, architecture) in enumerate(places)
            if dataset.matches(spec.dataset) and architecture.matches(spec.architecture)
        ]  # fmt: skip
        for label, scores in spec.scores.items():
            if label not in losses:
                what = f"the suite has no method {quoted(label)}; {did_you_mean(label, losses)}"
                add_problem((*path, "scores", label), what)
                continue
            method = losses.index(label)
            for metric, value in scores.items():
                try:
                    mean, std = published_value(value)
                except ValueError as error:
                    add_problem((*path, "scores", label, metric), str(error))
                    continue
                for place, training in itertools.product(matching, range(trainings)):
                    if cells["losses"][method].goes_with(places[place][1]):
                        setting = place * trainings + training
                        yield PublishedScore(
                            source=spec.source, setting=setting, method=method, metric=metric, mean=mean, std=std
                        )


def _check_place(path: KeyPath, spec: PublishedSpec, cells: GridCells, add_problem: AddProblem) -> None:
    """Add a problem if published numbers do not belong to exactly one data set and one architecture of the suite."""
    for key, kind in (("dataset", "datasets"), ("architecture", "architectures")):
        label = getattr(spec, key)
        known = [cell.label for cell in cells[kind]]
        matching = [cell.label for cell in cells[kind] if cell.matches(label)]
        if not matching:
            add_problem((*path, key), f"the suite has no {key} {quoted(label)}; {did_you_mean(label, known)}")
        elif len(matching) > 1:
            add_problem((*path, key), f"say which {key} the numbers belong to: {', '.join(matching)}")
