"""Completion in shells: suites, entries, kinds of entries, and jobs; docs/cli.md says how to switch it on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from recbench.shipped import boards, suites

Completion = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
_YAML = (".yaml", ".yml")


class Kind(click.ParamType):  # type: ignore[type-arg]  # generic in new versions of click only
    """A kind of entries, in the plural or in the singular; the value is the plural."""

    name = "kind"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the kind in the plural."""
        from recbench.errors import did_you_mean
        from recbench.plugin.registry import SINGULAR

        found = [plural for plural, singular in SINGULAR.items() if value in (plural, singular)]
        if not found:
            self.fail(f"'{value}' is no kind of entries; {did_you_mean(str(value), list(SINGULAR))}", param, ctx)
        return found[0]

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """Return what usage lines show."""
        return "KIND"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the kinds that begin like this."""
        from recbench.plugin.registry import SINGULAR

        return _starting(incomplete, SINGULAR)


def complete_entries(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the kinds and the names of entries that begin like this; only names of the kind that was given."""
    from recbench.plugin.manager import KINDS
    from recbench.plugin.registry import SINGULAR

    given = ctx.params.get(param.name or "") or ()
    kinds = [plural for plural, singular in SINGULAR.items() if given and given[0] in (plural, singular)]
    offered = _entries(kinds or KINDS, incomplete)
    return offered if kinds else [*_starting(incomplete, SINGULAR.values()), *offered]


def complete_names(*kinds: str) -> Completion:
    """Return a completion by the names of the entries of these kinds."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return _entries(kinds, incomplete)

    return complete


def complete_scored(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the losses or the metrics that begin like this, as the kind before them says."""
    return _entries(("metrics",) if ctx.params.get("kind") == "metric" else ("losses",), incomplete)


def complete_checked(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the entries that have conformance tests, the files of plugins, and the folders, that begin like this."""
    return [*_entries(("losses", "metrics", "architectures", "datasets"), incomplete), *_files(incomplete, (".py",))]


def complete_shipped_suites(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the suites that are shipped and that begin like this."""
    return _starting(incomplete, suites())


def complete_suites(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the suites that begin like this: those that were run, those with a reference board, and suite files."""
    results = Path(ctx.params.get("results") or "results")
    ran = {path.parent.name for path in results.glob("*/plan.json")}
    return [*_starting(incomplete, sorted(ran.union(boards()))), *_files(incomplete, _YAML)]


def complete_suites_and_jobs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the suites, and the ids of jobs, that begin like this."""
    return [*complete_suites(ctx, param, incomplete), *(complete_jobs(ctx, param, incomplete) if incomplete else ())]


def complete_suite_files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the suites that are shipped, the suite files, and the folders, that begin like this."""
    return [*_starting(incomplete, suites()), *_files(incomplete, _YAML)]


def complete_jobs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the ids of jobs that begin like this."""
    results = Path(ctx.params.get("results") or "results")
    return _starting(incomplete, sorted(path.name for path in results.glob(f"*/jobs/{incomplete}*")))


def _entries(kinds: Iterable[str], incomplete: str) -> list[CompletionItem]:
    from recbench.plugin.manager import load_plugins
    from recbench.plugin.registry import Registry

    registry = Registry(load_plugins())
    names = {entry.entry.name: entry.entry.summary for kind in kinds for entry in registry.all(kind)}
    return [CompletionItem(name, help=text) for name, text in names.items() if name.startswith(incomplete)]


def _files(incomplete: str, endings: tuple[str, ...]) -> list[CompletionItem]:
    """Return the files with these endings, and the folders, that begin like this."""
    folder, _, start = incomplete.rpartition("/")
    here = Path(folder or ("/" if incomplete.startswith("/") else "."))
    found = []
    for path in sorted(here.glob("*")) if here.is_dir() else ():
        if path.name.startswith(start) and (path.suffix in endings or path.is_dir()):
            shown = incomplete[: len(incomplete) - len(start)] + path.name
            found.append(CompletionItem(f"{shown}/" if path.is_dir() else shown))
    return found


def _starting(incomplete: str, choices: Iterable[str]) -> list[CompletionItem]:
    return [CompletionItem(choice) for choice in choices if choice.startswith(incomplete)]
