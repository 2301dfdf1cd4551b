"""A private study on two devices: two processes train each run, the notebooks do the rest."""

import pytest

from helpers.core import files, machine

COHORT = "synthetic_cxr_private"
RUN = f"{COHORT}-dp-eps7.89-seed0"
N_STEPS = 10  # 2 epochs x 80 patients / 16
TINY = (
    "EVALUATE_ON=none",
    "EPSILONS=[7.89]",
    "N_BOOTSTRAP=20",
    "01.N_PATIENTS=80",
    "01.N_TEST_PATIENTS=30",
    "01.N_PUBLIC_PATIENTS=50",
    "02.PRETRAIN_EPOCHS=1",
    "02.EPOCHS=1",
    "03.DELTA=1e-3",
    "03.EPOCHS=2",
    "03.EXPECTED_BATCH_SIZE=16",
    "03.MODE=private",
    "03.LEARNING_RATE=2e-3",
)


@pytest.mark.slow
@pytest.mark.skipif(machine.cores() < 2, reason="needs two cores")
def test_two_devices_train_each_run_once_and_one_device_reads_them(
    tmp_path, run_study, file_hashes
):
    out, environment = tmp_path / "out", {"PRIVACY_REGISTER": ""}
    for step in ("01", "02", "03"):
        settings = (*TINY, "DEVICES=2")
        study = run_study("smoke", out, "--only", step, settings=settings, environment=environment)
        assert study.code == 0, study.complaint
    pages = {page.name[:2]: page.read_text(encoding="utf-8") for page in out.rglob("0*.ipynb")}
    # the public model and the baseline; the private run
    assert [pages[n].count("Trains in 2 processes.") for n in ("02", "03")] == [2, 1]
    assert f"Goes on from step {N_STEPS} of {N_STEPS}." in pages["03"]
    folder = out / "runs" / RUN
    record = files.read_json(folder / "record.json", "")
    assert record["ledger"]["steps_done"] == N_STEPS and record["ledger"]["guarantee"] == "valid"
    assert [sorted(epoch) for epoch in record["history"]] == [
        ["epoch", "epsilon_spent", "loss", "valid_auroc"]
    ] * 2
    assert "DEVICES" not in str(record["identity"])
    assert not list(out.rglob("devices.*")) and not list(out.rglob("checkpoint.pt"))
    register, before = out / "register/spent.jsonl", file_hashes(folder)
    lines = register.read_text(encoding="utf-8").splitlines()
    assert sum('"begin"' in line for line in lines) == 1

    study = run_study("smoke", out, "--only", "03", settings=TINY, environment=environment)
    assert study.code == 0 and set(study.states.values()) == {"done"}, study.complaint
    assert register.read_text(encoding="utf-8").splitlines() == lines
    assert file_hashes(folder) == before
