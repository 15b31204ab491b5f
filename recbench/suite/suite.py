"""Loading of a suite: from a YAML file to a plan. All problems of the file are found before any job runs.

Any parameter may be given as ``{grid: [a, b, …]}``; the suite then spans all combinations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recbench.errors import Problem, SuiteError
from recbench.plan.plan import Plan
from recbench.plugin.registry import Registry
from recbench.suite.document import load
from recbench.suite.expansion import plan_of, resolved_text
from recbench.suite.schema import unfold_short_forms
from recbench.suite.validation import Validator


@dataclass(frozen=True)
class Suite:
    """A valid suite.

    Attributes:
        plan: its jobs.
        resolved: its text with every default filled in, which is a suite file again.
        lacking: pretrained weights that are missing on this machine, without which its jobs cannot run.
        executors: parameters for executors by name, which do not belong to the definition of a job.
    """

    plan: Plan
    resolved: str
    lacking: tuple[Problem, ...] = ()
    executors: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def load_suite(
    file: Path,
    registry: Registry,
    overrides: Sequence[str] = (),
    *,
    maximum_jobs: int = 10_000,
    ask: Callable[[int], bool] | None = None,
) -> Suite:
    """Read, validate and expand a suite file.

    Args:
        file: the YAML file.
        registry: the entries that the suite may name.
        overrides: ``dotted.key=value`` assignments, as given with ``--set``.
        maximum_jobs: limit on the number of jobs.
        ask: called with the number of jobs of a suite above the limit; returns True to expand it nevertheless.

    Returns:
        The suite, with its plan.

    Raises:
        SuiteError: the suite is invalid; carries all problems, each with file, line and key.
    """
    document = load(file)
    if not isinstance(document.data, dict):
        message = "expected a suite: a mapping with datasets, architectures, losses, metrics, seeds and training"
        raise SuiteError([Problem(str(file), 1, "", message)])
    problems = list(document.problems)
    for assignment in overrides:
        try:
            document.override(assignment)
        except SuiteError as error:
            problems.extend(error.problems)
    unfold_short_forms(document.data)
    validator = Validator(document, problems, registry, default_name=file.stem, maximum_jobs=maximum_jobs, ask=ask)
    valid = validator.validate()
    return Suite(plan_of(valid), resolved_text(valid), valid.lacking, valid.executors)
