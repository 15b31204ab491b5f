"""The digest of an entry's code: what it covers, and what leaves it alone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry

HOOKS = """
from recbench import LossEntry, Parameter, hookimpl

@hookimpl
def recbench_losses():
    yield LossEntry(name="first", factory="{package}.losses:First", summary="")
    yield LossEntry(name="second", factory="{package}.losses:Second", summary="")
"""

LOSSES = """
import torch
from {package}.kernels import gauss, SHARED
from . import tables, other as renamed
import {package}.deep.inner

LIMIT = 3
TABLE = [1, 2]

def helper(x):
    return x * LIMIT

class First:
    def forward(self, x):
        kernel = gauss(SHARED)
        return helper(x) + kernel + tables.FIRST + {package}.deep.inner.DEPTH

class Second:
    def forward(self, x):
        from {package}.lazy import late
        return late(x) + renamed.OTHER + tables.SECOND + sum(TABLE)
"""

FILES = {
    "__init__.py": HOOKS,
    "losses.py": LOSSES,
    "kernels.py": "SHARED = 2\n\ndef gauss(x):\n    return x\n\ndef unused():\n    return 1\n",
    "tables.py": "FIRST = 1\nSECOND = 2\n",
    "other.py": "OTHER = 1\n",
    "lazy.py": "def late(x):\n    return x\n",
    "deep/__init__.py": "",
    "deep/inner.py": "DEPTH = 1\n",
}


@pytest.fixture(autouse=True)
def _edits_are_seen(monkeypatch):
    """Python takes bytecode for that of the source if both the second of the edit and the size are the same."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A plugin's distribution; returns its folder."""
    name = "digested"
    folder = tmp_path / name
    for file, text in FILES.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text.replace("{package}", name))
    info = tmp_path / f"{name}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[recbench]\nd = {name}\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for module in [module for module in sys.modules if module.partition(".")[0] == name]:
        del sys.modules[module]


def codes() -> tuple[str, str]:
    registry = Registry(load_plugins())
    return registry.get("losses", "first").code, registry.get("losses", "second").code


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("file", "old", "new", "first", "second"),
    [
        ("losses.py", "LIMIT = 3", "LIMIT = 4", True, False),
        ("losses.py", "x * LIMIT", "x / LIMIT", True, False),
        ("losses.py", "TABLE = [1, 2]", "TABLE = [1, 3]", False, True),
        ("losses.py", "late(x) +", "late(x) -", False, True),
        ("kernels.py", "SHARED = 2", "SHARED = 3", True, False),
        ("kernels.py", "return x", "return x + 1", True, False),
        ("kernels.py", "return 1", "return 2", False, False),
        ("tables.py", "FIRST = 1", "FIRST = 7", True, False),
        ("tables.py", "SECOND = 2", "SECOND = 7", False, True),
        ("other.py", "OTHER = 1", "OTHER = 7", False, True),
        ("lazy.py", "return x", "return -x", False, True),
        ("deep/inner.py", "DEPTH = 1", "DEPTH = 2", True, False),
        ("kernels.py", "SHARED = 2", "import torch\ntorch.set_default_dtype(torch.float64)\nSHARED = 2", True, True),
        ("__init__.py", 'name="second", ', 'name="second", value_range=(-1.0, 1.0), ', False, True),
        ("__init__.py", 'name="second", ', 'parameters=(Parameter("a", int, 1, ""),), name="second", ', False, True),
    ],
)
def test_an_edit_reaches_exactly_the_entries_that_use_it(package, file, old, new, first, second):
    before = codes()
    edit(package / file, old, new)
    for module in [module for module in sys.modules if module.partition(".")[0] == "digested"]:
        del sys.modules[module]
    after = codes()
    assert (before[0] != after[0], before[1] != after[1]) == (first, second)
    assert "digested.losses" not in sys.modules, "what a suite names is digested without importing it"


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("losses.py", "LIMIT = 3", "LIMIT = 3  # as in the paper"),
        ("losses.py", "LIMIT = 3", "LIMIT: int = 0x3"),
        ("losses.py", "class First:\n", 'class First:\n    """What it does."""\n\n    scale: float\n\n'),
        (
            "losses.py",
            "def helper(x):\n    return x * LIMIT",
            "def helper(x: float) -> float:\n\n    return (x *\n  LIMIT)",
        ),
        ("losses.py", "import torch\n", "from __future__ import annotations\nimport math\nimport torch\n"),
        ("losses.py", "import gauss, SHARED", "import SHARED, gauss, unused"),
        ("losses.py", "TABLE = [1, 2]\n\ndef helper(x):\n    return x * LIMIT\n", "TABLE = [1, 2,]\n"),
        (
            "losses.py",
            "import torch\n",
            "import typing\nimport torch\nif typing.TYPE_CHECKING:\n    import a\n",
        ),
        ("losses.py", "LIMIT = 3", "LIMIT = 3\nif __name__ == '__main__':\n    print(1)"),
        ("__init__.py", 'summary=""', 'summary="in other words", citation="x", notes="y"'),
        ("__init__.py", "from recbench", '"""Losses."""\nfrom recbench'),
    ],
)
def test_what_changes_nothing_leaves_the_digest_alone(package, file, old, new):
    before = codes()
    edit(package / file, old, new)
    if new == "TABLE = [1, 2,]\n":  # the function moves to the end
        (package / file).write_text((package / file).read_text() + "\n\ndef helper(x):\n    return x * LIMIT\n")
    for module in [module for module in sys.modules if module.partition(".")[0] == "digested"]:
        del sys.modules[module]
    assert codes() == before


