"""Loading of plugins: every way in which one can be broken, and that it then disables only itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from recbench.errors import PluginError
from recbench.plugin.manager import Plugin, Plugins, find_plugins, load_plugins
from recbench.plugin.registry import Registry

LOSS = """\
from recbench import LossEntry, hookimpl

@hookimpl
def recbench_losses():
    yield LossEntry(name="{name}", factory="{module}:Loss", summary="a loss")
"""
RAISES = "raise RuntimeError('broken on purpose')\n"
HOOK = "from recbench import LossEntry, MetricEntry, Parameter, hookimpl\n@hookimpl\ndef recbench_losses():\n"


def loss(name: str, module: str = "nowhere") -> str:
    return LOSS.format(name=name, module=module)


def by_name(plugins: Plugins, name: str) -> Plugin:
    return next(plugin for plugin in plugins.found if plugin.name == name)


@pytest.fixture(autouse=True)
def forget(tmp_path: Path) -> Iterator[None]:
    """Modules of one test are not those of the next."""
    yield
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def on_path(install: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Install, and put the folder on this process's path."""

    def put(*args: str, **kwargs: str) -> None:
        monkeypatch.syspath_prepend(install(*args, **kwargs))

    return put


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], Path]:
    def write(source: str, name: str = "my-plugin.py") -> Path:
        (tmp_path / name).write_text(source)
        return tmp_path / name

    return write


# What is installed


def test_an_installed_plugin_offers_its_entries(on_path):
    on_path("recbench-fine", "fine = fine_plugin", fine_plugin=loss("fine"))
    plugins = load_plugins()
    found = by_name(plugins, "fine")
    assert (found.distribution, found.version, found.status) == ("recbench-fine", "1.0", "loaded")
    assert Registry(plugins).get("losses", "fine").plugin.provider == "recbench-fine 1.0 (fine)"


def test_builtins_come_in_by_the_same_door():
    plugins = load_plugins()
    assert {"recbench-losses-pixel", "recbench-metrics"} <= {plugin.name for plugin in plugins.found}
    assert not plugins.broken
    assert not [name for name in Registry(plugins).names("losses") if not by_kind(plugins, "losses", name)]


def by_kind(plugins: Plugins, kind: str, name: str) -> list[Plugin]:
    return [p for p in plugins.found if any(entry.name == name for entry in p.entries.get(kind, ()))]


BROKEN = {
    "an import that raises": (RAISES, "RuntimeError: broken on purpose"),
    "an import that is missing": ("import no_such_module_at_all\n", "ModuleNotFoundError"),
    "a syntax error": ("def f(:\n", "SyntaxError"),
    "an import that exits": ("raise SystemExit(3)\n", "importing it ended the process (SystemExit: 3)"),
    "an import that calls exit": ("import sys\nsys.exit('bye')\n", "SystemExit: bye"),
    "an exception that is no Exception": ("class Odd(BaseException): pass\nraise Odd\n", "Odd"),
    "an error without words": ("class Mute(Exception):\n def __str__(self): raise ValueError\nraise Mute\n", "Mute"),
    "a generator that raises late": (
        loss("early") + "    raise OSError('late')\n",
        "OSError: late",
    ),
    "a generator that exits late": (loss("early") + "    raise SystemExit\n", "SystemExit"),
    "a misspelt hook": (
        loss("early").replace("recbench_losses", "recbench_loses"),
        "there is no hook recbench_loses; did you mean 'recbench_losses'?",
    ),
    "a misspelt hook next to a good one": (
        loss("early") + "@hookimpl\ndef recbench_metric():\n    yield 1\n",
        "there is no hook recbench_metric; did you mean 'recbench_metrics'?",
    ),
    "a hook without the marker": (
        loss("early").replace("@hookimpl\n", ""),
        "recbench_losses lacks its marker: decorate it with @recbench.hookimpl",
    ),
    "a misspelt hook without the marker": (
        loss("early") + "def recbench_metric():\n    yield 1\n",
        "recbench_metric lacks its marker",
    ),
    "another project's marker": (
        "import pluggy\nhookimpl = pluggy.HookimplMarker('other')\n@hookimpl\ndef recbench_losses():\n    yield 1\n",
        "recbench_losses lacks its marker",
    ),
    "no hook": ("x = 1\n", "found none; the hooks are recbench_losses"),
    "a hook with an unknown argument": (
        loss("early") + "@hookimpl\ndef recbench_metrics(images):\n    yield 1\n",
        "recbench_metrics",
    ),
    "an entry of another kind": (
        HOOK + "    yield MetricEntry(name='a', factory='a:A', summary='', direction='lower')\n",
        "expected recbench_losses to yield LossEntry objects, got a value of type MetricEntry",
    ),
    "something other than an entry": (
        HOOK + "    yield 'l2'\n",
        "to yield LossEntry objects, got 'l2'",
    ),
    "an entry that is returned": (
        HOOK + "    return LossEntry(name='a', factory='a:A', summary='')\n",
        "expected recbench_losses to yield LossEntry objects, got ",
    ),
    "a forgotten yield": (
        HOOK + "    LossEntry(name='a', factory='a:A', summary='')\n",
        "expected recbench_losses to yield LossEntry objects, got None",
    ),
    "a name with ../ in it": (HOOK + "    yield LossEntry(name='../a', factory='a:A', summary='')\n", "'../a' must be"),
    "a factory without a colon": (HOOK + "    yield LossEntry(name='a', factory='a.b', summary='')\n", "'a.b' is not"),
    "a forgotten comma": (
        HOOK + "    yield LossEntry(name='a', factory='a:A', summary='', parameters=(Parameter('b', int, 1, 'b')))\n",
        "is there a comma missing?",
    ),
}


