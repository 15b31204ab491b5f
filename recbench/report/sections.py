"""The sections of a board's page, as far as the jobs stored what they show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recbench.analysis.interesting import SHOWN, interesting
from recbench.contracts.direction import target
from recbench.errors import UserError
from recbench.plugin.registry import Registry
from recbench.render.published import to_csv
from recbench.report import charts, choosing, models, series, sheets, tables
from recbench.report.charts import Chart
from recbench.report.content import BoardView, Content, JobView, MethodView, StatusCallback
from recbench.report.epochs import over_epochs
from recbench.report.sheets import Images, Sheet
from recbench.store.artifacts import has_model
from recbench.store.store import Store

PER_KIND = 8
"""The number of images of each other kind: best, worst, …"""
MOST_IMAGES = 64
"""The most test images to show in all; those beyond the chosen ones can be reached from the plot of scores."""
MOST_BYTES = 48_000_000
"""The most bytes of pixels for test images beyond the chosen ones."""
PAIRS = 3
"""The number of interpolations between stored test images."""


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        title: the title in the navigation.
        texts: paragraphs of explanation.
        template: a template to show before charts and sheets, if any.
        files: names and contents of CSV files to download.
        first: whether the section is above the leaderboard.
    """

    name: str
    title: str
    heading: str
    texts: tuple[str, ...] = ()
    template: str = ""
    charts: tuple[Chart, ...] = ()
    sheets: tuple[Sheet, ...] = ()
    files: tuple[tuple[str, bytes], ...] = ()
    first: bool = False


@dataclass(frozen=True)
class Sources:
    """Sources that a report may use in addition to the artifacts of the jobs.

    Attributes:
        registry: entries, for citations and to build stored models; None to leave out both.
        cache: folder of decoded images, with the test images that the jobs did not store.
        models: whether stored models may be loaded, which imports torch.
        tell: called with a line of text about each step.
        home: the folder of the suite, if that is not the store's: with its ``suite.yaml``, and where the report goes.
    """

    store: Store
    registry: Registry | None
    cache: Path
    models: bool = True
    tell: StatusCallback = lambda text: None
    home: Path | None = None

    @property
    def folder(self) -> Path:
        """The folder of the suite."""
        return self.home or self.store.root


def sections(content: Content, view: BoardView, sources: Sources) -> list[Section]:
    """Return all sections but the leaderboard, in the order of the page; :attr:`Section.first` ones are above it."""
    found = [failures(content, view), significance(view), *pictures(view, sources), training(view)]
    found += [
        health(view),
        kernels(view),
        spectra(view),
        rate_distortion(view),
        tuning(view),
        cost(view),
        published(content, view),
    ]
    return [section for section in found if section is not None] + [provenance()]


def significance(view: BoardView) -> Section | None:
    """Return the section on rank intervals and significant differences, if there are statistics."""
    chart = charts.tiers(view)
    if chart is None:
        return None
    basis = {name: verdict.basis for name, verdict in view.board.verdicts.items()}
    about = "; ".join(
        f"{each} ({', '.join(n for n in basis if basis[n] == each)})" for each in dict.fromkeys(basis.values())
    )
    texts = (
        f"A dot is a method's rank, a line its rank interval ({series.percent(view.board)}): the ranks that its "
        "significant differences leave open. Grey bars on the right join methods of which no two differ significantly.",
        f"Tests and intervals generalize over {about}." if about else "",
    )
    return Section("tiers", "Tiers", "Significant differences", tuple(filter(None, texts)), charts=(chart,))


