"""Calls of Slurm's commands, and parsers of what they print. Imports only the standard library and recbench."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbench.errors import UserError

GONE = "GONE"
"""Our own state: neither Slurm's queue nor its accounting knows the job any more."""
OVER = (
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
    GONE,
)
"""Final states of a Slurm job."""

NO_SUCH_NODE = "Requested node configuration is not available"
"""Slurm's message for a request that no node can run; with ``--test-only`` also for one that no node can run now."""

_SECONDS = 60
_UNLIMITED = 0


@dataclass(frozen=True)
class Element:
    """One element of an array, as Slurm sees it.

    Attributes:
        job: ``"17_3"``.
        state: Slurm's word in full (``"PENDING"``, ``"RUNNING"``, ``"NODE_FAIL"``).
        reason: why it waits, or empty.
        nodes: where it runs or ran, or empty.
        left: time left until its limit, as Slurm writes it, or empty.
    """

    job: str
    state: str
    reason: str = ""
    nodes: str = ""
    left: str = ""

    @property
    def over(self) -> bool:
        return self.state in OVER

    def __str__(self) -> str:
        where = f" on {self.nodes}" if self.nodes else ""
        why = f" ({self.reason})" if self.reason else f" ({self.left} left)" if self.left else ""
        return f"{self.state.lower().replace('_', ' ')} in Slurm as {self.job}{where}{why}"


class SlurmError(UserError):
    """A Slurm command is missing, failed, or did not answer."""


def call(*command: str, stdin: str | None = None) -> str:
    """Run a Slurm command and return its standard output.

    Raises:
        SlurmError: the command is not installed, failed, or took longer than a minute; with its own message.
    """
    try:
        done = subprocess.run(  # noqa: S603
            command, input=stdin, capture_output=True, text=True, timeout=_SECONDS, check=False, env=environment()
        )
    except FileNotFoundError:
        raise SlurmError(
            f"the command {command[0]} is not installed here; run this on a machine with Slurm's commands"
        ) from None
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{command[0]} has not answered for {_SECONDS} seconds") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
        raise SlurmError(f"{command[0]}: {said}")
    return done.stdout


def environment() -> dict[str, str]:
    """Return the environment for Slurm commands: within a Slurm job without that job's own variables, which sbatch
    would take for options."""
    inside = "SLURM_JOB_ID" in os.environ
    return {
        key: value
        for key, value in os.environ.items()
        if not (inside and key.startswith(("SLURM_", "SBATCH_", "SRUN_")) and key != "SLURM_CONF")
    }


def elements(names: Iterable[str]) -> dict[tuple[str, int], Element]:
    """Return the elements of the arrays with these names that Slurm's queue knows, by name and index.

    Finished jobs stay in the queue for ``MinJobAge`` (five minutes by default).
    """
    wanted = ",".join(names)
    if not wanted:
        return {}
    lines = call("squeue", "--noheader", "--array", "--states=all", f"--name={wanted}", "--format=%i|%j|%T|%r|%N|%L")
    return parse_queue(lines)


def parse_queue(lines: str) -> dict[tuple[str, int], Element]:
    """Parse lines of squeue in the format ``%i|%j|%T|%r|%N|%L``; jobs outside of arrays are left out."""
    found = {}
    for line in lines.splitlines():
        job, name, state, reason, nodes, left = (part.strip() for part in line.split("|"))
        base, _, index = job.partition("_")
        if base.isdigit() and index.isdigit():
            reason = "" if reason == "None" else reason
            found[name, int(index)] = Element(job, state, reason, nodes, left if state == "RUNNING" else "")
    return found


def accounted(jobs: Iterable[str]) -> dict[str, Element]:
    """Return from Slurm's accounting the elements (``"17_3"``) that left the queue; empty without accounting."""
    bases = sorted({job.partition("_")[0] for job in jobs})
    if not bases:
        return {}
    wanted = [part for base in bases for part in ("-j", base)]
    try:
        lines = call("sacct", "--allocations", "--parsable2", "--format=JobID,State,NodeList", *wanted)
    except SlurmError:  # many clusters keep no accounts
        return {}
    return parse_accounts(lines)