@pytest.mark.parametrize(("source", "error"), BROKEN.values(), ids=BROKEN)
def test_a_broken_plugin_disables_only_itself(on_path, source, error):
    """Its error is kept in one line, and with its traceback."""
    on_path("recbench-fine", "fine = fine_plugin", folder="other", fine_plugin=loss("fine"))
    on_path("recbench-broken", "broken = broken_plugin", broken_plugin=source)
    plugins = load_plugins()
    broken = by_name(plugins, "broken")
    assert plugins.broken == (broken,)
    assert error in broken.error
    assert "\n" not in broken.error
    assert not broken.entries
    registry = Registry(plugins)
    assert {"fine", "l2"} <= set(registry.names("losses"))
    assert "early" not in registry.names("losses")
    # Pluggy, too, has forgotten it: no hook of it would be called.
    assert not plugins.manager.has_plugin("broken_plugin")
    impls = [i.plugin_name for name in ("losses", "metrics") for i in hook(plugins, name).get_hookimpls()]
    assert "broken_plugin" not in impls


def hook(plugins: Plugins, kind: str):
    return getattr(plugins.manager.hook, f"recbench_{kind}")


@pytest.mark.parametrize("backport", [False, True])
def test_the_traceback_is_of_the_plugin_and_not_of_the_machinery(on_path, backport):
    if backport:  # of importlib.metadata: once imported, it gives the entry points
        pytest.importorskip("importlib_metadata")
    on_path("recbench-broken", "broken = broken_plugin", broken_plugin=RAISES)
    details = by_name(load_plugins(), "broken").details
    assert details.startswith("Traceback")
    assert "broken_plugin.py" in details
    assert details.rstrip().endswith("RuntimeError: broken on purpose")
    assert "recbench/plugins.py" not in details
    assert "importlib" not in details


def test_ctrl_c_during_an_import_is_not_the_plugins_fault(on_path):
    on_path("recbench-slow", "slow = slow_plugin", slow_plugin="import time\ntime.sleep(1000)\n")
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        load_plugins()


DEATHS = {
    "exit code 0": ("import os\nos._exit(0)\n", "importing it ended the process (exit code 0)"),
    "exit code 1": ("import os\nos._exit(1)\n", "importing it ended the process (exit code 1)"),
    "sys.exit": ("import sys\nsys.exit(3)\n", "importing it ended the process (SystemExit: 3)"),
    "quit without words": ("raise SystemExit\n", "importing it ended the process (SystemExit)"),
    "an interrupt of its own": ("raise KeyboardInterrupt\n", "importing it raised KeyboardInterrupt"),
    "a signal": ("import os\nos.kill(os.getpid(), 9)\n", "importing it crashed the process (SIGKILL)"),
    "a real-time signal": ("import os\nos.kill(os.getpid(), 40)\n", "importing it crashed the process (signal 40)"),
    "a fault": ("import ctypes\nctypes.string_at(0)\n", "importing it crashed the process (SIGSEGV)"),
    "an abort": ("import os\nos.abort()\n", "importing it crashed the process (SIGABRT)"),
    "a hang": ("import time\ntime.sleep(1000)\n", "importing it hung the process (not finished after 1 s"),
    "endless output": ("while True:\n    print('y' * 1000)\n", "importing it hung the process (not finished after 1 s"),
    "a child that stays": (
        "import os, time\nif os.fork() == 0:\n    time.sleep(1000)\nos._exit(0)\n",
        "importing it ended the process (exit code 0)",
    ),
    "all files closed": (
        "import os, time\nos.closerange(0, 1000)\ntime.sleep(1000)\n",
        "importing it hung the process (not finished after 1 s",
    ),
    "the death of a hook": (
        HOOK + "    import os\n    yield LossEntry(name='early', factory='a:A', summary='')\n    os._exit(0)\n",
        "importing it ended the process (exit code 0)",
    ),
}


