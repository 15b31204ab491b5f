#!/bin/bash
# Stops exactly the daemons up.sh started (by pid file), then removes $BASE unless KEEP=1
BASE=${SLURM_BASE:-/tmp/recbench-slurm}
[ -d "$BASE" ] || exit 0
if [ -f "$BASE/env" ]; then . "$BASE/env"; timeout 5 scancel -u root 2>/dev/null; sleep 1; fi
pids=$(cat "$BASE"/slurmd.*.pid "$BASE"/slurmctld.pid "$BASE"/mrun/munged.pid 2>/dev/null)
for p in $pids; do kill "$p" 2>/dev/null; done
for _ in $(seq 50); do alive=; for p in $pids; do kill -0 "$p" 2>/dev/null && alive="$alive $p"; done; [ -z "$alive" ] && break; sleep 0.1; done
for p in $alive; do kill -9 "$p" 2>/dev/null; done
# leftovers of jobs whose slurmstepd was killed: scripts run from our spool directory, plus their children
for p in $(ps -eo pid=,args= | awk -v b="$BASE/spool." 'index($0,b){print $1}'); do
  for c in $(ps -o pid= --ppid $p); do kill -9 $c 2>/dev/null; done; kill -9 $p 2>/dev/null
done
[ "${KEEP:-0}" = 1 ] || rm -rf "$BASE"
