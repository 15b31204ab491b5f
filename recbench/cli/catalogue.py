"""``recbench list``, ``recbench show`` and ``recbench plugins``: the available entries and plugins."""

from __future__ import annotations

import math
from dataclasses import fields

import click

from recbench.cli.completion import Kind, complete_entries
from recbench.cli.options import load, plugin_options
from recbench.cli.text import echo, say
from recbench.cli.weights import shown_size
from recbench.contracts.direction import direction_words
from recbench.contracts.entries import (
    ArchitectureEntry,
    DatasetEntry,
    Entry,
    ExecutorEntry,
    LossEntry,
    MetricEntry,
    MetricScore,
    Parameter,
    TrackerEntry,
)
from recbench.contracts.sums import PREFIX, SumEntry
from recbench.errors import PluginError, UserError, did_you_mean
from recbench.plugin.manager import KINDS, find_plugins
from recbench.plugin.registry import SINGULAR, Registered, Registry, conflicts

_BASE = {field.name for field in fields(Entry)}


_KIND = Kind()


@click.command("list")
@click.argument("kind", type=_KIND)
@plugin_options
def list_command(kind: str, plugin_files: tuple[str, ...], blocked: tuple[str, ...], strict: bool) -> None:
    """List the available losses, architectures, datasets, metrics, executors or trackers."""
    from recbench.cli.terminal import print_lines

    registry = Registry(load(plugin_files, blocked, strict))
    print_lines((registered.entry.name, registered.entry.summary) for registered in registry.all(kind))


@click.command("show")
@click.argument("words", nargs=-1, required=True, metavar="[KIND] NAME", shell_complete=complete_entries)
@plugin_options
def show_command(words: tuple[str, ...], plugin_files: tuple[str, ...], blocked: tuple[str, ...], strict: bool) -> None:
    """Show the parameters with defaults, the requirements and the citation of an entry, as in ``show loss wiener``.

    KIND is needed only where entries of several kinds have the same NAME.
    """
    if len(words) > 2 or (words[0] in (*SINGULAR, *SINGULAR.values()) and len(words) == 1):
        raise click.UsageError(f"show {' '.join(words)}: expected a kind and a name, as in 'show loss wiener'")
    registry = Registry(load(plugin_files, blocked, strict))
    for place, registered in enumerate(_meant(registry, words)):
        if place:
            say()
        _show(registered)


def _meant(registry: Registry, words: tuple[str, ...]) -> list[Registered]:
    """Return the entries that ``[KIND] NAME`` means.

    Raises:
        UserError: there is none.
    """
    *kinds, name = words
    if kinds or name.startswith(PREFIX):
        return [registry.get(_KIND.convert(kinds[0], None, None) if kinds else "losses", name)]
    everything = [registered for kind in KINDS for registered in registry.all(kind)]
    found = [registered for registered in everything if registered.entry.name == name]
    if not found:
        known = sorted({registered.entry.name for registered in everything})
        raise UserError(f"there is no entry '{name}'; {did_you_mean(name, known)}")
    return found


def _show(registered: Registered) -> None:
    entry = registered.entry
    say(f"{entry.name}: {entry.summary}\n")
    facts = [("kind", registered.kind), ("plugin", registered.plugin.provider), *_facts(entry)]
    for label, text in facts:
        say(f"  {label:<14}{text}")
    if entry.parameters:
        say("\nparameters")
        for parameter in entry.parameters:
            say(f"  {parameter.name}: {_signature(parameter)}\n      {parameter.doc}")
    if isinstance(entry, DatasetEntry) and entry.files:
        say("\nfiles, which 'recbench data prepare' fetches into root")
        for file in entry.files:
            say(f"  {file.file}, {shown_size(file.size)}, {file.address}")
    if isinstance(entry, DatasetEntry) and entry.obtain:
        say(f"\n{entry.obtain}")
    if entry.notes:
        say(f"\n{entry.notes}")
    if entry.citation:
        say(f"\ncitation\n  {entry.citation}")