@pytest.mark.parametrize(("source", "error"), DEATHS.values(), ids=DEATHS)
def test_every_way_of_dying_at_import_is_the_same_error(on_path, file, monkeypatch, source, error):
    """For an installed plugin, which others outlive, and for a file, which was asked for."""
    monkeypatch.setenv("RECBENCH_PLUGIN_SECONDS", "1")
    path = file(source)
    with pytest.raises(PluginError) as caught:
        load_plugins([path])
    assert str(caught.value).startswith(f"the plugin file {path} cannot be used: {error}")
    on_path("recbench-broken", "broken = broken_plugin", broken_plugin=source)
    plugins = load_plugins()
    assert by_name(plugins, "broken").error.startswith(error)
    assert "l2" in Registry(plugins).names("losses")
    with pytest.raises(PluginError, match=r"recbench-broken 1\.0 \(broken\) cannot be used: importing it"):
        load_plugins(strict=True)


def test_unknown_names_mention_what_failed_to_load(on_path):
    on_path("recbench-broken", "broken = broken_plugin", broken_plugin=RAISES)
    message = Registry(load_plugins()).unknown("losses", "wienr")
    assert "there is no loss 'wienr'; did you mean 'wiener'?" in message
    assert "recbench-broken 1.0 (broken): RuntimeError: broken on purpose" in message


def test_strict_refuses_a_broken_plugin_and_names_the_line(on_path):
    on_path("recbench-broken", "broken = broken_plugin", broken_plugin=RAISES)
    with pytest.raises(PluginError, match=r"recbench-broken 1\.0 \(broken\)") as caught:
        load_plugins(strict=True)
    assert "RuntimeError: broken on purpose (/" in str(caught.value)
    assert "/broken_plugin.py, line 1)" in str(caught.value)


def test_strict_is_content_with_plugins_that_load(on_path):
    on_path("recbench-fine", "fine = fine_plugin", fine_plugin=loss("fine"))
    load_plugins(strict=True)


@pytest.mark.parametrize("points", ["fine", "= fine_plugin", "../x = fine_plugin", "fine = ../x", "fine ="])
def test_nonsense_among_entry_points_does_not_kill_the_host(on_path, points):
    on_path("recbench-nonsense", points, fine_plugin=loss("fine"))
    plugins = load_plugins()
    assert "l2" in Registry(plugins).names("losses")
    (broken,) = plugins.broken
    assert broken.distribution == "recbench-nonsense"


def test_a_distribution_without_metadata_still_counts(on_path, tmp_path):
    on_path("recbench-fine", "fine = fine_plugin", fine_plugin=loss("fine"))
    (tmp_path / "site" / "recbench_fine-1.0.dist-info" / "METADATA").unlink()
    assert "fine" in Registry(load_plugins()).names("losses")


def test_a_module_that_is_registered_twice_counts_once(on_path):
    on_path("recbench-one", "one = same_plugin", same_plugin=loss("fine"))
    on_path("recbench-two", "two = same_plugin", folder="other")
    on_path("recbench-three", "three = third_plugin:same_plugin", folder="third", third_plugin="import same_plugin\n")
    plugins = load_plugins()
    assert not plugins.broken
    assert len(by_kind(plugins, "losses", "fine")) == 1
    assert "fine" in Registry(plugins).names("losses")
    assert plugins.manager.has_plugin("same_plugin"), "the second registration has not thrown out the first"