def parse_accounts(lines: str) -> dict[str, Element]:
    """Parse lines of ``sacct --parsable2`` with the columns JobID, State and NodeList."""
    found = {}
    for line in lines.splitlines()[1:]:
        job, state, nodes = line.split("|")[:3]
        words = state.split()  # "CANCELLED by 1000"
        if words and re.fullmatch(r"[0-9]+_[0-9]+", job):
            found[job] = Element(job, words[0], nodes="" if nodes == "None assigned" else nodes)
    return found


def find(job: str) -> dict[str, str]:
    """Return the fields of ``scontrol show job`` for one job (``JobState``, ``PreemptTime`` …)."""
    return fields(call("scontrol", "--oneliner", "show", "job", job))


def fields(line: str) -> dict[str, str]:
    """Parse ``Key=Value Key=Value`` as scontrol prints it; values are cut at the first space."""
    return dict(re.findall(r"(?:^|\s)([\w:/]+)=(\S*)", line))


def submit(script: Path, output: str) -> None:
    """Submit a batch script.

    Args:
        output: pattern of the files for its output. Given on the command line, since Slurm misreads some paths within
            a script.
    """
    call("sbatch", f"--output={output}", str(script))


def pattern(folder: Path, name: str) -> str:
    """Return a file name pattern in a folder, with ``%`` in the folder's name escaped from Slurm (``%j`` …)."""
    return f"{str(folder).replace('%', '%%')}/{name}"


def refusal(script: Path) -> str:
    """Return Slurm's reason to refuse a batch script, or an empty text. Submits nothing."""
    try:
        call("sbatch", "--test-only", str(script))
    except SlurmError as error:
        return str(error)
    return ""


def cancel(names: Sequence[str], *options: str) -> None:
    """End the arrays with these names, or send them a signal. Arrays that have ended are ignored.

    Args:
        options: of scancel, such as ``--state=PENDING`` or ``--signal=INT``.
    """
    for name in names:
        call("scancel", "--quiet", f"--name={name}", *options)


@dataclass(frozen=True)
class Partition:
    """A partition of the cluster. Times are in minutes, 0 for no limit."""

    name: str
    default: bool
    default_minutes: int
    maximum_minutes: int


def partitions(wanted: str) -> list[Partition]:
    """Return the partitions of that name (or names, separated by commas); without a name, the cluster's default.

    Raises:
        SlurmError: there is none of that name; the text lists the existing ones.
    """
    lines = call("scontrol", "--oneliner", "show", "partition").splitlines()
    found = {partition.name: partition for partition in map(parse_partition, lines) if partition}
    if not wanted:
        defaults = [partition for partition in found.values() if partition.default]
        if not defaults:
            raise SlurmError(f"the cluster has no default partition; choose partition= from {', '.join(found)}")
        return defaults
    unknown = [name for name in wanted.split(",") if name not in found]
    if unknown:
        raise SlurmError(f"the cluster has no partition '{unknown[0]}'; expected one of {', '.join(found)}")
    return [found[name] for name in wanted.split(",")]


def parse_partition(line: str) -> Partition | None:
    """Parse a line of ``scontrol --oneliner show partition``."""
    known = fields(line)
    if "PartitionName" not in known:
        return None
    longest = limit(known.get("MaxTime", "UNLIMITED"))
    usual = known.get("DefaultTime", "NONE")
    return Partition(
        name=known["PartitionName"],
        default=known.get("Default") == "YES",
        default_minutes=longest if usual == "NONE" else limit(usual),
        maximum_minutes=longest,
    )


def limit(text: str) -> int:
    """Return a limit as Slurm prints it (``[days-]hours:minutes:seconds`` or ``UNLIMITED``) in minutes; 0 for none."""
    return _UNLIMITED if text in ("UNLIMITED", "INFINITE") else minutes(text)


_SLURM_TIME = re.compile(r"(?:(?P<d>[0-9]+)-)?(?P<h>[0-9]+):(?P<m>[0-9]{1,2}):(?P<s>[0-9]{1,2})")
_SHORT_TIME = re.compile(r"(?=.)(?:(?P<d>[0-9]+)d)?(?:(?P<h>[0-9]+)h)?(?:(?P<m>[0-9]+)m(?:in)?)?(?:(?P<s>[0-9]+)s)?")


