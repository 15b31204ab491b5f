"""Files of a new plugin, to start from: a single file, or a whole distribution with tests.

What is written works as it is: it passes the conformance tests and can be used in a suite. Templates are in
``templates/``; ``single`` in them tells a single file from a module of a distribution.
"""

from __future__ import annotations

import importlib.util
import keyword
import re
from dataclasses import dataclass
from pathlib import Path

import jinja2

from recbench.errors import UserError, did_you_mean, quoted
from recbench.files import write_output

KINDS = ("loss", "metric", "architecture", "dataset")
_PLURAL = {"loss": "losses", "metric": "metrics", "architecture": "architectures", "dataset": "datasets"}
_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=False,  # noqa: S701 - Python files, of a checked name
    keep_trailing_newline=True,
    trim_blocks=True,
    undefined=jinja2.StrictUndefined,
)


@dataclass(frozen=True)
class NewPlugin:
    """A plugin to write: what it is, and its names."""

    kind: str
    name: str

    def __post_init__(self) -> None:
        """Check the names.

        Raises:
            UserError: the kind is none, or the name cannot be that of an entry and of a module.
        """
        if self.kind not in KINDS:
            raise UserError(f"cannot write a {quoted(self.kind)}; {did_you_mean(self.kind, KINDS)}")
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,59}", self.name):
            raise UserError(f"{quoted(self.name)} must be lower case letters, digits and underscores, such as my_loss")
        if keyword.iskeyword(self.name) or keyword.issoftkeyword(self.name):
            raise UserError(f"'{self.name}' is a word of Python; choose another name")

    @property
    def plural(self) -> str:
        """The kind as hooks and registry call it."""
        return _PLURAL[self.kind]

    @property
    def class_name(self) -> str:
        """``my_loss`` as a class is called: ``MyLoss``."""
        return "".join(part.capitalize() for part in self.name.split("_") if part)

    @property
    def distribution(self) -> str:
        return f"recbench-{self.name.replace('_', '-').strip('-')}"

    @property
    def package(self) -> str:
        return f"recbench_{self.name}"

    def single_file(self, folder: Path) -> dict[Path, str]:
        """Return the single-file plugin ``NAME.py`` by its path.

        Raises:
            UserError: a file of that name would hide a module that is installed.
        """
        if importlib.util.find_spec(self.name) is not None and not (folder / f"{self.name}.py").exists():
            raise UserError(
                f"{self.name}.py would hide the installed module '{self.name}' from scripts next to it; "
                "choose another name, or --distribution"
            )
        return {folder / f"{self.name}.py": self._filled(f"{self.kind}.py.jinja", single=True)}

    def whole_distribution(self, folder: Path) -> dict[Path, str]:
        """Return the files of a distribution ``recbench-NAME/`` by their paths."""
        root = folder / self.distribution
        return {
            root / "pyproject.toml": self._filled("pyproject.toml.jinja"),
            root / "README.md": self._filled("README.md.jinja"),
            root / self.package / "__init__.py": self._filled("init.py.jinja"),
            root / self.package / f"{self.plural}.py": self._filled(f"{self.kind}.py.jinja"),
            root / "tests" / "test_conformance.py": self._filled("test_conformance.py.jinja"),
        }

    def _filled(self, template: str, *, single: bool = False) -> str:
        factory = self.class_name if single else f'"{self.package}.{self.plural}:{self.class_name}"'
        return _TEMPLATES.get_template(template).render(
            kind=self.kind,
            plural=self.plural,
            name=self.name,
            class_name=self.class_name,
            package=self.package,
            distribution=self.distribution,
            factory=factory,
            single=single,
        )


def write_new(files: dict[Path, str]) -> None:
    """Write new files, all or none; none of them may be there.

    Raises:
        UserError: one of them, or the folder of a distribution, is there already, or cannot be written.
    """
    for path in files:
        if path.exists() or path.is_symlink():
            raise UserError(f"{path} is there already; nothing was written")
    for path, content in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{path.parent} cannot be made: {error.strerror}") from None
        write_output(path, content.encode())