def test_two_metadata_of_one_distribution_count_once(install, monkeypatch):
    """Those that come first on the path, as for imports: an older installation is left over behind them."""
    new = install("recbench-fine", "fine = fine_plugin", version="2.0", fine_plugin=loss("fine"))
    old = install(
        "Recbench.Fine",
        "fine = fine_plugin:old",
        "gone = gone_plugin",
        folder="old",
        fine_plugin=RAISES,
        gone_plugin=loss("l2"),
    )
    monkeypatch.syspath_prepend(old)
    monkeypatch.syspath_prepend(new)
    plugins = load_plugins(strict=True)
    assert [(p.name, p.version) for p in plugins.found if "fine" in p.distribution.lower()] == [("fine", "2.0")]
    assert "fine" in Registry(plugins).names("losses")


def test_what_is_printed_on_import_does_not_spoil_stdout(on_path, capsys):
    on_path("recbench-chatty", "chatty = chatty_plugin", chatty_plugin="print('hello')\n" + loss("chatty"))
    load_plugins()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "hello" in captured.err


def test_the_order_of_installation_does_not_matter(install, monkeypatch):
    first = install("recbench-a", "zz = a_plugin", folder="first", a_plugin=loss("aa"))
    second = install("recbench-z", "aa = z_plugin", folder="second", z_plugin=loss("zz"))
    orders = []
    for path in ([first, second], [second, first]):
        with monkeypatch.context() as patch:
            for folder in path:
                patch.syspath_prepend(folder)
            plugins = load_plugins()
        orders.append(([plugin.name for plugin in plugins.found], Registry(plugins).names("losses")))
    assert orders[0] == orders[1]
    assert orders[0][0] == sorted(orders[0][0])


# Two plugins claiming one name


def test_a_name_that_is_claimed_twice_is_an_error_naming_both(on_path):
    on_path("recbench-mine", "mine = mine_plugin", mine_plugin=loss("l2"))
    plugins = load_plugins()
    with pytest.raises(PluginError) as caught:
        Registry(plugins)
    message = str(caught.value)
    assert "the loss 'l2' is claimed by" in message
    assert "recbench-mine 1.0 (mine)" in message
    assert "(recbench-losses-pixel)" in message


def test_a_copy_that_claims_many_names_is_reported_in_one_line(on_path):
    source = (
        HOOK + "    for name in ('l1', 'l2', 'ce'):\n        yield LossEntry(name=name, factory='a:A', summary='')\n"
    )
    on_path("recbench-copy", "copy = copy_plugin", copy_plugin=source)
    with pytest.raises(PluginError) as caught:
        Registry(load_plugins())
    assert str(caught.value).startswith("the losses 'ce', 'l1', 'l2' are claimed by ")
    assert "\n" not in str(caught.value)


def test_one_plugin_claiming_a_name_twice(on_path):
    on_path("recbench-mine", "mine = mine_plugin", mine_plugin=loss("mine") + loss("mine").splitlines()[-1] + "\n")
    with pytest.raises(PluginError, match=r"'mine' is claimed twice by recbench-mine 1\.0 \(mine\)"):
        Registry(load_plugins())


def test_the_same_name_for_two_kinds_is_fine(on_path):
    assert {"l1", "ssim"} <= set(Registry(load_plugins()).names("losses"))
    assert {"l1", "ssim"} <= set(Registry(load_plugins()).names("metrics"))


# Blocking


@pytest.mark.parametrize("blocked", ["recbench-evil", "Recbench_Evil", "evil"])
def test_a_blocked_plugin_is_never_imported(on_path, blocked):
    on_path("recbench-evil", "evil = evil_plugin", evil_plugin="raise SystemExit('imported')\n")
    plugins = load_plugins(blocked=[blocked], strict=True)
    assert by_name(plugins, "evil").status == "blocked"
    assert "evil_plugin" not in sys.modules


def test_a_blocked_distribution_does_not_take_the_same_module_from_another(on_path):
    on_path("recbench-one", "one = same_plugin", same_plugin=loss("fine"))
    on_path("recbench-two", "one = same_plugin", folder="other")
    plugins = load_plugins(blocked=["recbench-one"])
    assert Registry(plugins).get("losses", "fine").plugin.distribution == "recbench-two"