PLUGIN = """
from recbench import LossEntry, hookimpl
{code}

@hookimpl
def recbench_losses():
    yield LossEntry(name="mine", factory={factory}, summary="")
"""


def code_of(file: Path, code: str, factory: str = "Mine") -> str:
    file.write_text(PLUGIN.format(code=code, factory=factory))
    return Registry(load_plugins([file])).get("losses", "mine").code


@pytest.fixture
def helpers(tmp_path, monkeypatch):
    """A folder on Python's path that belongs to no distribution."""
    folder = tmp_path / "path"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    yield folder
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]


@pytest.mark.parametrize(
    "code",
    [
        "import helping\nclass Mine:\n    x = helping.VALUE",
        "from helping import VALUE\nclass Mine:\n    x = VALUE",
        "from helping import *\nclass Mine:\n    x = VALUE",
        "class Mine:\n    def forward(self):\n        from helping import VALUE\n        return VALUE",
        "class Mine:\n    def forward(self):\n        import helping as h\n        return h.VALUE",
        "import importlib\nclass Mine:\n    def f(self):\n        return importlib.import_module('helping').VALUE",
        "import importlib\nNAME = 'helping'\nclass Mine:\n    x = importlib.import_module(NAME).VALUE",
        "import helping\nclass Mine:\n    x = getattr(helping, 'VAL' + 'UE')",
        "import helping\nclass Mine:\n    x = vars(helping)['VALUE']",
        "try:\n    import helping\nexcept ImportError:\n    helping = None\nclass Mine:\n    x = helping.VALUE",
        "from reexporting import VALUE as OTHER\nclass Mine:\n    x = OTHER",
        "from reexporting import *\nclass Mine:\n    x = VALUE",
        "from importlib.util import module_from_spec, spec_from_file_location\nfrom pathlib import Path\n"
        "PLACE = Path(__file__).parent / 'path' / 'helping.py'\n"
        "def load():\n    spec = spec_from_file_location('h', PLACE)\n    module = module_from_spec(spec)\n"
        "    spec.loader.exec_module(module)\n    return module.VALUE\nclass Mine:\n    x = load()",
    ],
)
def test_a_helper_is_followed_however_it_is_imported(tmp_path, helpers, code):
    (helpers / "reexporting.py").write_text("from helping import VALUE\n")
    found = []
    for value in ("1", "1  # again", "2"):
        (helpers / "helping.py").write_text(f"VALUE = {value}\n")
        found.append(code_of(tmp_path / "p.py", code))
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(
    "code",
    [
        # a registry: nothing names the class that the factory finds
        "KNOWN = {}\ndef register(made):\n    KNOWN['m'] = made\n    return made\n@register\nclass Hidden:\n"
        "    x = VALUE\ndef Mine():\n    return KNOWN['m']()",
        "class Registry(dict):\n    def add(self, made):\n        self['m'] = made\n        return made\n"
        "KNOWN = Registry()\n@KNOWN.add\nclass Hidden:\n    x = VALUE\ndef Mine():\n    return KNOWN['m']()",
        "KNOWN = {}\nclass Hidden:\n    x = VALUE\nKNOWN['m'] = Hidden\ndef Mine():\n    return KNOWN['m']()",
        "KNOWN = []\nclass Hidden:\n    x = VALUE\nKNOWN.append(Hidden)\ndef Mine():\n    return KNOWN[0]()",
        "KNOWN = []\nclass Hidden:\n    x = VALUE\n_ = KNOWN.append(Hidden)\ndef Mine():\n    return KNOWN[0]()",
        "class Base:\n    known = []\n    def __init_subclass__(cls):\n        Base.known.append(cls)\n"
        "class Hidden(Base):\n    x = VALUE\ndef Mine():\n    return Base.known[0]()",
        "class Base:\n    pass\nclass Hidden(Base):\n    x = VALUE\ndef Mine():\n    return Base.__subclasses__()[0]()",
        "class Mine:\n    pass\nMine.x = VALUE",
        "class Mine:\n    pass\nsetattr(Mine, 'x', VALUE)",
        "class Mine:\n    pass\nfor name in 'xy':\n    setattr(Mine, name, VALUE)",
        "class Mine:\n    x = 0\nMine.x += VALUE",
        "TABLE = {}\nTABLE['a'] = VALUE\nclass Mine:\n    x = TABLE",
        "LIST = [0]\nLIST[0] = VALUE\nclass Mine:\n    x = LIST",
        "NUMBER = 0\ndef change():\n    global NUMBER\n    NUMBER = VALUE\n_ = change()\nclass Mine:\n    x = NUMBER",
        # looked up by a name that is made up
        "def a_b():\n    return VALUE\nclass Mine:\n    x = globals()['a' + '_b']()",
        "def a_b():\n    return VALUE\nclass Mine:\n    x = eval('a_b')()",
        "import sys\ndef a_b():\n    return VALUE\ndef Mine():\n    return getattr(sys.modules[__name__], 'a_b'[:])()",
        # in the definition
        "def scaled(made):\n    made.x = VALUE\n    return made\n@scaled\nclass Mine:\n    pass",
        "def f(x=VALUE):\n    return x\nclass Mine:\n    x = f()",
        "class Base:\n    x = VALUE\nclass Mine(Base):\n    pass",
        "class Mine:\n    x = [VALUE for _ in range(3)]",
        "class Mine:\n    x = (lambda: VALUE)()",
        "class Mine:\n    def forward(self, x=VALUE):\n        return x",
        "NUMBER = 1\nNUMBER = VALUE\nclass Mine:\n    x = NUMBER",
        "if VALUE > 1:\n    NUMBER = 1\nelse:\n    NUMBER = 2\nclass Mine:\n    x = NUMBER",
        "from dataclasses import dataclass\n@dataclass\nclass Mine:\n    x: int = VALUE",
    ],
)  # fmt: skip
def test_what_is_reached_in_other_ways_than_by_name(tmp_path, code):
    found = [code_of(tmp_path / "p.py", code.replace("VALUE", value)) for value in ("101", "0x65", "102")]
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(
    "code",
    [
        "class Mine:\n    x = 1\nclass Other:\n    x = VALUE",
        "def shape(x):\n    return VALUE\nclass Mine:\n    def forward(self):\n        shape = 3\n        return shape",
        "def shape(x):\n    return VALUE\nclass Mine:\n    def f(self, shape):\n        return [shape for _ in shape]",
        "class Other:\n    x = VALUE\nclass Mine:\n    def f(self, x: Other) -> Other:\n        y: Other = x",
        "def kernel(n):\n    return [n] * n\nMINE = kernel(3)\nOTHER = kernel(VALUE)\nclass Mine:\n    x = MINE",
        "from torch import nn\nclass Mine(nn.Module):\n    pass\nclass Other(nn.Module):\n    x = VALUE",
        "class Base:\n    pass\nclass Mine(Base):\n    pass\nclass Other(Base):\n    x = VALUE",
        "import functools\n@functools.cache\ndef other():\n    return VALUE\nclass Mine:\n    pass",
        "ALL = []\nclass Mine:\n    pass\nclass Other:\n    x = VALUE\nALL.append(Other)",
        "ALL = {}\nclass Mine:\n    pass\nclass Other:\n    x = VALUE\nALL['other'] = Other",
        "SCALE = 2\ndef f(x):\n    return SCALE * x\nOTHER = f(VALUE)\nclass Mine:\n    x = f(1)",
    ],
)  # fmt: skip
def test_what_is_not_reached_does_not_count(tmp_path, code):
    found = {code_of(tmp_path / "p.py", code.replace("VALUE", value)) for value in ("101", "102")}
    assert len(found) == 1


