"""What Slurm's own commands say about jobs and partitions. Imports nothing but the standard library and recbench."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from recbench.errors import UserError

GONE = "GONE"
"""No word of Slurm's: neither its queue nor its accounting knows the job any more."""
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
"""States that a Slurm job does not leave again by itself."""

NO_SUCH_NODE = "Requested node configuration is not available"
"""Slurm's words for what no node can run; and in a test of a script also for what no node can run at the moment."""

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
    """A command of Slurm's is missing, failed, or did not answer."""


def call(*command: str, stdin: str | None = None) -> str:
    """The standard output of a command of Slurm's.

    Raises:
        SlurmError: it is not installed, ends with an error, or takes longer than a minute; with what it said.
    """
    try:
        done = subprocess.run(  # noqa: S603
            command, input=stdin, capture_output=True, text=True, timeout=_SECONDS, check=False, env=environment()
        )
    except FileNotFoundError:
        raise SlurmError(
            f"the command {command[0]} is not installed here; run this where Slurm's commands are"
        ) from None
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{command[0]} has not answered for {_SECONDS} seconds") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
        raise SlurmError(f"{command[0]}: {said}")
    return done.stdout


def environment() -> dict[str, str]:
    """What Slurm's commands get from the environment here: inside a Slurm job all but what Slurm told that job, which
    new jobs would take for their own wishes."""
    inside = "SLURM_JOB_ID" in os.environ
    return {
        key: value
        for key, value in os.environ.items()
        if not (inside and key.startswith(("SLURM_", "SBATCH_", "SRUN_")) and key != "SLURM_CONF")
    }


def elements(names: Iterable[str]) -> dict[tuple[str, int], Element]:
    """What Slurm still knows of the arrays with these names, by name and index.

    Jobs that are over stay known for ``MinJobAge`` (five minutes, unless the cluster says otherwise).
    """
    wanted = ",".join(names)
    if not wanted:
        return {}
    lines = call("squeue", "--noheader", "--array", "--states=all", f"--name={wanted}", "--format=%i|%j|%T|%r|%N|%L")
    return parse_queue(lines)


def parse_queue(lines: str) -> dict[tuple[str, int], Element]:
    """Lines of squeue in the format ``%i|%j|%T|%r|%N|%L``; those that are no array's elements are left out."""
    found = {}
    for line in lines.splitlines():
        job, name, state, reason, nodes, left = (part.strip() for part in line.split("|"))
        base, _, index = job.partition("_")
        if base.isdigit() and index.isdigit():
            reason = "" if reason == "None" else reason
            found[name, int(index)] = Element(job, state, reason, nodes, left if state == "RUNNING" else "")
    return found


def accounted(jobs: Iterable[str]) -> dict[str, Element]:
    """What Slurm's accounting says of elements (``"17_3"``) that the queue has forgotten; empty without accounting."""
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
    """Lines of sacct with the columns JobID, State and NodeList, as ``--parsable2`` separates them."""
    found = {}
    for line in lines.splitlines()[1:]:
        job, state, nodes = line.split("|")[:3]
        words = state.split()  # "CANCELLED by 1000"
        if words and re.fullmatch(r"[0-9]+_[0-9]+", job):
            found[job] = Element(job, words[0], nodes="" if nodes == "None assigned" else nodes)
    return found


def find(job: str) -> dict[str, str]:
    """What the controller knows of one job, as ``scontrol show job`` names it (``JobState``, ``PreemptTime`` …)."""
    return fields(call("scontrol", "--oneliner", "show", "job", job))


def fields(line: str) -> dict[str, str]:
    """``Key=Value Key=Value`` as scontrol prints it; values that hold spaces are cut there."""
    return dict(re.findall(r"(?:^|\s)([\w:/]+)=(\S*)", line))


def submit(script: Path, output: str) -> None:
    """Submit a batch script.

    Args:
        output: pattern of the files that get what it prints. Given beside the script, since Slurm does not read every
            path in a script as it is written there.
    """
    call("sbatch", f"--output={output}", str(script))


def pattern(folder: Path, name: str) -> str:
    """A pattern for files in this very folder, whatever its name: for Slurm, ``%j`` and its kin mean something."""
    return f"{str(folder).replace('%', '%%')}/{name}"


def refusal(script: Path) -> str:
    """What Slurm has against a batch script, or nothing. Submits nothing."""
    try:
        call("sbatch", "--test-only", str(script))
    except SlurmError as error:
        return str(error)
    return ""