def _facts(entry: Entry) -> list[tuple[str, str]]:
    takes = entry.parts.values() if isinstance(entry, SumEntry) else [entry]
    facts = [("takes", "; ".join(dict.fromkeys(str(each.requirements) for each in takes)))]
    if isinstance(entry, ExecutorEntry | TrackerEntry):
        facts = []
    if isinstance(entry, TrackerEntry | MetricEntry) and entry.packages:
        facts.append(("packages", ", ".join(entry.packages) + (f" ({entry.install})" if entry.install else "")))
    if isinstance(entry, DatasetEntry) and entry.licence:
        facts.append(("licence", entry.licence))
    if isinstance(entry, LossEntry):
        facts.append(("image values", f"{entry.value_range[0]:g} to {entry.value_range[1]:g}"))
    if isinstance(entry, MetricEntry) and not entry.scores:
        facts.append(("better", direction_words(entry.direction)))
    if isinstance(entry, LossEntry | MetricEntry):
        families = sorted(entry.families) if isinstance(entry, LossEntry) else [entry.family]
        facts.append(("families" if len(families) > 1 else "family", ", ".join(families)))
    if isinstance(entry, LossEntry) and entry.couples_batch:
        some = "" if entry.couples_batch is True else ", with some parameters"
        facts.append(("batch", f"the value of an image depends on the other images of its batch{some}"))
    if isinstance(entry, LossEntry) and entry.stops_gradient:
        facts.append(("gradient", "not the derivative of the value: part of the value is held constant"))
    if isinstance(entry, MetricEntry):
        facts += _scores(entry)
        facts.append(("evaluates", "samples from the prior" if entry.samples else "reconstructions"))
        facts.append(("input", "images rounded to 8 bits" if entry.rounded else "unrounded images"))
    if isinstance(entry, ArchitectureEntry):
        if not entry.has_prior:
            facts.append(("prior", "none: there are no samples, and metrics of samples have no score"))
        if not entry.has_kl:
            facts.append(("KL", "none: kl, nll_bound and bits_per_dim have no score"))
    for weights in entry.weights:
        facts.append(("weights", f"can need {weights.file} (recbench weights list)"))
    return facts


def _scores(entry: MetricEntry) -> list[tuple[str, str]]:
    """Return the range of a metric's score, or a line for each of its scores; and what it is the distance of."""
    facts = [("scores", f"{entry.score_range[0]:g} to {entry.score_range[1]:g}")]
    if entry.scores:
        several = [entry.score(name) for name in entry.score_names]
        facts = [
            ("" if place else "scores", f"{score.name}: {', '.join(filter(None, [score.summary, _better(score)]))}")
            for place, score in enumerate(several)
        ]
    if entry.convention is not None:
        reference = entry.convention.reference
        which = {"test": "the test images", "train": "the training images"}
        facts.append(("compares with", which.get(reference, f"the images that the parameter {reference} says")))
        facts.append(("resizes", entry.convention.resize))
        some = f"all, or as many as the parameter {entry.convention.limit} says" if entry.convention.limit else "all"
        facts.append(("images", some))
    return facts


def _better(score: MetricScore) -> str:
    low, high = score.score_range or (-math.inf, math.inf)
    return f"{low:g} to {high:g}, better {direction_words(score.direction or 'higher')}"


def _signature(parameter: Parameter) -> str:
    parts = [f"{parameter.type_name}, default {parameter.default}"]
    if parameter.choices:
        parts.append(f"one of {', '.join(map(str, parameter.choices))}")
    for word, bound in (("at least", parameter.minimum), ("above", parameter.above), ("at most", parameter.maximum)):
        if bound is not None:
            parts.append(f"{word} {bound:g}")
    if parameter.tunable is not None:
        logarithmic = ", logarithmic" if parameter.tunable.log else ""
        parts.append(f"tunable from {parameter.tunable.low:g} to {parameter.tunable.high:g}{logarithmic}")
    return ", ".join(parts)


@click.command("plugins")
@click.option("--details", is_flag=True, help="Print full tracebacks of broken plugins.")
@plugin_options
def plugins_command(details: bool, plugin_files: tuple[str, ...], blocked: tuple[str, ...], strict: bool) -> None:
    """List all plugins with their distributions and versions, and those that failed to load with the reason."""
    from recbench.cli.terminal import print_table

    plugins = find_plugins(plugin_files, blocked)
    rows = []
    for plugin in plugins.found:
        offers = ", ".join(_count(kind, len(entries)) for kind, entries in plugin.entries.items())
        rows.append((plugin.name, plugin.distribution, plugin.version, plugin.status, plugin.error or offers))
    print_table("plugins", ("plugin", "distribution", "version", "status", "offers, or error"), rows)
    for plugin in plugins.broken:
        echo(f"\n{plugin.report(10_000 if details else 6)}", err=True)
    if any(plugin.details for plugin in plugins.broken) and not details:
        echo("\nrecbench plugins --details shows full tracebacks", err=True)
    clashes = conflicts(plugins)
    for clash in clashes:
        echo(f"\nconflict: {clash}", err=True)
    if strict and (plugins.broken or clashes):
        raise PluginError(f"{len(plugins.broken)} plugins are broken, {len(clashes)} conflicts (--strict)")


def _count(kind: str, number: int) -> str:
    return f"{number} {kind if number != 1 else SINGULAR[kind]}"