@pytest.mark.parametrize(
    ("factory", "others"),
    [
        ("partial(Mine, VALUE)", "from functools import partial"),
        ("partial(partial(Mine, VALUE), 1)", "from functools import partial"),
        ("partial(Mine, [{'a': VALUE}])", "from functools import partial"),
        ("partial(Mine, NUMBER)", "from functools import partial\nNUMBER = VALUE"),
        ("partial(Mine, object(), VALUE)", "from functools import partial"),
        ("partial(Mine, other)", "from functools import partial\ndef other():\n    return VALUE"),
        ("lambda **params: Mine(VALUE)", ""),
        ("made(VALUE)", "def made(x):\n    def inner(**params):\n        return Mine(x)\n    return inner"),
        ("f'{__name__}:Mine'", "NOTHING = 1\n__all__ = ['Mine']\nMine.x = VALUE"),
    ],
)
def test_factories_of_every_form(tmp_path, factory, others):
    code = "class Mine:\n    def __init__(self, *x):\n        pass\n" + others
    found = [
        code_of(tmp_path / "p.py", code.replace("VALUE", value), factory.replace("VALUE", value))
        for value in ("101", "101", "102")
    ]
    assert found[0] == found[1] != found[2]


METRIC = """
from recbench import MetricEntry, hookimpl

def score(shape):
    pass

@hookimpl
def recbench_metrics():
    yield MetricEntry(name="m", factory=score, summary="a metric", direction="higher", FACT)
"""


