"""Executors of recbench."""

from __future__ import annotations

from collections.abc import Iterator

from recbench import ExecutorEntry, Parameter, hookimpl


@hookimpl
def recbench_executors() -> Iterator[ExecutorEntry]:
    yield ExecutorEntry(
        name="local",
        factory="recbench_executors.local:Local",
        summary="a fresh process for each job, on the GPUs or the cores of this machine",
        parameters=(
            Parameter(
                "jobs", int, 0, "jobs side by side; 0: jobs_per_device for each GPU, or one for each core", minimum=0
            ),
            Parameter("devices", str, "", "GPUs to use, such as 0,2, counted among the visible ones; empty: all"),
            Parameter("jobs_per_device", int, 0, "jobs that share a GPU; 0: one", minimum=0),
            Parameter("threads", int, 0, "threads for each job; 0: the cores divided among the jobs", minimum=0),
        ),
        notes=(
            "Every job is a process of its own, forked from a server that has imported torch, so that a crash costs "
            "only its own job. The number of threads does not depend on how many jobs are left, because sums are "
            "rounded differently with another number: a continued sweep ends with the numbers of an undisturbed one."
        ),
    )
    yield ExecutorEntry(
        name="ray",
        factory="recbench_executors.ray_cluster:Ray",
        summary="a fresh process for each job, where a Ray cluster, or a Ray of this machine, has room for it",
        parameters=(
            Parameter(
                "address",
                str,
                "",
                "HOST:PORT of a cluster; auto: the one that this machine is a node of; local: a Ray of its own; "
                "empty: what RAY_ADDRESS says, otherwise local",
            ),
            Parameter("cpus", int, 1, "CPUs that Ray sets aside for each job, which has as many threads", minimum=1),
            Parameter("jobs_per_device", int, 0, "jobs that share a GPU, each with its part of it; 0: one", minimum=0),
        ),
        notes=(
            "Needs pip install 'recbench[ray]' here and on every node, with the same recbench, the same Ray, and the "
            "results folder and the image cache at the same place on all of them. Jobs get GPUs if any node has one, "
            "unless --device cpu is given. A request that no node could ever meet is refused; jobs of a node that is "
            "lost run again on the others."
        ),
    )
    yield ExecutorEntry(
        name="slurm",
        factory="recbench_executors.slurm:Slurm",
        summary="arrays of Slurm jobs; the coordinator may go away and come back",
        parameters=(
            Parameter("partition", str, "", "partition, or several separated by commas; empty: the cluster's default"),
            Parameter("account", str, "", "account that is charged; empty: the user's default"),
            Parameter("qos", str, "", "quality of service; empty: the default"),
            Parameter("constraint", str, "", "features that nodes must have"),
            Parameter("gpus", int, -1, "GPUs of each Slurm job; -1: one if the partition's nodes have any", minimum=-1),
            Parameter("gpu_type", str, "", "kind of GPU, as the cluster calls it; empty: any"),
            Parameter("cpus", int, 1, "processor cores of each Slurm job", minimum=1),
            Parameter("memory", str, "", "memory of each Slurm job, such as 16G; empty: the cluster's default"),
            Parameter(
                "time",
                str,
                "",
                "time limit of each Slurm job, such as 3h or 2d12h; empty: as long as --timeout allows its jobs, "
                "otherwise the partition's default",
            ),
            Parameter("jobs_per_device", int, 0, "jobs side by side on each GPU, or without one; 0: one", minimum=0),
            Parameter("bundle", int, 0, "jobs that one Slurm job runs in turns; 0: as many as side by side", minimum=0),
            Parameter("at_most", int, 0, "Slurm jobs of an array that run at the same time; 0: any number", minimum=0),
            Parameter("warning", int, 90, "seconds before the time limit at which jobs write checkpoints", minimum=1),
            Parameter("extra", str, "", "further options of sbatch, such as --reservation=night --exclusive"),
            Parameter("setup", str, "", "shell commands that each Slurm job begins with"),
            Parameter("python", str, "", "interpreter on the nodes; empty: this one"),
            Parameter("poll", float, 10.0, "seconds between two questions to Slurm", above=0.0),
            Parameter("detach", bool, False, "submit the jobs and leave; the same command without it comes back"),
            Parameter("profile", str, "", "YAML file with values for these parameters"),
        ),
        notes=(
            "Needs submitit (pip install 'recbench[slurm]') and a results folder that all nodes share. Jobs that are "
            "preempted, or that reach the time limit, write a checkpoint and go back to the queue. Ctrl-C takes what "
            "waits out of the queue, and lets what runs write a checkpoint and end; a coordinator that dies leaves "
            "both where they are, and the same command comes back to them."
        ),
    )
