"""`verify.py` on a finished study: all of it holds; of planted lies each one is found, where it is.

The lies are planted in copies: a digit in each kind of file, a ledger, a cohort, weights.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import save_file

import verify as command
from helpers.core import claims, files, fingerprints, paths
from helpers.data import cohorts
from helpers.study import checked_results
from helpers.training import checked_runs, weight_files

PRIVATE, DP = "synthetic_cxr_private", "synthetic_cxr_private-dp-eps1000-seed0"


@pytest.fixture
def copy(smoke_study, tmp_path, monkeypatch) -> Path:
    """A copy of it, to lie in."""
    shutil.copytree(smoke_study[0], tmp_path / "results")
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    return tmp_path / "results"


def verify(folder: Path) -> tuple[int, dict[str, str], str]:
    """Exit code, {what: verdict} and complaint of the command."""
    done = subprocess.run(
        [sys.executable, "verify.py", str(folder), "--json"],
        cwd=paths.repository_root(),
        text=True,
        capture_output=True,
        timeout=600,
    )
    made = json.loads(done.stdout) if done.stdout else []
    return done.returncode, {one["about"]: one["verdict"] for one in made}, done.stderr


def differing(made: list[claims.Claim]) -> list[str]:
    """What differs."""
    return [claim.about for claim in made if claim.verdict == claims.DIFFERS]


def flip_a_digit(path: Path, after: str = "") -> None:
    """Change a digit of a text file, the first after a point after some text."""
    text = path.read_text(encoding="utf-8")
    place = re.compile(r"\.\d").search(text, text.index(after)).end() - 1
    digit = str((int(text[place]) + 1) % 10)
    path.write_text(text[:place] + digit + text[place + 1 :], encoding="utf-8")


@pytest.mark.slow
def test_lies_in_what_a_study_shows_are_found_and_all_else_holds(copy):
    lies = {
        "tables/04_summary.csv": "",
        "tables/04_planned.csv": "",
        "tables/05_shortcuts.csv": "",
        "notebooks/04_fairness_analysis.ipynb": "the price of privacy, ",
        "notebooks/03_dp_training-eps1000-seed0.html": "epsilon",
        "tables/01_prevalence_by_age.csv": "",
        "index.html": "<td>",
        f"runs/{DP}/model_card.md": "AUROC",
    }
    for name, after in lies.items():
        flip_a_digit(copy / name, after)
    code, made, said = verify(copy)
    assert code == 1
    assert re.match(r"\d+ claims: \d+ holds, 12 differs, 0 cannot be checked\.$", said)
    assert made[f"run {DP}: ledger follows from its constants"] == claims.HOLDS
    found = {about for about, verdict in made.items() if verdict == claims.DIFFERS}
    assert found == {
        "tables/04_summary.csv",
        "tables/04_planned.csv",
        "tables/05_shortcuts.csv",
        "notebooks/04_fairness_analysis.ipynb: sentences and tables",
        "notebooks/04_fairness_analysis.html shows its notebook",
        "notebooks/03_dp_training-eps1000-seed0.html shows its notebook",
        "index.html: numbers and sentences",
        f"runs/{DP}/model_card.md",
        *(
            f"step {step}: files"
            for step in (
                *("01_data_preparation", "03_dp_training-eps1000-seed0"),
                *("04_fairness_analysis", "05_paper_comparison"),
            )
        ),
    }


def test_lies_in_one_notebook_are_found_and_all_else_of_it_holds(copy):
    flip_a_digit(copy / "tables/05_shortcuts.csv")
    page = copy / "notebooks/05_paper_comparison.ipynb"
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("70 printed AUROCs", "71 printed AUROCs"), encoding="utf-8")
    made = list(command.recomputed(copy, "05"))
    said = "notebooks/05_paper_comparison.ipynb: sentences and tables"
    assert differing(made) == ["tables/05_shortcuts.csv", said]
    assert {claim.verdict for claim in made} == {claims.HOLDS, claims.DIFFERS}
    assert len(made) > 9
    assert not differing([checked_results.of_index(copy), checked_results.of_readme()])
    assert not differing(cards := checked_results.of_cards(copy))
    assert len(cards) == 1
    flip_a_digit(copy / f"runs/{DP}/model_card.md", "AUROC")
    assert len(differing(checked_results.of_cards(copy))) == 1


def rewritten(folder: Path, **changes: object) -> None:
    """Change a record, and the hashes in it of the files beside it: a lie that knows of them."""
    record = files.read_json(folder / "record.json", "")
    hashes = {name: fingerprints.file_hash(folder / name) for name in record["files"]}
    files.write_json(folder / "record.json", record | {"files": hashes} | changes)


@pytest.mark.parametrize(
    "name, value, about",
    [
        ("steps_done", 1, "ledger follows from its constants"),
        ("noise_multiplier", 9.0, "ledger follows from its constants"),
        ("epsilon_spent", {"PLD": 0.1, "PRV": 0.1, "RDP": 0.1}, "ledger follows"),
        ("delta", 1e-9, "ledger follows from its constants"),
        ("guarantee", "valid", "ledger follows from its constants"),
        ("start", "random weights", "ledger follows from its constants"),
        ("n_units", 10_000, "number of units"),
    ],
)
def test_a_lie_in_a_ledger_is_found(copy, name, value, about):
    record = files.read_json(copy / f"runs/{DP}/record.json", "")
    cohort = cohorts.read(PRIVATE)
    assert not differing(checked_runs.of_ledger(record, cohort))
    record["ledger"][name] = value
    for part in record["ledger"].get("parts", []):
        part |= {name: value} if name in part else {}
    assert any(about in claim for claim in differing(checked_runs.of_ledger(record, cohort)))


def test_another_budget_than_the_ledger_s_is_found(copy):
    rewritten(copy / f"runs/{DP}", epsilon_spent=1.0)
    assert differing(checked_runs.of_run(DP)) == [f"run {DP}: ledger follows from its constants"]
    baseline = f"{PRIVATE}-baseline-seed0"
    rewritten(copy / f"runs/{baseline}", epsilon_target=1.0)
    assert differing(checked_runs.of_run(baseline)) == [f"run {baseline}: promises nothing"]


def test_lies_in_predictions_are_found_whatever_the_hashes_say(copy):
    folder, true = copy / f"runs/{DP}", pd.read_parquet(copy / f"runs/{DP}/predictions.parquet")
    fit, scores = (
        f"run {DP}: predictions are of the cohort's valid and test",
        f"run {DP}: scores follow from its weights",
    )
    first = (true["split"] == "test").idxmax()
    for column, value, about in (
        ("label", 1 - true.loc[first, "label"], fit),
        ("split", "train", fit),
        ("patient_id", "somebody", fit),
        ("score", 1 - true.loc[first, "score"], scores),
    ):
        lie = true.copy()
        lie.loc[first, column] = value
        lie.to_parquet(folder / "predictions.parquet")
        assert checked_runs.of_files(DP).verdict == claims.DIFFERS
        rewritten(folder)
        found = differing(checked_runs.of_run(DP))
        assert about in found
        assert f"run {DP}: files" not in found
        of_steps = differing(checked_results.of_steps(copy))
        assert of_steps == ["step 03_dp_training-eps1000-seed0: files"]


def test_lies_in_weights_and_cohorts_are_found(copy):
    path = copy / f"runs/{DP}/weights.safetensors"
    weights, known = weight_files.load_weights(path)
    weights["head.bias"] += 1
    save_file(weights, path, {"canonical": json.dumps(known)})
    rewritten(copy / f"runs/{DP}")
    assert f"run {DP}: scores follow from its weights" in differing(checked_runs.of_run(DP))

    folder = copy / f"cohort/{PRIVATE}"
    table = pd.read_parquet(folder / "table.parquet")
    finding = files.read_json(folder / "record.json", "")["findings"][0]
    lie = table.copy()
    lie.loc[0, finding] = 1 - np.nan_to_num(lie.loc[0, finding])
    lie.to_parquet(folder / "table.parquet")
    rewritten(folder)
    assert differing(checked_runs.of_cohort(PRIVATE)) == [f"cohort {PRIVATE}: data hash"]
    lie = table.copy()
    trained, tested = ((lie["split"] == split).idxmax() for split in ("train", "test"))
    lie.loc[tested, "patient_id"] = lie.loc[trained, "patient_id"]
    lie.to_parquet(folder / "table.parquet")
    rewritten(folder)
    assert f"cohort {PRIVATE}: every patient in one split" in differing(
        checked_runs.of_cohort(PRIVATE)
    )


def test_what_is_not_there_is_said(copy, tmp_path):
    code, _, said = verify(tmp_path / "nothing")
    assert code == 2
    assert said.startswith("verify.py: Expected a results folder with finished runs")
    assert len(said.splitlines()) == 1
    for name in ("cohort", ".state", "notebooks", "index.html"):
        path = copy / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    code, made, _ = verify(copy)
    assert code == 0
    assert made["files of all steps"] == claims.UNCHECKED
    assert made[f"run {DP}: predictions"] == claims.UNCHECKED
    assert made["tables and sentences of notebook 04"] == claims.UNCHECKED
