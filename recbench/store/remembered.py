"""Notes of what a suite was run with, for later commands on its results: plugin files, and the board of a try.

It is kept in the user's cache folder and not next to the results: what results name from elsewhere is never loaded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from recbench.data.cache import default_cache
from recbench.files import write_atomically
from recbench.store.store import Store


def remember(store: Store, plugin_files: Sequence[str], board: str = "") -> None:
    """Note what a suite is run with. A run without plugin files, or without a board, leaves those of before.

    Args:
        store: the results of the suite.
        plugin_files: the single-file plugins.
        board: where the results of the board are that a try ranks a loss on, or the name of a shipped one.
    """
    new = {"plugin_files": [str(Path(file).resolve()) for file in plugin_files], "board": board}
    known = {name: value for name, value in new.items() if value}
    if known:
        facts = {**_facts(store), "suite": str(store.root.resolve()), **known}
        with suppress(OSError):  # a run does not depend on it
            note = _note(store)
            note.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(note, json.dumps(facts, indent=1).encode())


def remembered_files(store: Store) -> tuple[str, ...]:
    """Return the plugin files that a suite was run with, as far as they are still there."""
    files = _facts(store).get("plugin_files")
    return tuple(str(file) for file in files if Path(str(file)).is_file()) if isinstance(files, list) else ()


def remembered_board(store: Store) -> str:
    """Return the board that a try was ranked on; empty if that is not known."""
    return str(_facts(store).get("board", ""))


def _facts(store: Store) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        facts = json.loads(_note(store).read_bytes())
        if isinstance(facts, dict) and facts.get("suite") == str(store.root.resolve()):
            return facts
    return {}


def _note(store: Store) -> Path:
    name = hashlib.sha256(str(store.root.resolve()).encode()).hexdigest()[:16]
    return default_cache() / "plugins" / f"{name}.json"
