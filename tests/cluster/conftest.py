"""What the tests of clusters share: small studies, Dask workers on this machine, a real Slurm."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from distributed import LocalCluster
from end_to_end.conftest import (  # noqa: F401 - fixtures
    copy_package,
    finish,
    run_study,
    start_study,
)

SLURM_CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldPort=16817
SlurmdPort=16818
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=8000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture
def dask_workers() -> Iterator[LocalCluster]:
    """Three workers, each a process with one thread."""
    with LocalCluster(n_workers=3, threads_per_worker=1, dashboard_address=":0") as made:
        yield made


@pytest.fixture
def place(dask_workers) -> str:
    """What --cluster says to reach them."""
    return dask_workers.scheduler_address.replace("tcp://", "dask://")


@pytest.fixture(scope="session")
def slurm(tmp_path_factory) -> Iterator[Callable[[str], str]]:
    """A Slurm of this machine alone; slurm(command) returns what a command of it prints."""
    absent = [name for name in ("slurmctld", "slurmd", "sbatch", "munged") if not which(name)]
    if absent or os.geteuid():
        pytest.skip(f"needs root, slurmctld, slurmd, slurm-client and munge; absent: {absent}")
    folder, host = tmp_path_factory.mktemp("slurm"), socket.gethostname()
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "slurm.conf").write_text(SLURM_CONF.format(folder=folder, host=host))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        is_ours = start_munge()
        try:
            for daemon in ("slurmctld", "slurmd"):
                subprocess.run([which(daemon), "-f", folder / "slurm.conf"], check=True)
            wait_until(lambda: "idle" in said("sinfo -h -o %T"), 60, "an idle node")
            yield said
        finally:
            for daemon in ("slurmd", "slurmctld"):
                end(folder / f"{daemon}.pid")
            if is_ours:
                end(Path("/run/munge/munged.pid"))


def which(name: str) -> str | None:
    """The path of a command or daemon."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def said(command: str) -> str:
    """What a command prints."""
    return subprocess.run(command.split(), capture_output=True, text=True).stdout.strip()


def start_munge() -> bool:
    """Start munge where it is not running; return whether that was needed."""
    if not subprocess.run(["munge", "-n"], capture_output=True).returncode:
        return False
    Path("/run/munge").mkdir(exist_ok=True)
    shutil.chown("/run/munge", "munge")
    words = ["su", "-s", "/bin/bash", "munge", "-c", f"{which('munged')} --force"]
    subprocess.run(words, check=True, capture_output=True)
    return True


def end(pid_file: Path) -> None:
    """End a daemon that we started."""
    if pid_file.exists():
        os.kill(int(pid_file.read_text()), 15)


def wait_until(is_true: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for something."""
    until = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < until, f"no {what} in {seconds} s"
        time.sleep(0.1)