def test_blocking_resolves_a_clash(on_path):
    on_path("recbench-mine", "mine = mine_plugin", mine_plugin=loss("l2"))
    registry = Registry(load_plugins(blocked=["recbench-losses-pixel"]))
    assert registry.get("losses", "l2").plugin.distribution == "recbench-mine"
    assert registry.find("losses", "l1") is None


def test_blocking_nothing_is_an_error_before_anything_is_imported(on_path):
    on_path("recbench-evil", "evil = evil_plugin", evil_plugin="raise SystemExit('imported')\n")
    with pytest.raises(PluginError, match=r"--block recbench-evl: .* did you mean 'recbench-evil'?"):
        load_plugins(blocked=["recbench-evl"])
    assert "evil_plugin" not in sys.modules


# Single files


def test_a_file_is_a_plugin(file):
    plugins = load_plugins([file(loss("mine"))])
    assert Registry(plugins).get("losses", "mine").plugin.distribution == "(file)"


def test_a_file_that_is_given_twice_counts_once(file, monkeypatch, tmp_path):
    path = file(loss("mine"))
    monkeypatch.chdir(tmp_path)
    plugins = load_plugins([path, Path("my-plugin.py")])
    assert [plugin.name for plugin in plugins.found if plugin.distribution == "(file)"] == ["my-plugin.py"]


def test_two_files_of_one_name_do_not_meet(file, tmp_path):
    (tmp_path / "sub").mkdir()
    paths = [file(loss("one")), file(loss("two"), "sub/my-plugin.py")]
    assert {"one", "two"} <= set(Registry(load_plugins(paths)).names("losses"))


def test_odd_file_names_are_no_obstacle(file):
    path = file(loss("mine") + "class Loss:\n    pass\n", "my plugin v1.2 (new).py")
    registered = Registry(load_plugins([path])).get("losses", "mine")
    assert registered.plugin.name == path.name


@pytest.mark.parametrize(("source", "error"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_an_error_of_one_sentence(file, source, error):
    path = file(source)
    with pytest.raises(PluginError) as caught:
        load_plugins([path])
    assert str(caught.value).startswith(f"the plugin file {path} cannot be used: ")
    assert error in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not [name for name in sys.modules if name.startswith("recbench_file_plugin_my_plugin")]


def test_an_error_names_the_line_that_raised_it(file):
    deep = "".join(f"def f{n}():\n    return f{n + 1}()\n" for n in range(40)) + "def f40():\n    1 / 0\nf0()\n"
    with pytest.raises(PluginError, match=r"ZeroDivisionError: division by zero \(/.*/my-plugin\.py, line 82\)"):
        load_plugins([file(deep)])


@pytest.mark.parametrize(
    ("name", "error"),
    [("nope.py", "there is no such file"), ("folder", "got a folder"), ("suite.yaml", "expected a Python file")],
)
def test_a_path_that_is_not_a_python_file(tmp_path, name, error):
    (tmp_path / "folder").mkdir()
    (tmp_path / "suite.yaml").write_text("name: x\n")
    with pytest.raises(PluginError, match=error):
        load_plugins([tmp_path / name])


def test_find_plugins_only_lists_a_broken_file(file):
    (broken,) = find_plugins([file(RAISES)]).broken
    assert broken.error == "RuntimeError: broken on purpose"


# What is not imported


def in_a_fresh_process(code: str, environment: dict[str, str]) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    "code",
    [
        "import recbench",
        "import recbench.plugin.manager; recbench.plugin.manager.load_plugins()",
        "from recbench import cli",
        "from recbench.contracts import dataset, executor",
        "import recbench.suite.suite, recbench.store.store, recbench.sweep.sweep, recbench.analysis.ranking",
        "import recbench.render.leaderboard",
    ],
)
def test_no_torch_is_imported(code, environment):
    heavy = "{'torch', 'torchvision', 'skimage'}"
    assert in_a_fresh_process(f"{code}\nimport sys\nprint({heavy} & set(sys.modules))", environment).strip() == "set()"


def test_import_recbench_imports_no_plugin(environment):
    code = "import recbench, sys\nprint([name for name in sys.modules if name.startswith('recbench_')])"
    assert in_a_fresh_process(code, environment).strip() == "[]"


def test_the_hook_module_imports_pluggy_and_nothing_heavier(environment):
    code = "import sys, recbench.plugin.spec\nprint({'pydantic', 'numpy', 'yaml', 'click', 'rich'} & set(sys.modules))"
    assert in_a_fresh_process(code, environment).strip() == "set()"
