"""The sections of a board's page: which there are depends on what the jobs left behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recbench.errors import UserError
from recbench.plugin.registry import Registry
from recbench.render import published as published_text
from recbench.report import charts, choosing, models, sheets, tables
from recbench.report.charts import Chart
from recbench.report.content import BoardView, Content, JobView, MethodView, Progress
from recbench.report.sheets import Images, Sheet
from recbench.store.store import Store

PER_KIND = 8
"""Images of each kind: best, worst, …"""
PAIRS = 3
"""Lines of interpolation, between kept test images."""


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        title: in the navigation.
        texts: what a reader must know, a paragraph each.
        template: what is drawn before charts and sheets, if anything.
        files: names and contents of csv files for downloading.
    """

    name: str
    title: str
    heading: str
    texts: tuple[str, ...] = ()
    template: str = ""
    charts: tuple[Chart, ...] = ()
    sheets: tuple[Sheet, ...] = ()
    files: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True)
class Sources:
    """Where a report may take more from than from the records' own files.

    Attributes:
        registry: entries, for citations and to build stored models; None for neither.
        cache: folder of decoded images, where test images that jobs did not keep are found.
        models: whether stored models may be loaded, which imports torch.
    """

    store: Store
    registry: Registry | None
    cache: Path
    models: bool = True
    tell: Progress = lambda text: None


def sections(content: Content, view: BoardView, sources: Sources) -> list[Section]:
    """Everything below the leaderboard, in the order of the page."""
    found = [significance(view), *pictures(view, sources), training(view)]
    found += [
        kernels(view),
        spectra(view),
        rate_distortion(view),
        tuning(view),
        cost(view),
        published(content, view),
        failures(content, view),
    ]
    return [section for section in found if section is not None] + [provenance()]


def significance(view: BoardView) -> Section | None:
    """Rank intervals and groups."""
    chart = charts.tiers(view)
    if chart is None:
        return None
    basis = {name: verdict.basis for name, verdict in view.board.verdicts.items()}
    about = "; ".join(
        f"{', '.join(n for n in basis if basis[n] == each)}: {each}" for each in dict.fromkeys(basis.values())
    )
    texts = (
        f"A dot is a method's place, a line the places that cannot be ruled out at "
        f"{100 * (view.board.confidence or 0):.3g}% confidence. Grey bars at the right join methods of which no two "
        "can be told apart.",
        f"What the intervals are about: {about}." if about else "",
    )
    return Section("tiers", "Tiers", "What can be told apart", tuple(filter(None, texts)), charts=(chart,))


def pictures(view: BoardView, sources: Sources) -> list[Section]:
    """Reconstructions, samples and interpolations."""
    shown = {method.index: method.shown for method in view.methods if method.shown is not None}
    shown = {index: job for index, job in shown.items() if _alike(job, next(iter(shown.values())))}
    if not shown:
        return []
    first = next(iter(shown.values()))
    kept = first.pictures["target"]
    loads = sources.models and sources.registry is not None and _any_model(shown)
    full = _all_test_images(first, sources) if loads else None
    pairs = choosing.far_pairs(kept, PAIRS)
    chosen = _chosen(view, shown, len(kept) if full is None else len(full))
    indices = sorted({index for own in chosen.values() for index in own})
    decoded = models.Decoded()
    if loads and sources.registry is not None:
        wanted = kept[:0] if full is None else np.ascontiguousarray(full[indices])
        decoded = models.decode(view, sources.store, sources.registry, wanted, kept, pairs, sources.tell)
    problems = models.summary(decoded.problems, {method.index: method.label for method in view.methods})
    notes = [f"Not shown: {problem}" for problem in problems]
    images: dict[int, Images] = decoded.images
    if full is not None and images:
        target, missing = np.ascontiguousarray(full[indices]), notes
        how = f"Chosen among all {len(full)} test images, and decoded again by the stored models."
    else:
        chosen = _chosen(view, shown, len(kept))
        indices = sorted({index for own in chosen.values() for index in own})
        images = {index: job.pictures["decoded"][indices] for index, job in shown.items()}
        target, missing = kept[indices], []
        how = f"Chosen among the first {len(kept)} test images, which the jobs keep."
    found = []
    sheet = sheets.reconstructions(view, chosen, indices, target, images, missing)
    if sheet is not None:
        judged = ", ".join(column.name for column in view.board.columns if _has(shown, column.name))
        texts = (f"{how} By {judged or 'no metric'}; every method with its first seed that is done.", _HOW_TO)
        found.append(Section("images", "Images", "The same test images under every method", texts, sheets=(sheet,)))
    drawn = sheets.samples(view)
    if drawn is not None:
        text = "Draws from the prior, decoded: the same draws for every method."
        found.append(Section("samples", "Samples", "Samples from the prior", (text,), sheets=(drawn,)))
    lines = sheets.interpolations(view, decoded.interpolations, kept, pairs, models.STEPS, notes)
    if lines is not None:
        text = (
            "Decoded points on the straight line between the posterior means of two test images that differ much; "
            "above them, the two images blended pixel by pixel."
        )
        found.append(Section("interpolations", "Interpolations", "Latent interpolations", (text,), sheets=(lines,)))
    else:
        reason = "; ".join(problems) or (
            "no job left a model" if sources.models else "no stored models were to be loaded"
        )
        text = f"There are none: {reason}."
        found.append(Section("interpolations", "Interpolations", "Latent interpolations", (text,)))
    return found