def cancel(names: Sequence[str], *options: str) -> None:
    """End the arrays with these names, or send them a signal. One that is over already is no error.

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
    """The partitions of that name (or names, separated by commas); without a name, the cluster's default.

    Raises:
        SlurmError: there is none of that name; the text lists those that there are.
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
        raise SlurmError(f"the cluster has no partition '{unknown[0]}'; there are {', '.join(found)}")
    return [found[name] for name in wanted.split(",")]


def parse_partition(line: str) -> Partition | None:
    """A line of ``scontrol --oneliner show partition``."""
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
    """A time limit as Slurm prints it (``[days-]hours:minutes:seconds`` or ``UNLIMITED``), in minutes; 0 for none."""
    return _UNLIMITED if text in ("UNLIMITED", "INFINITE") else minutes(text)


_SLURM_TIME = re.compile(r"(?:(?P<d>[0-9]+)-)?(?P<h>[0-9]+):(?P<m>[0-9]{1,2}):(?P<s>[0-9]{1,2})")
_SHORT_TIME = re.compile(r"(?=.)(?:(?P<d>[0-9]+)d)?(?:(?P<h>[0-9]+)h)?(?:(?P<m>[0-9]+)m(?:in)?)?(?:(?P<s>[0-9]+)s)?")


def minutes(text: str) -> int:
    """A duration in whole minutes, rounded up: ``3h``, ``1h30m``, ``2d``, or Slurm's ``1-12:00:00`` and ``3:00:00``.

    Raises:
        ValueError: it is neither.
    """
    match = _SLURM_TIME.fullmatch(text) or _SHORT_TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"'{text}' is no duration: write 3h, 1h30m, 2d, or as Slurm does 1-12:00:00")
    days, hours, whole, seconds = (int(match[part] or 0) for part in "dhms")
    return (days * 24 + hours) * 60 + whole + -(-seconds // 60)


_MEMORY = re.compile(r"(?P<count>[0-9]+)(?P<unit>[KMGT]?)B?")


def megabytes(text: str) -> int:
    """An amount of memory as sbatch takes it: ``16G``, ``500M``, or a number of megabytes.

    Raises:
        ValueError: it is none.
    """
    match = _MEMORY.fullmatch(text)
    if match is None:
        raise ValueError(f"'{text}' is no amount of memory: write 16G, or 500M")
    kilobytes: int = int(match["count"]) * 1024 ** "KMGT".index(match["unit"] or "M")
    return kilobytes // 1024


def written(total: int) -> str:
    """Minutes as Slurm writes them; 0 is no limit."""
    if total == _UNLIMITED:
        return "UNLIMITED"
    days, rest = divmod(total, 24 * 60)
    return f"{f'{days}-' if days else ''}{rest // 60:02}:{rest % 60:02}:00"


@dataclass(frozen=True)
class Nodes:
    """Nodes of one kind: what each of them has. Memory is in megabytes."""

    cores: int
    memory: int
    gpus: int

    def hold(self, wished: Nodes) -> bool:
        """Whether each of them has at least as much as was wished."""
        return self.cores >= wished.cores and self.memory >= wished.memory and self.gpus >= wished.gpus

    def __str__(self) -> str:
        gpus = f"{self.gpus} GPU{'s' * (self.gpus > 1)}" if self.gpus else "no GPU"
        return f"{self.cores} core{'s' * (self.cores > 1)}, {self.memory} MB, {gpus}"


def nodes(chosen: Sequence[Partition]) -> list[Nodes]:
    """The kinds of nodes that partitions have."""
    listed = ",".join(partition.name for partition in chosen)
    lines = call("sinfo", "--noheader", f"--partition={listed}", "--format=%c|%m|%G").splitlines()
    return sorted({parse_nodes(line) for line in lines if line.strip()}, key=str)


def parse_nodes(line: str) -> Nodes:
    """A line of sinfo in the format ``%c|%m|%G`` (a plus sign: or more), as in ``64+|257000|gpu:a100:4(S:0-1)``."""
    cores, memory, gres = line.split("|", 2)
    gpus = sum(int(count) for count in re.findall(r"\bgpu(?::[^:,()]+)*?:([0-9]+)(?![^,(])", gres))
    return Nodes(int(cores.strip().rstrip("+")), int(memory.strip().rstrip("+")), gpus)


def largest_array() -> int:
    """How many elements one array may have."""
    match = re.search(r"^MaxArraySize\s*=\s*([0-9]+)", call("scontrol", "show", "config"), re.MULTILINE)
    if match is None or int(match[1]) < 1:
        raise SlurmError("'scontrol show config' states no MaxArraySize, or 0: this cluster takes no arrays of jobs")
    return int(match[1])
