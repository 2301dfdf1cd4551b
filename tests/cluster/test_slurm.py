"""A study in the jobs of a real Slurm."""

import subprocess

import pytest
from cluster.conftest import wait_until
from end_to_end.test_private_study import TINY


@pytest.mark.slow
def test_a_study_runs_in_slurm_jobs_which_are_gone_afterwards(slurm, tmp_path, run_study):
    out = tmp_path / "out"
    settings = (*TINY, "03.MODE=demo", "EPSILONS=[7.89, 20]")
    done = run_study("smoke", out, "--cluster", "slurm", "--jobs", "2", settings=settings)
    assert done.code == 0, done.complaint
    assert set(done.states.values()) == {"done"} and len(done.states) == 6
    assert not done.complaint
    logs = [path.read_text() for path in (out / ".state" / "slurm").glob("*.err")]
    assert len(logs) >= 2 and all("Start worker" in log for log in logs)
    wait_until(lambda: not slurm("squeue -h"), 30, "end of the jobs")


@pytest.mark.slow
def test_a_lost_job_is_replaced_and_its_step_goes_on(slurm, tmp_path, start_study, finish):
    out = tmp_path / "out"
    words = ["--cluster", "slurm", "--jobs", "1", "--only", "01"]
    study = start_study("smoke", out, *words, settings=TINY)
    log = out / ".state" / "01_data_preparation.log"
    wait_until(lambda: log.exists() and slurm("squeue -h -t R -o %i"), 120, "job")
    wait_until((out / "cohort").exists, 120, "step under way")
    subprocess.run(["scancel", "--signal=KILL", *slurm("squeue -h -o %i").split()], check=True)
    done = finish(study)
    assert done.code == 0, done.complaint
    assert done.states == {"01_data_preparation": "done"}


def test_a_partition_that_is_none_is_refused(slurm, tmp_path, run_study):
    environment = {"DASK_JOBQUEUE__SLURM__QUEUE": "nights"}
    words = ["--cluster", "slurm", "--jobs", "1", "--out", str(tmp_path / "out")]
    done = run_study("smoke", tmp_path / "out", *words, environment=environment)
    assert done.code == 2 and done.complaint.count("\n") == 1
    assert "Slurm to take a job; got" in done.complaint and "partition" in done.complaint