def sheet_for(name: str, view: BoardView, sources: Sources) -> Sheet:
    """The sheet of a figure: ``reconstructions``, ``samples``, ``interpolations`` or ``kernels``.

    Raises:
        UserError: the jobs left nothing for it; the text says why, where that is known.
    """
    found = [kernels(view)] if name == "kernels" else [*pictures(view, sources)]
    wanted = "images" if name == "reconstructions" else name
    for section in found:
        if section is not None and section.name == wanted and section.sheets:
            return section.sheets[0]
    why = " ".join(
        text for section in found if section is not None and section.name == wanted for text in section.texts
    )
    raise UserError(f"there is nothing to draw for {name}: no job of {view.board.setting} left what it needs. {why}")


_HOW_TO = (
    "Click a tile, or press Enter on it, to see it large beside the test image. Errors are absolute differences in "
    "grey, amplified: black is no error."
)


def _chosen(view: BoardView, shown: Mapping[int, JobView], available: int) -> dict[str, list[int]]:
    """Test images by the reason why they are shown, among so many from the first."""
    scores, higher = _scores(view, shown)
    enough = [place for place, values in enumerate(scores) if values.shape[1] >= available]
    return choosing.choose([scores[i] for i in enough], [higher[i] for i in enough], PER_KIND, available)


def _alike(job: JobView, other: JobView) -> bool:
    """Whether two jobs kept images of the same shapes, as jobs of one protocol do."""
    return all(job.pictures[name].shape == other.pictures[name].shape for name in ("target", "decoded"))


def _any_model(shown: Mapping[int, JobView]) -> bool:
    return any((job.folder / "model.safetensors").is_file() for job in shown.values())


def _all_test_images(job: JobView, sources: Sources) -> Images | None:
    if job.record is None or job.record.data is None:
        return None
    return models.test_images(job.record.job.dataset.name, sources.cache, job.record.data.fingerprint)


def _has(shown: Mapping[int, JobView], metric: str) -> bool:
    return all(metric in job.per_image for job in shown.values())


def _scores(view: BoardView, shown: Mapping[int, JobView]) -> tuple[list[choosing.Scores], list[bool]]:
    """Scores of all test images by the metrics that every shown job has them of: (methods, images) each."""
    values, higher = [], []
    for column in view.board.columns:
        if _has(shown, column.name):
            own = [job.per_image[column.name] for job in shown.values()]
            if len({len(each) for each in own}) == 1 and not any(np.isnan(each).any() for each in own):
                values.append(np.stack(own))
                higher.append(column.direction == "higher")
    return values, higher


def training(view: BoardView) -> Section | None:
    """Training curves, one panel for each method and one plot for all."""
    chart = charts.curves(view)
    if chart is None:
        return None
    text = (
        "The objective by epoch, a line for each seed, each panel on its own scale: losses have no common one. "
        "Dashed lines, with a cross in the plot below, are of jobs that broke off."
    )
    return Section("training", "Training", "Training curves", (text,), "training.html", (chart,))


