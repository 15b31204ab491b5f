#!/bin/bash
# Bring up a throw-away Slurm "cluster" on ONE host, as root, no systemd, no MariaDB.
#   needs: apt-get install -y --no-install-recommends slurm-wlm munge     (Debian 12: 22.05.8)
#   usage: tests/slurm/up.sh [NODES] [CPUS_PER_NODE] [GPUS_PER_NODE]; then  . $BASE/env ; sinfo
# Everything (key, sockets, spool, logs, conf) lives under $BASE. Nothing in /etc is touched.
set -euo pipefail
NODES=${1:-2}; CPUS=${2:-2}; GPUS=${3:-2}
BASE=${SLURM_BASE:-/tmp/recbench-slurm}; PORT=${SLURM_PORT:-16817}
HOST=$(hostname -s)
mkdir -p "$BASE"/{munge,state,log,bin}; chmod 700 "$BASE/munge"; chmod 755 "$BASE"
# --- munge (own key + socket) -------------------------------------------------
( umask 077; [ -s "$BASE/munge/key" ] || head -c 128 /dev/urandom > "$BASE/munge/key" )
mkdir -p "$BASE/mrun"; chmod 755 "$BASE/mrun"
munged --force --key-file="$BASE/munge/key" --socket="$BASE/mrun/munge.socket" \
  --pid-file="$BASE/mrun/munged.pid" --log-file="$BASE/munge/log" --seed-file="$BASE/munge/seed" --num-threads=2
# --- slurm.conf ----------------------------------------------------------------
MEM=$(awk '/MemTotal/{print int($2/1024*0.9)}' /proc/meminfo)
cat > "$BASE/slurm.conf" <<C
ClusterName=recbench
SlurmctldHost=$HOST(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$BASE/mrun/munge.socket,cred_expire=5
CredType=cred/munge
SlurmctldPort=$PORT
StateSaveLocation=$BASE/state
SlurmdSpoolDir=$BASE/spool.%n
SlurmctldPidFile=$BASE/slurmctld.pid
SlurmdPidFile=$BASE/slurmd.%n.pid
SlurmctldLogFile=$BASE/log/slurmctld.log
SlurmdLogFile=$BASE/log/slurmd.%n.log
PlugStackConfig=$BASE/plugstack.conf
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
ReturnToService=2
SlurmctldTimeout=10
SlurmdTimeout=10
InactiveLimit=0
KillWait=3
MinJobAge=3600
MaxArraySize=1001
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=5,bf_interval=5,sched_min_interval=100000
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobRequeue=1
RequeueExit=99
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$BASE/log/jobcomp.log
GresTypes=gpu
C
: > "$BASE/plugstack.conf"; : > "$BASE/gres.conf"
for i in $(seq 1 "$NODES"); do
  mkdir -p "$BASE/spool.n$i"
  echo "NodeName=n$i NodeHostname=$HOST NodeAddr=127.0.0.1 Port=$((PORT+i)) CPUs=$CPUS RealMemory=$MEM Gres=gpu:$GPUS State=UNKNOWN" >> "$BASE/slurm.conf"
  # fake GPUs: any device file works for scheduling + CUDA_VISIBLE_DEVICES
  if [ "$GPUS" -gt 0 ]; then
    if [ "$GPUS" -gt 1 ]; then D="/dev/tty[1-$GPUS]"; else D=/dev/tty1; fi
    echo "NodeName=n$i Name=gpu File=$D" >> "$BASE/gres.conf"
  fi
done
echo "PartitionName=main Nodes=ALL Default=YES MaxTime=60 State=UP" >> "$BASE/slurm.conf"
# --- sacct shim: submitit polls `sacct`; without slurmdbd the real one errors out and submitit waits for ever
cat > "$BASE/bin/sacct" <<'S'
#!/usr/bin/env python3
import re,subprocess,sys
ids=[sys.argv[i+1] for i,a in enumerate(sys.argv) if a=="-j"]
print("JobID|State|NodeList")
for j in ids:
    o=subprocess.run(["scontrol","-o","show","job",j],capture_output=True,text=True).stdout
    for l in o.splitlines():
        d=dict(re.findall(r"(\w+)=(\S*)",l))
        if "JobId" not in d: continue
        jid=d["JobId"]
        if "ArrayJobId" in d:
            t=d.get("ArrayTaskId","0"); jid=f'{d["ArrayJobId"]}_{t}' if re.fullmatch(r"\d+",t) else f'{d["ArrayJobId"]}_[{t}]'
        print(f'{jid}|{d["JobState"]}|{d.get("NodeList","").replace("(null)","None assigned")}')
S
chmod +x "$BASE/bin/sacct"
cat > "$BASE/env" <<C
export SLURM_CONF=$BASE/slurm.conf
export PATH=$BASE/bin:\$PATH
C
. "$BASE/env"
slurmctld -c                    # -c: forget state of an earlier instance
for i in $(seq 1 "$NODES"); do slurmd -N n$i; done
for _ in $(seq 300); do
  n=$(sinfo -h -N -t idle -o %N 2>/dev/null | sort -u | wc -l) || n=0
  [ "$n" -eq "$NODES" ] && { sinfo -N; exit 0; }
  sleep 0.1
done
echo "slurm did not come up" >&2; sinfo -R || true; tail -20 "$BASE"/log/*.log; exit 1