def test_what_a_metric_sees_is_part_of_its_evaluation_protocol(tmp_path):
    """Whether images are rounded, and whether samples are scored; but not how the score is shown."""

    def digest(fact):
        (tmp_path / "m.py").write_text(METRIC.replace("FACT", fact))
        return Registry(load_plugins([tmp_path / "m.py"])).get("metrics", "m").code

    assert digest("digits=2") == digest("unit='dB'") == digest("rounded=True")
    assert len({digest("rounded=True"), digest("rounded=False"), digest("samples=True")}) == 3


def test_functions_that_are_bound_to_a_factory_count_one_by_one(tmp_path):
    code = "from functools import partial\nclass Mine:\n    pass\ndef used():\n    pass\ndef other():\n    return VALUE"
    found = {
        code_of(tmp_path / "p.py", code.replace("VALUE", value), "partial(Mine, used)") for value in ("101", "102")
    }
    assert len(found) == 1


def test_a_factory_of_a_library_counts_by_its_name(tmp_path):
    """And is not followed through all of torch."""
    code_of(tmp_path / "p.py", "from torch import nn", "nn.L1Loss")
    reached = Registry(load_plugins([tmp_path / "p.py"])).get("losses", "mine").reached
    assert reached.libraries == ("torch",)
    assert reached.digest != code_of(tmp_path / "p.py", "from torch import nn", "nn.MSELoss")


def test_data_next_to_a_module_that_its_code_names(tmp_path):
    code = "from pathlib import Path\nclass Mine:\n    x = (Path(__file__).parent / 'weights' / 'w.bin').read_bytes()"
    (tmp_path / "weights").mkdir()
    found = []
    for content in (b"1", b"1", b"2"):
        (tmp_path / "weights" / "w.bin").write_bytes(content)
        found.append(code_of(tmp_path / "p.py", code))
    assert found[0] == found[1] != found[2]


def test_code_of_other_distributions_counts_by_its_version_in_provenance(tmp_path, helpers):
    """The version is in the record; an edit of somebody else's installed code makes no other job."""
    info = helpers / "library-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: library\nVersion: 1\n")
    (info / "RECORD").write_text("foreign/__init__.py,,\n")
    (helpers / "foreign").mkdir()
    found = set()
    for value in (1, 2):
        (helpers / "foreign" / "__init__.py").write_text(f"VALUE = {value}\n")
        found.add(code_of(tmp_path / "p.py", "import foreign\nclass Mine:\n    x = foreign.VALUE"))
    assert len(found) == 1
    assert Registry(load_plugins([tmp_path / "p.py"])).get("losses", "mine").reached.libraries == ("foreign",)


def test_a_compiled_helper_counts_by_its_bytes(tmp_path, helpers):
    found = []
    for content in (b"\x7fELF one", b"\x7fELF one", b"\x7fELF two"):
        from importlib.machinery import EXTENSION_SUFFIXES

        (helpers / f"compiled{EXTENSION_SUFFIXES[0]}").write_bytes(content)
        code = "class Mine:\n    def forward(self):\n        import compiled\n        return compiled.f()"
        found.append(code_of(tmp_path / "p.py", code))
    assert found[0] == found[1] != found[2]


def test_the_digest_is_the_same_everywhere(tmp_path):
    """Not the text that ast gives, which differs between versions of Python: changing it would make all jobs others."""
    code = (
        "from torch import nn\nA, *B = 1, 2.5, 1j, b'x', 'é\\u2028', None, True, ...\n"
        "class Mine(nn.Module):\n    '''Doc.'''\n    @property\n    def f(self, a, /, b=A, *c, d=1, **e) -> int:\n"
        "        with open(f'{a!r:>{b}} {{}}') as g, b: pass\n        x: int = 3\n"
        "        return {**e, 'a': [y for y in B if y]}[1:2]\n"
        "    async def g(self):\n        match self:\n            case {'a': [x, *_], **rest} if x: yield x\n"
        "        try:\n            raise ValueError from None\n        except* ValueError as error: del error\n"
    )  # fmt: skip
    assert code_of(tmp_path / "p.py", code) == "6704bfbda942f2a8"