def pictures(view: BoardView, sources: Sources) -> list[Section]:
    """Return the sections with reconstructions, samples and interpolations."""
    shown = {method.index: method.shown for method in view.methods if method.shown is not None}
    shown = {index: job for index, job in shown.items() if _alike(job, next(iter(shown.values())))}
    if not shown:
        return []
    first = next(iter(shown.values()))
    # The jobs of a reference board keep fewer than others; the first are the same.
    kept = first.pictures["target"][: min(len(job.pictures["target"]) for job in shown.values())]
    there = [has_model(job.folder) for job in shown.values()]
    loads = sources.models and sources.registry is not None and any(there)
    full = _all_test_images(first, sources) if loads and all(there) else None
    pairs = choosing.far_pairs(kept, PAIRS)
    chosen = chosen_images(view, shown, kept if full is None else full)
    indices = shown_indices(chosen, kept if full is None else full, len(shown))
    decoded = models.DecodedImages()
    if loads and sources.registry is not None:
        wanted = kept[:0] if full is None else np.ascontiguousarray(full[indices])
        decoded = models.decode(view, sources.store, sources.registry, wanted, kept, pairs, sources.tell)
    problems = models.summary(decoded.problems, {method.index: method.label for method in view.methods})
    notes = [f"Not shown: {problem}" for problem in problems]
    images: dict[int, Images] = decoded.images
    if full is not None and images.keys() >= shown.keys():  # else every method is shown with what its job stored
        target = np.ascontiguousarray(full[indices])
        how = f"Selected from all {len(full)} test images, and decoded again by the stored models."
    else:
        chosen = chosen_images(view, shown, kept)
        indices = shown_indices(chosen, kept, len(shown))
        images = {index: job.pictures["decoded"][indices] for index, job in shown.items()}
        target = kept[indices]
        how = f"Selected from the first {len(kept)} test images, which the jobs stored."
    found = []
    sheet = sheets.reconstructions(view, chosen, indices, target, images)
    if sheet is not None:
        metrics = ", ".join(column.name for column in view.board.columns if has_scores(shown, column.name))
        by = f"Best and worst are by {metrics}. " if metrics else ""
        texts = (f"{how} {by}Each method is shown with its first completed seed.", HOW_TO)
        found.append(Section("images", "Images", "The same test images with every method", texts, sheets=(sheet,)))
        if len(images) > 1:
            found.append(Section("compare", "Side by side", "Two methods side by side", (COMPARE,), "compare.html"))
    drawn = sheets.samples(view)
    if drawn is not None:
        text = "Decoded draws from the prior; the draws are the same for every method."
        found.append(Section("samples", "Samples", "Samples from the prior", (text,), sheets=(drawn,)))
    elif any("samples" not in job.pictures for job in shown.values()):
        text = "Not available: the architecture has no prior to draw samples from."
        found.append(Section("samples", "Samples", "Samples from the prior", (text,)))
    lines = sheets.interpolations(view, decoded.interpolations, kept, pairs, models.STEPS, notes)
    if lines is not None:
        text = (
            "Decoded points on the straight line between the posterior means of two dissimilar test images; above "
            "them, the two images blended pixel by pixel."
        )
        found.append(Section("interpolations", "Interpolations", "Latent interpolations", (text,), sheets=(lines,)))
    else:
        reason = "; ".join(problems) or (
            "no job stored a model" if sources.models else "loading stored models was switched off"
        )
        text = f"Not available: {reason}."
        found.append(Section("interpolations", "Interpolations", "Latent interpolations", (text,)))
    return found


def sheet_for(name: str, view: BoardView, sources: Sources) -> Sheet:
    """Return the sheet of a figure: ``reconstructions``, ``samples``, ``interpolations`` or ``kernels``.

    Raises:
        UserError: the jobs did not store what it needs.
    """
    found = [kernels(view)] if name == "kernels" else [*pictures(view, sources)]
    wanted = "images" if name == "reconstructions" else name
    for section in found:
        if section is not None and section.name == wanted and section.sheets:
            return section.sheets[0]
    why = " ".join(
        text for section in found if section is not None and section.name == wanted for text in section.texts
    )
    raise UserError(f"nothing to draw for {name}: no job of {view.board.setting} stored what it needs. {why}".rstrip())


COMPARE = (
    "Zoom and position hold for all panes. Each point of the plot is a test image; a filled one opens the image above."
)
HOW_TO = (
    "Click a tile, or press Enter on it, to enlarge it next to the test image. Errors are amplified absolute "
    "differences in grey; black means no error."
)


