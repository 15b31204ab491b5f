"""``recbench check``."""

from __future__ import annotations

import json
import math
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recbench.cli.completion import complete_checked
from recbench.cli.options import load, parameters, plugin_options
from recbench.cli.text import echo
from recbench.contracts.direction import direction_words
from recbench.errors import PluginError, UserError, did_you_mean
from recbench.plugin.isolation import call_in_fork
from recbench.plugin.registry import SINGULAR, Registered, Registry

if TYPE_CHECKING:
    from recbench.testing.card import Card
    from recbench.testing.checked_entry import CheckedEntry

KINDS = ("losses", "metrics", "architectures", "datasets")
_BARS = "▁▂▃▄▅▆▇█"


@click.command("check")
@click.argument("target", metavar="FILE|NAME", shell_complete=complete_checked)
@click.option("-p", "assignments", multiple=True, metavar="KEY=VALUE", help="Parameter of the entry. Repeatable.")
@click.option("--no-card", is_flag=True, help="Print the results of the tests only.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@plugin_options
def check_command(
    target: str,
    assignments: tuple[str, ...],
    no_card: bool,
    form: str,
    plugin_files: tuple[str, ...],
    blocked: tuple[str, ...],
    strict: bool,
) -> None:
    """Run the conformance tests of all that FILE offers, or of the entry NAME, and print a card of each.

    FILE is a single-file plugin. Nothing is trained. The card of a loss or metric says what it does with blur, noise,
    shift, contrast and JPEG beside l2, whether equal images are its minimum, whether it is deterministic, what it
    costs, and which spatial frequencies it sees. Exit code 1: a test failed.
    """
    is_file = target.endswith(".py") or Path(target).is_file()
    files = (*plugin_files, target) if is_file and target not in plugin_files else plugin_files
    registry = Registry(load(files, blocked, strict))
    meant = list(_of_file(registry, Path(target)) if is_file else _of_name(registry, target))
    results = [_checked(kind, one, assignments, registry) for kind, one in meant]
    if form == "json":
        echo(json.dumps([_plain(asdict(one)) for one in results], indent=1, ensure_ascii=False))
    else:
        echo("\n".join(text for one in results for text in _lines(one, card=not no_card)))
    sys.exit(1 if any(one.failures for one in results) else 0)


def _of_file(registry: Registry, file: Path) -> Iterator[tuple[str, Registered]]:
    """Yield all that a single-file plugin offers, with its kind."""
    origin = str(file.resolve())
    found = [(kind, one) for kind in KINDS for one in registry.all(kind) if one.plugin.origin == origin]
    if not found:
        raise UserError(f"{file} offers no loss, metric, architecture or dataset; only these have conformance tests")
    yield from found


def _of_name(registry: Registry, name: str) -> Iterator[tuple[str, Registered]]:
    found = [(kind, one) for kind in KINDS if (one := registry.find(kind, name)) is not None]
    if not found:
        known = sorted({known for kind in KINDS for known in registry.names(kind)})
        raise UserError(f"there is no entry and no file '{name}'; {did_you_mean(name, known)}")
    yield from found


def _checked(kind: str, one: Registered, assignments: tuple[str, ...], registry: Registry) -> CheckedEntry:
    """Check an entry in a process of its own, which its code cannot bring down."""
    params = parameters(one.entry, "-p", assignments)

    def check() -> CheckedEntry:
        from recbench.testing.checked_entry import check_entry

        return check_entry(kind, one, params, registry)

    try:
        return call_in_fork(check)
    except PluginError as error:
        raise PluginError(f"{one.entry.name} of {one.plugin.provider}: checking it {error}") from None


def _lines(one: CheckedEntry, *, card: bool) -> Iterator[str]:
    yield f"{SINGULAR[one.kind]} {one.name}, of {one.provider}"
    if one.params:
        text = "with " + ", ".join(f"{key}={value}" for key, value in one.params.items())
        yield textwrap.fill(text, 78, initial_indent="  ", subsequent_indent="    ", break_long_words=False)
    total = one.passed + len(one.failures)
    yield f"  {one.passed} of {total} conformance tests passed"
    for reason, count in one.skipped.items():
        yield f"  {count} skipped: {reason}"
    for case, why in one.failures:
        yield f"  FAILED {case}"
        yield f"    {why}"
    if card:
        for name, value in one.facts.items():
            yield f"  {name:<20} {value}"
        if one.no_card:
            yield f"  no card: {one.no_card}"
        yield from (f"  {line}".rstrip() for line in _cards(one))
    yield ""


def _cards(one: CheckedEntry) -> Iterator[str]:
    """Yield the card of a loss or of a metric's score, or that of each score; and once what holds for all of them."""
    cards = {one.name: one.card} if one.card is not None else one.cards
    for name, card in cards.items():
        yield ""
        if one.card is None:
            yield f"score {name}"
        yield from _card(name, card)
    if cards:
        if one.card is None:
            yield ""
        yield from _common(list(cards.values()))


def _card(name: str, card: Card) -> Iterator[str]:
    loss = card.slope_at_identity is not None
    heads = ["distortion", "strength", "value", "l2", "× l2"] + (["gradient", "× l2", "cosine"] if loss else [])
    yield _row(heads)
    for each in card.responses:
        cells = [each.kind, each.strength, f"{each.value:.4g}", f"{each.l2:.4g}", _ratio(each.ratio)]
        if loss:
            cells += [f"{each.gradient:.4g}", _ratio(each.gradient_ratio), f"{each.cosine:.2f}"]
        yield _row(cells)
    yield ""
    yield from _verdict(name, card)
    if card.direction is not None:
        yield f"{'better':<16}{direction_words(card.direction)}"
    kinds = ", ".join(dict.fromkeys(each.kind for each in card.responses if each.better))
    better = f"NO: some distortion is rated better: {kinds}" if kinds else "no distortion is rated better"
    slope = f", gradient {card.slope_at_identity:.3g}" if card.slope_at_identity is not None else ""
    equal = f"{card.at_identity:.4g}{slope}; {better}"
    yield from textwrap.wrap(equal, 78, initial_indent=f"{'equal images':<16}", subsequent_indent=" " * 16)
    if all(map(math.isfinite, card.spectrum)):
        top = max(card.spectrum)
        bars = "".join(_BARS[min(7, int(8 * band / top))] for band in card.spectrum)
        yield f"{'frequencies':<16}low {bars} high: {' '.join(f'{band:.2g}' for band in card.spectrum)}; l2 is 1"


def _common(cards: list[Card]) -> Iterator[str]:
    """Yield what the calls say that all cards of an entry are made of."""
    card = cards[0]
    deterministic, seeded = all(each.deterministic for each in cards), all(each.seeded for each in cards)
    same = "bit for bit the same from one seed" if deterministic else "NOT the same from one seed"
    yield f"{'determinism':<16}{same}; {'draws no random numbers' if seeded else 'draws random numbers'}"
    cost = f"{1000 * card.seconds:.3g} ms an image ({card.seconds / card.l2_seconds:.3g} × l2)"
    yield f"{'cost':<16}{cost}{'' if card.slope_at_identity is None else ' with gradient'}, one thread"
    if card.saved_bytes is not None:
        yield f"{'memory':<16}{card.saved_bytes / 1e6:.3g} MB an image kept for the gradient"
    if card.parameters:
        yield f"{'own values':<16}{card.parameters:,} parameters and buffers"
    yield f"{'images':<16}crops of photographs, {'x'.join(map(str, card.shape))}"


def _row(cells: list[str]) -> str:
    widths = (10, 8, 9, 9, 5, 9, 5, 6)
    return "  ".join(
        cell.ljust(width) if i < 2 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(cells, widths[: len(cells)], strict=True))
    )


def _ratio(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}" if value < 100 else f"{value:.3g}"


def _verdict(name: str, card: Card) -> Iterator[str]:
    """Yield in words which distortions are punished more, and which less, than l2 does, and which not at all."""
    kinds = {kind: ratio for kind, ratio in card.kinds.items() if math.isfinite(ratio)}
    more = sorted((kind for kind in kinds if kinds[kind] > 1.1), key=lambda kind: -kinds[kind])
    less = sorted((kind for kind in kinds if kinds[kind] < 1 / 1.1), key=lambda kind: kinds[kind])
    changed = {each.kind for each in card.responses if each.change}
    ignored = [kind for kind in card.kinds if kind not in changed]
    if not changed:
        yield f"no distortion changes {name}"
    elif ignored:
        yield f"{'ignores':<16}{', '.join(ignored)}"
    elif not more and not less:
        yield f"{name} weighs these distortions as l2 does"
    for word, found in (("more", more), ("less", less)):
        if found:
            yield f"punishes {word:<7}" + ", ".join(f"{kind} × {kinds[kind]:.2f}" for kind in found)


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: no NaN, and infinity as text."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
