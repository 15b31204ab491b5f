"""Brings the repository's pages into the site at their own places, so that links lead where they lead in a clone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parents[2]
SHOWN = (
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "CITATION.cff"),
    *(
        "docs/*.*",
        "docs/examples/*.py",
        "docs/Dockerfile",
        "plugins/*/README.md",
        "results/README.md",
        "suites/*.yaml",
        "recbench/**/*.py",
    ),
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add all that a page shows or links to."""
    from mkdocs.structure.files import File

    for pattern in SHOWN:
        for path in sorted(ROOT.glob(pattern)):
            files.append(File(str(path.relative_to(ROOT)), str(ROOT), config.site_dir, config.use_directory_urls))
    return files