def shown_indices(chosen: Mapping[str, Sequence[int]], images: Images, methods: int) -> list[int]:
    """Return the indices of the chosen images and of others, evenly spaced, as far as a page can hold them."""
    found = {index for own in chosen.values() for index in own}
    room = min(sheets.WIDEST // images.shape[-1], MOST_BYTES // (methods * images[0].size), MOST_IMAGES) - len(found)
    others = [index for index in range(len(images)) if index not in found]
    return sorted(found | {others[place] for place in sheets.spread(len(others), max(0, room))})


def chosen_images(view: BoardView, shown: Mapping[int, JobView], images: Images) -> dict[str, list[int]]:
    """Return indices of the test images to show, of those given, by the reason to show them."""
    available = len(images)
    scores, higher = _scores(view, shown)
    enough = [place for place, values in enumerate(scores) if values.shape[1] >= available]
    by_scores = choosing.choose([scores[i] for i in enough], [higher[i] for i in enough], PER_KIND, available)
    return {"interesting": interesting(images, SHOWN), **by_scores}


def _alike(job: JobView, other: JobView) -> bool:
    """Return whether two jobs stored images of the same shape, as jobs of one protocol do."""
    return job.pictures["target"].shape[1:] == other.pictures["target"].shape[1:]


def _all_test_images(job: JobView, sources: Sources) -> Images | None:
    if job.record is None or job.record.data is None:
        return None
    return models.test_images(job.record.job.dataset.name, sources.cache, job.record.data.fingerprint)


def has_scores(shown: Mapping[int, JobView], metric: str) -> bool:
    """Return whether all shown jobs have scores of single images by a metric."""
    return all(metric in job.per_image for job in shown.values())


def _scores(view: BoardView, shown: Mapping[int, JobView]) -> tuple[list[choosing.Scores], list[bool]]:
    """Return scores of shape (methods, images), and their directions, for the metrics that every shown job has."""
    values, higher = [], []
    for column in view.board.columns:
        if has_scores(shown, column.name):
            own = [job.per_image[column.name] for job in shown.values()]
            if len({len(each) for each in own}) == 1 and not any(np.isnan(each).any() for each in own):
                stacked = np.stack(own)
                values.append(stacked if column.target is None else -np.abs(stacked - column.target))
                higher.append(column.direction != "lower")
    return values, higher


def training(view: BoardView) -> Section | None:
    """Return the section with training curves: one panel per method, and one plot with all of them."""
    chart = charts.curves(view)
    if chart is None:
        return None
    text = (
        "The objective by epoch, one line per seed. Each panel has its own scale, since objectives of different losses "
        "are not comparable. Dashed lines, with a cross in the plot below, are jobs that failed or diverged."
    )
    comparable = "The plot shows what can be compared: PSNR and SSIM of the same few validation images."
    # Where some jobs are of a version that did not measure it, another quantity comes first.
    texts = (text, comparable) if next(iter(series.quantities(view)), "") == "validation_psnr" else (text,)
    sheet = over_epochs(view)
    if sheet is None:
        return Section("training", "Training", "Training curves", texts, "training.html", (chart,))
    texts = (*texts, "Below it are reconstructions of the same images as training went on.")
    return Section("training", "Training", "Training curves", texts, "training.html", (chart,), (sheet,))


def health(view: BoardView) -> Section | None:
    """Return the section with health warnings, each with the number that raised it; None if there are none."""
    if not any(method.row.health for method in view.methods):
        return None
    text = (
        "Checks that a training which ended well may still not pass: a board compares such a method as it is, but says "
        "less about its loss."
    )
    return Section("health", "Health", "Health checks", (text,), "health.html")


def kernels(view: BoardView) -> Section | None:
    """Return the section with estimated kernels, if a loss traces any."""
    sheet = sheets.kernels(view)
    if sheet is None:
        return None
    text = (
        "The kernels that the loss estimates for the first test images after each epoch, each beside its image (figure "
        "2 of Bredell et al., 2023). Each tile is scaled to its own largest entry. The plot has a line for each image: "
        "where training goes well, kernels shrink as reconstructions get sharper, and differ between images. A kernel "
        "of a single pixel, or one far from the middle, has collapsed."
    )
    chart = charts.kernels(view)
    plots = (chart,) if chart else ()
    files = ((f"{view.files}-kernels.csv", tables.kernels(view)),)
    title = "Estimated kernels over the epochs"
    return Section("kernels", "Kernels", title, (text,), charts=plots, sheets=(sheet,), files=files)


def spectra(view: BoardView) -> Section | None:
    """Return the section with spectra and their radial profiles."""
    chart, sheet = charts.spectra(view), sheets.spectra(view)
    if chart is None or sheet is None:
        return None
    text = (
        f"Mean log-magnitude spectra of the reconstructions relative to those of the test images (figure 6 of Bredell "
        f"et al., 2023). Negative differences at high frequencies mean blur. {sheet.groups[0].why.capitalize()}."
    )
    files = ((f"{view.files}-spectra.csv", tables.spectra(view)),)
    return Section("spectra", "Spectra", "Spectra and radial profiles", (text,), "", (chart,), (sheet,), files)


def rate_distortion(view: BoardView) -> Section | None:
    """Return the section on rate and distortion: scores against KL."""
    chart, rate = charts.rate_distortion(view), view.rate
    if chart is None:
        return None
    texts = [
        "Scaling a loss has the same effect as changing its KL weight, so scores should be compared at the same rate."
    ]
    if rate is None:
        texts.append("Points of one loss with several KL weights are joined; bars span the seeds.")
        return Section("rate-distortion", "Rate–distortion", "Rate and distortion", tuple(texts), charts=(chart,))
    texts.append(f"One line per loss over its KL weights, scored on the {rate.split} images.")
    files = ((f"{view.files}-rate-distortion.csv", tables.rate_distortion(rate)),)
    name = "rate-distortion"
    return Section(name, "Rate–distortion", "Rate and distortion", tuple(texts), "rates.html", (chart,), (), files)


def tuning(view: BoardView) -> Section | None:
    """Return the section on tuning: the trials and the chosen values."""
    if view.tuning is None or not view.searches:
        return None
    rule = view.tuning
    aim = target(rule.direction)
    best = f"{rule.metric} nearest to {aim:g}" if aim is not None else f"{rule.direction}est {rule.metric}"
    text = (
        f"Every loss had the same budget of {rule.budget} trials ({rule.strategy}), each trained with "
        f"{len(rule.candidate_seeds)} seed{'s' if len(rule.candidate_seeds) > 1 else ''}; the one with the {best} "
        f"on the validation images was trained with {len(rule.seeds)} "
        f"seed{'s' if len(rule.seeds) > 1 else ''} and scored once on the test images."
    )
    chart = charts.tuning(view)
    files = ((f"{view.files}-tuning.csv", tables.tuning(view)),)
    return Section("tuning", "Tuning", "Tuning", (text,), "tuning.html", (chart,) if chart else (), (), files)


def published(content: Content, view: BoardView) -> Section | None:
    """Return the section that compares published with measured scores."""
    if not view.published:
        return None
    text = "Differences are measured minus published, also in units of the published standard deviation."
    table = to_csv(content.plan.suite, view.published).encode()
    files = ((f"{view.files}-published.csv", table),)
    return Section("published", "Published", "Published against measured", (text,), "published.html", files=files)


def cost(view: BoardView) -> Section | None:
    """Return the section with scores against the cost of training."""
    chart = charts.cost(view)
    if chart is None:
        return None
    text = "Scores against the cost of training; the dotted line is the Pareto front. Provenance lists the machines."
    return Section("cost", "Cost", "Cost", (text,), charts=(chart,))


_TROUBLES = ("failed", "diverged", "unusable", "missing")


def troubles(content: Content, view: BoardView) -> list[tuple[MethodView, JobView]]:
    """Return all jobs of the board without scores: those that failed first, those that were not run last."""
    found = [(method, job) for method in view.methods for job in method.jobs if job.status != "done"]
    return sorted(found, key=lambda pair: _TROUBLES.index(pair[1].status))


def failures(content: Content, view: BoardView) -> Section | None:
    """Return the section on jobs that failed, diverged, are missing or have an unusable record.

    It is above the leaderboard, unless jobs are only missing.
    """
    found = troubles(content, view)
    if not found:
        return None
    counts = [(status, sum(job.status == status for _, job in found)) for status in _TROUBLES]
    listed = ", ".join(f"{count} {status}" for status, count in counts if count)
    text = (
        f"Of {sum(1 for _ in view.jobs)} jobs: {listed}. Tracebacks and logs are on the pages of the methods. The same "
        "command runs failed jobs again."
    )
    first = any(job.status != "missing" for _, job in found)
    return Section("failures", "Failures", "Jobs without scores", (text,), "failures.html", first=first)


def provenance() -> Section:
    """Return the section on where the jobs ran, and with which versions."""
    return Section("provenance", "Provenance", "Provenance", (), "provenance.html")