def kernels(view: BoardView) -> Section | None:
    """Estimated kernels."""
    sheet = sheets.kernels(view)
    if sheet is None:
        return None
    text = (
        "What the loss estimates for the first test images after every epoch (figure 2 of Bredell et al., 2023). Each "
        "tile is scaled to its own largest entry."
    )
    files = ((f"{view.files}-kernels.csv", tables.kernels(view)),)
    return Section("kernels", "Kernels", "Estimated kernels over the epochs", (text,), sheets=(sheet,), files=files)


def spectra(view: BoardView) -> Section | None:
    """Spectra and radial profiles."""
    chart, sheet = charts.spectra(view), sheets.spectra(view)
    if chart is None or sheet is None:
        return None
    text = (
        f"Mean log-magnitude spectra of reconstructions beside those of the data (figure 6 of Bredell et al., 2023). "
        f"Below zero, a frequency is missing: the images are blurred. {sheet.groups[0].why.capitalize()}."
    )
    files = ((f"{view.files}-spectra.csv", tables.spectra(view)),)
    return Section("spectra", "Spectra", "Spectra and radial profiles", (text,), "", (chart,), (sheet,), files)


def rate_distortion(view: BoardView) -> Section | None:
    """Scores against KL."""
    chart, rate = charts.rate_distortion(view), view.rate
    if chart is None:
        return None
    texts = ["A loss's scale is its KL weight, so scores mean little without the rate that they were bought with."]
    if rate is None:
        texts.append("Points of one loss under several weights are joined; bars span the seeds.")
        return Section("rate-distortion", "Rate–distortion", "Rate and distortion", tuple(texts), charts=(chart,))
    texts.append(f"A line for each loss over its KL weights, scored on the {rate.split} images.")
    files = ((f"{view.files}-rate-distortion.csv", tables.rate_distortion(rate)),)
    name = "rate-distortion"
    return Section(name, "Rate–distortion", "Rate and distortion", tuple(texts), "rates.html", (chart,), (), files)


def tuning(view: BoardView) -> Section | None:
    """What was tried, and what was chosen."""
    if view.tuning is None or not view.searches:
        return None
    rule = view.tuning
    best = "highest" if rule.direction == "higher" else "lowest"
    text = (
        f"Every loss got the same {rule.budget} candidates ({rule.strategy}), each trained with "
        f"{len(rule.candidate_seeds)} seed{'s' if len(rule.candidate_seeds) > 1 else ''}; the one with the {best} "
        f"{rule.metric} on the validation images was trained with {len(rule.seeds)} "
        f"seed{'s' if len(rule.seeds) > 1 else ''} and scored once on the test images."
    )
    chart = charts.tuning(view)
    files = ((f"{view.files}-tuning.csv", tables.tuning(view)),)
    return Section("tuning", "Tuning", "Tuning", (text,), "tuning.html", (chart,) if chart else (), (), files)


def published(content: Content, view: BoardView) -> Section | None:
    """Printed numbers beside ours."""
    if not view.published:
        return None
    text = "Differences are ours less the printed number, also in units of the printed standard deviation."
    table = published_text.to_csv(content.plan.suite, view.published).encode()
    files = ((f"{view.files}-published.csv", table),)
    return Section("published", "Published", "Published against measured", (text,), "published.html", files=files)


def cost(view: BoardView) -> Section | None:
    """Scores against cost."""
    chart = charts.cost(view)
    if chart is None:
        return None
    text = "What a score costs; the dotted line is the Pareto front. Times are of the machines under Provenance."
    return Section("cost", "Cost", "Cost", (text,), charts=(chart,))


def troubles(content: Content, view: BoardView) -> list[tuple[MethodView, JobView]]:
    """Every job of the board that has no scores."""
    return [(method, job) for method in view.methods for job in method.jobs if job.status != "done"]


def failures(content: Content, view: BoardView) -> Section | None:
    """Jobs that failed, diverged, are missing or cannot be used."""
    found = troubles(content, view)
    if not found:
        return None
    text = "Each with its traceback and log on its method's page. Failed ones run again with the same command."
    return Section("failures", "Failures", "Jobs without scores", (text,), "failures.html")


def provenance() -> Section:
    """Where and with what the jobs ran."""
    return Section("provenance", "Provenance", "Provenance", (), "provenance.html")
