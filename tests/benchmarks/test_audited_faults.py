"""Faults are planted in the right method, noticed, and gone afterwards."""

import audited_faults
import pytest

from helpers.core import files
from helpers.privacy import clipping, sampling_and_noise
from helpers.training import private_step

METHODS = [
    (sampling_and_noise.Randomness, "noise"),
    (sampling_and_noise.Randomness, "draw_units"),
    (clipping.ClippedSum, "__init__"),
    (private_step.PrivateArm, "add_units"),
]


@pytest.mark.parametrize("fault", audited_faults.FAULTS)
def test_a_planted_fault_is_noticed_and_taken_back(fault, monkeypatch):
    monkeypatch.setattr(audited_faults, "N_CANARIES", 8192)
    before = [getattr(owner, name) for owner, name in METHODS]
    row = audited_faults.row_of("all weights, sampled", 0.29, fault)
    assert row["refuted"] == (
        fault not in ("none", "half of the noise", "each patient twice in a step")
    )
    assert [getattr(owner, name) for owner, name in METHODS] == before


def test_stored_faults_of_the_head_alone_are_noticed_at_each_budget():
    rows = files.read_json(audited_faults.RESULTS / "audited_faults.json", "")["rows"]
    of_head = [row for row in rows if row["recipe"] == "head alone"]
    assert len(of_head) == 15
    assert all(row["refuted"] == (row["fault"] != "none") for row in of_head)
    assert not [row for row in rows if row["fault"] == "none" and row["refuted"]]
