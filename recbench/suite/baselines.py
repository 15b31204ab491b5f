"""The section ``baselines`` of a suite: architectures that are fitted without training, as rows below its boards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from recbench.contracts.entries import ArchitectureEntry, ImageShape
from recbench.errors import PluginError, did_you_mean, quoted
from recbench.plan.components import component
from recbench.plan.model import Baseline, BoardSetting, ComponentSpec, Method, PlannedJob, Training
from recbench.plan.plan import Plan
from recbench.plan.tuning import REFERENCE
from recbench.plugin.registry import Registered, Registry
from recbench.suite.document import KeyPath
from recbench.suite.grid import GridCell
from recbench.suite.schema import Choice, SuiteFile
from recbench.suite.values import AddProblem, is_label

LATENT_SIZE = "latent_size"


@dataclass(frozen=True)
class BaselineCell:
    """A baseline of the boards of one architecture.

    Attributes:
        label: of its rows.
        architecture: index of the architecture whose boards it is on.
        spec: the architecture that is fitted.
        loss: what its job has as a loss; nothing is trained by it.
    """

    label: str
    architecture: int
    spec: ComponentSpec
    loss: ComponentSpec


def baseline_cells(
    suite: SuiteFile,
    architectures: Sequence[GridCell],
    shapes: Sequence[ImageShape | None],
    registry: Registry,
    add_problem: AddProblem,
) -> Iterator[BaselineCell]:
    """Yield the valid baselines of each architecture, and add a problem for each that is not."""
    choices: Sequence[Choice | None] = suite.baselines  # None in place of an invalid one
    if choices and registry.find("losses", REFERENCE) is None:
        add_problem(("baselines",), f"a baseline's job needs a loss: {registry.unknown('losses', REFERENCE)}")
        return
    seen: set[str] = set()
    said: set[tuple[KeyPath, str]] = set()

    def say(path: KeyPath, message: str) -> None:
        """Add a problem, of all architectures once."""
        if (path, message) not in said:
            said.add((path, message))
            add_problem(path, message)

    for index, choice in enumerate(choices):
        path: KeyPath = ("baselines", index)
        registered = choice and _fitted(choice, path, registry, add_problem)
        if choice is None or not registered:
            continue
        label = choice.label or choice.name
        if label in seen or not is_label(label):
            what = "is also that of another baseline; give one of them another label"
            add_problem((*path, "label"), f"the label {quoted(label)} {what if label in seen else 'is not valid'}")
        seen.add(label)
        for place, architecture in enumerate(architectures):
            spec = _spec(registered, choice, path, architecture, shapes, say)
            if spec is not None:
                yield BaselineCell(label, place, spec, _reference(registry))


def _reference(registry: Registry) -> ComponentSpec:
    registered = registry.get("losses", REFERENCE)
    return component(registered, registered.entry.complete({}))


def _fitted(choice: Choice, path: KeyPath, registry: Registry, add_problem: AddProblem) -> Registered | None:
    """Return the entry of a baseline; None, with a problem, if there is none, or it is trained."""
    registered = registry.find("architectures", choice.name)
    if registered is None:
        add_problem((*path, "name"), registry.unknown("architectures", choice.name))
        return None
    if cast(ArchitectureEntry, registered.entry).trainable:
        what = "is trained, and a baseline is fitted without training, as pca and downsample are"
        add_problem((*path, "name"), f"{choice.name} {what}; train it under architectures")
        return None
    entry = registered.entry
    known = [parameter.name for parameter in entry.parameters]
    problems = {}
    for name, value in choice.params.items():
        parameter = entry.parameter(name)
        if parameter is None:
            problems[name] = f"{entry.name} has no such parameter; {did_you_mean(name, known)}"
            continue
        try:
            parameter.coerce(value)
        except ValueError as error:
            problems[name] = str(error)
    for name, what in problems.items():
        add_problem((*path, "params", name), what)
    return None if problems else registered


def _spec(
    registered: Registered,
    choice: Choice,
    path: KeyPath,
    architecture: GridCell,
    shapes: Sequence[ImageShape | None],
    add_problem: AddProblem,
) -> ComponentSpec | None:
    """Return a baseline with the latent size of an architecture, unless it has a latent size of its own."""
    entry, params = registered.entry, dict(choice.params)
    if entry.parameter(LATENT_SIZE) is not None and LATENT_SIZE not in params:
        if LATENT_SIZE not in architecture.params:
            what = f"{architecture.label} has no parameter {LATENT_SIZE} to take; set it, as in {{{LATENT_SIZE}: 64}}"
            add_problem((*path, "params"), what)
            return None
        params[LATENT_SIZE] = architecture.params[LATENT_SIZE]
    complete = entry.complete(params)
    try:
        spec = component(registered, complete)
    except PluginError as error:
        add_problem(path, str(error))
        return None
    for shape in dict.fromkeys(filter(None, shapes)):
        for reason in entry.refusals(shape, complete):
            add_problem(path, f"{choice.label or choice.name} cannot take the {shape} images: it {reason}")
    return spec


def with_baselines(plan: Plan, cells: Sequence[BaselineCell], architectures: int, trainings: int) -> Plan:
    """Return a plan with a job for each baseline of each data set: those that differ in nothing share one.

    Args:
        plan: with all its settings: data sets × architectures × trainings.
        cells: the baselines.
        architectures, trainings: how many of them the suite has.
    """
    settings, methods, jobs, found = list(plan.settings), list(plan.methods), list(plan.jobs), list[Baseline]()
    for number, board in enumerate(plan.settings):
        for cell in cells:
            if cell.architecture != number // trainings % architectures:
                continue
            at = _setting(settings, board, cell, len(plan.settings))
            if not any(job.setting == at for job in jobs):
                named = [method.label == cell.label for method in methods[len(plan.methods) :]]
                place = len(plan.methods) + (named.index(True) if any(named) else len(named))
                if not any(named):
                    methods.append(Method(label=cell.label, loss=cell.loss, kl_weight=0.0))
                jobs.append(PlannedJob(id="", setting=at, method=place, seed=0))
            found.append(Baseline(label=cell.label, setting=number, fitted=at))
    grown = plan.model_copy(update={"settings": tuple(settings), "methods": tuple(methods)})
    named_jobs = tuple(job if job.id else job.model_copy(update={"id": grown.job(job).id}) for job in jobs)
    return grown.model_copy(update={"jobs": named_jobs, "baselines": tuple(found)})


def _setting(settings: list[BoardSetting], board: BoardSetting, cell: BaselineCell, boards: int) -> int:
    """Return the index of the setting of a baseline, which is added if it is new."""
    data = board.label.partition(" · ")[0]
    label, number = f"{data} · {cell.label} (baseline)", 2
    for place, other in enumerate(settings[boards:], boards):
        if (other.dataset, other.architecture) == (board.dataset, cell.spec):
            return place
    taken = {other.label for other in settings}
    while label in taken:
        label, number = f"{data} · {cell.label} (baseline {number})", number + 1
    fitted = {"label": label, "architecture": cell.spec, "training": Training(epochs=1)}
    settings.append(board.model_copy(update=fitted))
    return len(settings) - 1