def minutes(text: str) -> int:
    """Return a duration in whole minutes, rounded up, of ``3h``, ``1h30m``, ``2d``, or Slurm's ``1-12:00:00``.

    Raises:
        ValueError: the text is neither.
    """
    match = _SLURM_TIME.fullmatch(text) or _SHORT_TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"expected a duration such as 3h, 1h30m, 2d or Slurm's 1-12:00:00, got '{text}'")
    days, hours, whole, seconds = (int(match[part] or 0) for part in "dhms")
    return (days * 24 + hours) * 60 + whole + -(-seconds // 60)


_MEMORY = re.compile(r"(?P<count>[0-9]+)(?P<unit>[KMGT]?)B?")


def megabytes(text: str) -> int:
    """Return an amount of memory in megabytes, of ``16G``, ``500M``, or a number of megabytes.

    Raises:
        ValueError: the text is none of these.
    """
    match = _MEMORY.fullmatch(text)
    if match is None:
        raise ValueError(f"expected an amount of memory such as 16G or 500M, got '{text}'")
    kilobytes: int = int(match["count"]) * 1024 ** "KMGT".index(match["unit"] or "M")
    return kilobytes // 1024


def written(total: int) -> str:
    """Return minutes as Slurm writes them; 0 stands for no limit."""
    if total == _UNLIMITED:
        return "UNLIMITED"
    days, rest = divmod(total, 24 * 60)
    return f"{f'{days}-' if days else ''}{rest // 60:02}:{rest % 60:02}:00"


@dataclass(frozen=True)
class Nodes:
    """The resources of each node of one kind; memory in megabytes."""

    cores: int
    memory: int
    gpus: int

    def hold(self, wanted: Nodes) -> bool:
        """Return True if each node has at least the requested resources."""
        return self.cores >= wanted.cores and self.memory >= wanted.memory and self.gpus >= wanted.gpus

    def __str__(self) -> str:
        gpus = f"{self.gpus} GPU{'s' * (self.gpus > 1)}" if self.gpus else "no GPU"
        return f"{self.cores} core{'s' * (self.cores > 1)}, {self.memory} MB, {gpus}"


def nodes(chosen: Sequence[Partition]) -> list[Nodes]:
    """Return the kinds of nodes in these partitions."""
    listed = ",".join(partition.name for partition in chosen)
    lines = call("sinfo", "--noheader", f"--partition={listed}", "--format=%c|%m|%G").splitlines()
    return sorted({parse_nodes(line) for line in lines if line.strip()}, key=str)


def parse_nodes(line: str) -> Nodes:
    """Parse a line of sinfo in the format ``%c|%m|%G`` (a plus: or more), as in ``64+|257000|gpu:a100:4(S:0-1)``."""
    cores, memory, gres = line.split("|", 2)
    gpus = sum(int(count) for count in re.findall(r"\bgpu(?::[^:,()]+)*?:([0-9]+)(?![^,(])", gres))
    return Nodes(int(cores.strip().rstrip("+")), int(memory.strip().rstrip("+")), gpus)


def largest_array() -> int:
    """Return the largest number of elements of one array."""
    match = re.search(r"^MaxArraySize\s*=\s*([0-9]+)", call("scontrol", "show", "config"), re.MULTILINE)
    if match is None or int(match[1]) < 1:
        raise SlurmError("'scontrol show config' states no MaxArraySize, or 0: this cluster takes no arrays of jobs")
    return int(match[1])


def flags(text: str) -> dict[str, Any]:
    """Return the options of sbatch in a text such as ``--reservation=night --exclusive``, by name without dashes."""
    found: dict[str, Any] = {}
    for word in shlex.split(text):
        match = re.fullmatch(r"--([a-z][a-z-]*)(?:=(.*))?", word)
        if match is None:
            raise ValueError(f"extra: expected --option or --option=value, got '{word}'")
        found[match[1]] = True if match[2] is None else match[2]
    return found
