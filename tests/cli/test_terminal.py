"""Foreign text on terminals, and odd surroundings: closed streams, a deleted working folder, no home, NaN."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys

import pytest
from rich.text import Text

from recbench.cli.terminal import PlainConsole, shown
from recbench.cli.text import plain
from tests.conftest import ROOT

HOSTILE = "[bold]runs[v2][/] :smile: \x1b[31mred\x07\x9b2J\u202e\u2028end"
HARMLESS = "[bold]runs[v2][/] :smile: ?[31mred??2J??end"


@pytest.fixture
def shell(tmp_path, environment):
    """Run a command line of the shell in ``tmp_path``, in which ``recbench`` is the command."""

    def call(line: str, **extra: str):
        command = f'recbench() {{ {shlex.quote(sys.executable)} -m recbench "$@"; }}\n{line}'
        return subprocess.run(
            ["/bin/bash", "-c", command],
            cwd=tmp_path,
            env={**environment, **extra},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return call


# Foreign text


def test_control_characters_are_shown_as_question_marks():
    assert plain(HOSTILE) == HARMLESS
    assert plain("a\tb\nc é 损失") == "a\tb\nc é 损失"


@pytest.mark.parametrize("text", [HOSTILE, Text(HOSTILE)])
def test_a_console_takes_text_as_it_is(capsys, text):
    PlainConsole(width=200).print(text, soft_wrap=True)
    assert capsys.readouterr().out == HARMLESS.replace("??2J", "?2J" if isinstance(text, Text) else "??2J") + "\n"


def test_text_keeps_its_style():
    assert shown(Text("a\x1bb", style="red")) == Text("a?b", style="red")


def test_no_command_prints_by_itself():
    """Everything goes through recbench.cli.text and recbench.cli.terminal."""
    for file in (ROOT / "recbench" / "cli").glob("*.py"):
        source = file.read_text(encoding="utf-8")
        allowed = {"text.py": 1, "logs.py": 1}.get(file.name, 0)  # logs: bytes that go into a file
        assert len(re.findall(r"click\.s?echo\(|(?<![\w.])(?<!def )print\(", source)) == allowed, file
        assert file.name == "terminal.py" or not re.search(r"(?<!Plain)Console\(", source), file


@pytest.mark.parametrize("results", ["r[/]", "runs[v2]", "r\x1b[2J"])
def test_names_of_folders(recbench, results):
    done = recbench("status", "--results", results)
    assert done.returncode == 2
    assert f"no results in {plain(results)};" in done.stderr


def test_usage_errors(recbench):
    done = recbench("list", "losses\x1b[2J")
    assert done.returncode == 2
    assert "\x1b" not in done.stderr


# Surroundings


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("recbench list losses <&-", 0),
        ("recbench list losses >&-", 0),
        ("recbench validate nope.yaml <&- >&- 2>&-", 2),
        ("recbench validate nope.yaml 2>&-", 2),
        ("recbench list losses | true; exit ${PIPESTATUS[0]}", 141),
        ("recbench --help | true; exit ${PIPESTATUS[0]}", 141),
        ("recbench list losses >/dev/full", 2),
        ("mkdir gone; cd gone; rmdir ../gone; recbench list losses", 2),
    ],
)
def test_streams_and_folders_that_are_closed_or_gone(shell, line, code):
    done = shell(line.replace("| true", "| sleep 0"))
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    if code != 2:
        assert done.stderr == "", "a quiet end"


def test_the_deleted_folder_and_the_full_disk_are_named(shell):
    done = shell("mkdir gone; cd gone; rmdir ../gone; recbench list losses")
    assert "error: the working folder was deleted" in done.stderr
    assert "no space left on the device" in shell("recbench list losses >/dev/full").stderr


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become a user without a home")
def test_no_home(environment):
    unset = ("HOME", "RECBENCH_CACHE", "XDG_CACHE_HOME")
    clean = {key: value for key, value in environment.items() if key not in unset}
    code = "import os, sys; os.setreuid(12345, 0); sys.argv = ['recbench', 'data', 'list']\n"
    code += "import recbench.cli; recbench.cli.main()"
    done = subprocess.run([sys.executable, "-c", code], env=clean, cwd="/", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "error: your home folder is not known: set HOME\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("leaderboard", "x", "--confidence"),
        ("across", "x", "--confidence"),
        ("verify", "x", "--tolerance"),
        ("curves", "x", "--matched-kl"),
        ("run", "x", "--checkpoint-seconds"),
    ],
    ids=lambda arguments: arguments[0],
)
@pytest.mark.parametrize("number", ["nan", "inf", "-1"])
def test_numbers_that_are_none(arguments, number):
    from click.testing import CliRunner

    from recbench.cli import cli

    done = CliRunner().invoke(cli, [*arguments, number])
    assert done.exit_code == 2
    assert f"Invalid value for '{arguments[-1]}'" in done.output


def test_a_bug_is_one_sentence_and_has_its_traceback_on_demand(environment):
    code = "import recbench.cli as c; c._run = lambda: {}['lost']; c.main()"

    def run(**extra: str) -> str:
        command = [sys.executable, "-c", code]
        both = {**environment, **extra}
        return subprocess.run(command, env=both, capture_output=True, text=True, check=False).stderr

    assert run().startswith("error: recbench failed at <string>, line 1: KeyError: 'lost'")
    assert len(run().splitlines()) == 1
    assert run(RECBENCH_TRACEBACK="1").startswith("Traceback")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_command_that_is_stopped_cleans_up(environment, name):
    code = f"""
import os, signal, time
if signal.getsignal(signal.{name}) is signal.SIG_IGN:  # as under nohup, which recbench respects
    signal.signal(signal.{name}, signal.SIG_DFL)
import recbench.cli as c

def run():
    try:
        os.kill(os.getpid(), signal.{name})
        time.sleep(60)
    finally:
        print("cleaned up")

c._run = run
c.main()
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "cleaned up\n", "interrupted\n")
