"""The plugin files that a suite was run with, which later commands on its results load again.

They are kept in the user's cache folder and not next to the results: what results name from elsewhere is never loaded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from recbench.cli.text import echo
from recbench.data.cache import default_cache
from recbench.files import write_atomically
from recbench.store.store import Store


def remember(store: Store, plugin_files: Sequence[str]) -> None:
    """Note the plugin files that a suite is run with. A run without any leaves the note as it is."""
    if plugin_files:
        facts = {
            "suite": str(store.root.resolve()),
            "plugin_files": [str(Path(file).resolve()) for file in plugin_files],
        }
        with suppress(OSError):  # a run does not depend on it
            note = _note(store)
            note.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(note, json.dumps(facts, indent=1).encode())


def with_remembered(store: Store, plugin_files: tuple[str, ...]) -> tuple[str, ...]:
    """Return the plugin files that were given; without any, those that the suite was run with, as far as they are still
    there."""
    if plugin_files:
        return plugin_files
    known: list[str] = []
    with suppress(OSError, ValueError, KeyError, TypeError):
        facts = json.loads(_note(store).read_bytes())
        if facts["suite"] == str(store.root.resolve()):
            known = [str(file) for file in facts["plugin_files"] if Path(file).is_file()]
    if known:
        echo(f"loading {', '.join(known)}, as {store.root.name} was run with", err=True)
    return tuple(known)


def _note(store: Store) -> Path:
    name = hashlib.sha256(str(store.root.resolve()).encode()).hexdigest()[:16]
    return default_cache() / "plugins" / f"{name}.json"
