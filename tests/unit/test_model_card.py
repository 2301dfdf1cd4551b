"""Model cards: what they say is in the record and the tables; small groups of real patients, and
what they follow from, are not.
"""

import pandas as pd
import pytest

from helpers.core import errors, files
from helpers.privacy import privacy_ledger
from helpers.study import model_card

RUN = "clinic-dp-eps2-seed0"
LEDGER = privacy_ledger.ledger(
    unit="patient",
    n_units=1000,
    expected_batch_size=100,
    steps=50,
    steps_done=50,
    noise_multiplier=1.1,
    clip_norm=1.0,
    delta=1e-5,
    epsilon=4.0,
    max_images_per_unit=4,
    mode="private",
    lineage=[],
)


@pytest.fixture
def out(tmp_path):
    """A results folder of a hospital."""
    record = dict(run=RUN, cohort="clinic", recipe="default", seed=0, weights_hash="ab12")
    record |= {"parameters": {"width": 16}, "ledger": LEDGER}
    files.write_json(tmp_path / f"runs/{RUN}/record.json", record)
    elsewhere = record | {"run": f"other-from-{RUN}", "trained_on": "clinic"}
    files.write_json(tmp_path / f"runs/other-from-{RUN}/record.json", elsewhere)
    cohort = dict(title="A clinic", access="private", findings=["edema"], n_images=90)
    cohort |= {"n_patients": 60, "exclusions": {"no file": 3}, "n_source_rows": 93}
    files.write_json(tmp_path / "cohort/clinic/record.json", cohort)
    groups = [("all", "all", 60), ("sex", "female", 31), ("sex", "male", 29)]
    groups += [("scanner", "A", 40), ("scanner", "B", 13), ("scanner", "C", 7)]
    sizes = pd.DataFrame(groups, columns=["attribute", "group", "n_patients"])
    sizes["label"] = sizes["group"].where(
        sizes["attribute"] != "scanner", "scanner " + sizes["group"]
    )
    numbers = sizes["n_patients"].where(~sizes["group"].isin(["B", "C"]))  # as notebook 04 does
    hidden = sizes.assign(n_patients=numbers, n_images=77)
    files.write_table(tmp_path / "tables/04_group_sizes.csv", hidden)
    metrics = sizes.assign(
        run=RUN, metric="auroc", finding="macro", estimate=0.8123, low=0.7, high=0.9
    )
    metrics = pd.concat([metrics, metrics.head(1).assign(finding="edema", estimate=0.8765)])
    files.write_table(
        tmp_path / "tables/04_metrics.csv", metrics.drop(columns=["label", "n_patients"])
    )
    contrasts = {"attribute": ["sex", "scanner"], "label": ["female - male", "scanner C - rest"]}
    changes = pd.DataFrame(contrasts).assign(run=RUN, verdict="inconclusive")
    changes = changes.assign(estimate=-0.0312, low=-0.07, high=0.01)
    files.write_table(tmp_path / "tables/04_gap_changes.csv", changes)
    return tmp_path


def test_a_card_says_what_record_and_tables_say(out):
    assert model_card.write(out) == [
        out / f"runs/{RUN}/model_card.md"
    ]  # none for another's patients
    text = (out / f"runs/{RUN}/model_card.md").read_text(encoding="utf-8")
    spent = LEDGER["epsilon_spent"]["PLD"]
    for words in (
        f"epsilon {spent:.4g} at delta 1e-05",
        "- guarantee: valid",
        "| mean over findings | 0.812 [0.700, 0.900] |",
        "| edema | 0.876 [0.700, 0.900] |",
        "| female - male | -0.031 [-0.070, +0.010] | inconclusive |",
        "fewer than 10 rows of its source were left out",
        "Not a medical device",
        *(f"- {name}: " for name in LEDGER["not_covered"]),
    ):
        assert words in text, words


def test_small_groups_and_what_they_follow_from_are_left_out_of_cards_about_real_patients(out):
    text = model_card.card(out, files.read_json(out / f"runs/{RUN}/record.json", ""))
    assert "scanner A" in text
    assert "scanner B" not in text  # 60 - 40 - 13 would be the seven of C
    assert "scanner C" not in text  # neither its AUROC nor its contrast
    assert "| sex | female | 31 | 77 |" in text
    sizes = pd.read_csv(out / "tables/04_group_sizes.csv")
    files.write_table(out / "tables/04_group_sizes.csv", sizes.fillna(7))
    text = model_card.card(out, files.read_json(out / f"runs/{RUN}/record.json", ""))
    assert "| scanner | scanner C | 7 | 77 |" in text
    assert "| scanner C | 0.812 [0.700, 0.900] |" in text


def test_a_card_without_notebook_04_is_refused(out):
    (out / "tables/04_metrics.csv").unlink()
    with pytest.raises(errors.InputError, match=r"04_metrics.csv.*Run the study to its end first"):
        model_card.write(out)


def test_a_card_names_the_network(out):
    path = out / f"runs/{RUN}/record.json"
    record = files.read_json(path, "")
    assert "ResNet9 of width 16, all weights" in model_card.card(out, record)
    record["parameters"] = {"network": "vit_b_16", "channels": 1, "head": "pooled"}
    assert "vit_b_16 of torchvision, without BatchNorm, all" in model_card.card(out, record)
