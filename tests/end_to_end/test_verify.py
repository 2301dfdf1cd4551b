"""`verify.py` on a finished study: all of it holds; of planted lies each one is found, where it is;
damaged files and what is not there are said.

Lies are planted in copies: a digit in each kind of file that a reader sees, a ledger, predictions,
weights, a cohort.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import save_file

from helpers.core import claims, files, fingerprints, paths
from helpers.data import cohorts
from helpers.study import checked_results, crate
from helpers.training import checked_ledgers, checked_runs, weight_files

PRIVATE, DP = "synthetic_cxr_private", "synthetic_cxr_private-dp-eps1000-seed0"
ELSEWHERE = f"synthetic_cxr_elsewhere-from-{DP}"
LIES = {  # a digit after what, in which file, and what is then found but the step's files
    "tables/04_summary.csv": ("", ["tables/04_summary.csv"]),
    "tables/04_planned.csv": ("", ["tables/04_planned.csv"]),
    "tables/05_shortcuts.csv": ("", ["tables/05_shortcuts.csv"]),
    "tables/04_metrics.csv": ("", ["tables/04_metrics.csv"]),
    "tables/05_accuracy_parity_difference.csv": (
        "",
        ["tables/05_accuracy_parity_difference.csv"],
    ),
    f"runs/{PRIVATE}-baseline-seed0/record.json": ('"LEARNING_RATE"', []),
    "ro-crate-metadata.json": ("softwareRequirements", []),
    "tables/01_prevalence_by_age.csv": ("", []),
    "notebooks/04_fairness_analysis.ipynb": (
        "the price of privacy, ",
        [
            "notebooks/04_fairness_analysis.ipynb: sentences and tables",
            "notebooks/04_fairness_analysis.html shows its notebook",
        ],
    ),
    "notebooks/03_dp_training-eps1000-seed0.html": (
        "epsilon",
        ["notebooks/03_dp_training-eps1000-seed0.html shows its notebook"],
    ),
    "index.html": ("<td>", ["index.html: numbers and sentences"]),
    f"runs/{DP}/model_card.md": ("AUROC", [f"runs/{DP}/model_card.md"]),
}


@pytest.fixture
def copy(smoke_study, tmp_path, monkeypatch) -> Path:
    """A copy of the smoke study's results, to lie in."""
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
    checked = json.loads(done.stdout) if done.stdout else []
    return done.returncode, {one["about"]: one["verdict"] for one in checked}, done.stderr


def differing(checked: Iterable[claims.Claim]) -> list[str]:
    """What differs."""
    return [claim.about for claim in checked if claim.verdict == claims.DIFFERS]


def of_run(run: str) -> list[claims.Claim]:
    """The claims of a run, as the command has them."""
    return list(claims.guarded(f"run {run}", checked_runs.of_run, run))


def flip_a_digit(path: Path, after: str) -> None:
    """Change a digit of a text file, the first after a point after some text."""
    text = path.read_text(encoding="utf-8")
    place = re.compile(r"\.\d").search(text, text.index(after)).end() - 1
    digit = str((int(text[place]) + 1) % 10)
    path.write_text(text[:place] + digit + text[place + 1 :], encoding="utf-8")


def rewritten(folder: Path, **changes: object) -> None:
    """Change a record, and the hashes in it of the files beside it: a lie that knows of them."""
    record = files.read_json(folder / "record.json", "")
    hashes = {name: fingerprints.file_hash(folder / name) for name in record["files"]}
    files.write_json(folder / "record.json", record | {"files": hashes} | changes)


# ---- what a reader sees


@pytest.mark.slow
def test_lies_in_what_a_study_shows_are_found_and_all_else_holds(copy):
    for name, (after, _) in LIES.items():
        flip_a_digit(copy / name, after)
    code, checked, said = verify(copy)
    assert code == 1
    assert checked.pop("version of this package") in (claims.HOLDS, claims.UNCHECKED)
    steps = [
        *("01_data_preparation", "03_dp_training-eps1000-seed0"),
        *("04_fairness_analysis", "05_paper_comparison", "02_baseline_training-seed0"),
    ]
    wanted = {about for _, abouts in LIES.values() for about in abouts}
    wanted |= {f"step {step}: files" for step in steps}
    wanted |= {"ro-crate-metadata.json: files and parameters"}  # whose hashes know of each lie
    elsewhere = f"synthetic_cxr_elsewhere-from-{PRIVATE}-baseline-seed0"
    wanted |= {f"run {elsewhere}: is the model of a run here"}  # of other parameters by now
    assert {about for about, verdict in checked.items() if verdict == claims.DIFFERS} == wanted
    assert set(checked.values()) == {claims.HOLDS, claims.DIFFERS}
    differs = len(wanted)
    assert re.search(rf"\d+ claims: \d+ holds, {differs} differs, \d cannot be checked\.$", said)


def test_each_lie_in_what_a_study_shows_is_found_alone(copy, smoke_study):
    study = smoke_study[0]  # stands for what is computed again

    def checked() -> list[str]:
        found = [*checked_results.of_steps(copy), *checked_results.of_index(copy)]
        found += checked_results.of_card(copy, DP)
        for number in ("04", "05"):
            found += checked_results.of_tables(copy, study, number)
        for path in sorted((copy / "notebooks").glob("*.ipynb")):
            same = study / "notebooks" / path.name
            executed = json.loads(same.read_text(encoding="utf-8"))
            again = same.with_suffix(".html").read_text(encoding="utf-8")
            found += [checked_results.of_text(path, executed), checked_results.of_page(path, again)]
        return differing(found)

    assert checked() == []
    for name, (after, abouts) in LIES.items():
        flip_a_digit(copy / name, after)
        found = set(checked())
        # the page of a notebook is made again by the command, not here
        here = abouts[:1] if name.endswith(".ipynb") else abouts
        assert set(here) <= found
        has_step = name.startswith(("tables/", "notebooks/")) or name.endswith("/record.json")
        assert any(about.startswith("step ") for about in found) == has_step
        shutil.copy(study / name, copy / name)
    page = copy / "notebooks/04_fairness_analysis.ipynb"
    said = f"notebooks/{page.name}: sentences and tables"
    notebook = json.loads(page.read_text(encoding="utf-8"))
    tags = {"tags": ["injected-parameters"]}
    added = {"cell_type": "markdown", "metadata": tags, "source": "The guarantee is valid."}
    notebook["cells"].insert(3, added | {"id": "x"})
    page.write_text(json.dumps(notebook), encoding="utf-8")
    assert said in checked()
    shutil.copy(study / "notebooks" / page.name, page)
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("have together epsilon", "have altogether epsilon"))
    assert said in checked()  # what was spent is shown as Markdown
    shutil.copy(study / "notebooks" / page.name, page)
    with open(copy / "index.html", "a") as stream:
        stream.write("\n\nand nobody pays\n")
    assert checked() == ["index.html: numbers and sentences"]


# ---- ledgers, predictions, weights, cohorts


@pytest.mark.parametrize(
    "name, value, about",
    [
        ("steps_done", 1, "ledger follows from its constants"),
        ("noise_multiplier", 9.0, "ledger follows from its constants"),
        ("epsilon_spent", {"PLD": 0.1, "PRV": 0.1, "RDP": 0.1}, "ledger follows"),
        ("delta", 1e-9, "ledger follows from its constants"),
        ("guarantee", "valid", "ledger follows from its constants"),
        ("start", "random weights", "ledger follows from its constants"),
        ("epsilon_target", 0.5, "ledger is that of its parameters"),
        ("mode", "private", "ledger is that of its parameters"),
        ("n_units", 10_000, "number of units"),
    ],
)
def test_a_lie_in_a_ledger_is_found(copy, name, value, about):
    record = files.read_json(copy / f"runs/{DP}/record.json", "")
    cohort = cohorts.read(PRIVATE)
    assert not differing(checked_ledgers.of_ledger(record, cohort))
    record["ledger"][name] = value
    for part in record["ledger"].get("parts", []):
        part |= {name: value} if name in part else {}
    found = differing(checked_ledgers.of_ledger(record, cohort))
    assert any(about in claim for claim in found)


def test_another_budget_name_or_promise_than_a_run_s_is_found(copy):
    rewritten(copy / f"runs/{DP}", epsilon_spent=1.0, seed=3)
    assert differing(of_run(DP)) == [
        f"run {DP}: name",
        f"run {DP}: ledger is that of its parameters",
    ]
    assert differing(of_run(ELSEWHERE)) == [f"run {ELSEWHERE}: is the model of a run here"]
    baseline = f"{PRIVATE}-baseline-seed0"
    rewritten(copy / f"runs/{baseline}", unit="patient")
    assert differing(of_run(baseline)) == [f"run {baseline}: promises nothing"]


def test_a_ledger_without_weights_is_not_said_to_hold(copy):
    record = files.read_json(copy / f"runs/{DP}/record.json", "")
    (copy / f"runs/{DP}/weights.safetensors").unlink()
    follows = f"run {DP}: ledger follows from its constants"
    checked = {
        claim.about: claim for claim in checked_ledgers.of_ledger(record, cohorts.read(PRIVATE))
    }
    assert checked[follows].verdict == claims.UNCHECKED
    assert checked[follows].detail.startswith("start: its weights do not say")
    record["ledger"]["guarantee"] = "valid"  # of a demo
    assert follows in differing(checked_ledgers.of_ledger(record, cohorts.read(PRIVATE)))
    assert f"run {DP}: files" in differing(of_run(DP))


@pytest.mark.parametrize("run", [DP, ELSEWHERE])
def test_lies_in_predictions_are_found_whatever_the_hashes_say(copy, run, monkeypatch):
    monkeypatch.setattr(checked_runs, "MOST_SCORES", 60)
    folder, true = copy / f"runs/{run}", pd.read_parquet(copy / f"runs/{run}/predictions.parquet")
    fit, scores = (
        f"run {run}: predictions are of the cohort's valid and test",
        f"run {run}: scores follow from its weights",
    )
    last = true.index[true["split"] == "test"][-1]
    perfect = true.assign(score=true["label"].where(true["finding"] == true.loc[last, "finding"]))
    perfect["score"] = perfect["score"].fillna(true["score"])
    lies = {
        "label": (true.assign(label=true["label"].where(true.index != last, 0.5)), [fit]),
        "split": (true.assign(split=true["split"].where(true.index != last, "train")), [fit]),
        "patient": (true.assign(patient_id="somebody"), [fit]),
        "score": (true.assign(score=(true["score"] + 0.01).clip(upper=1)), [scores]),
        "fewer": (true[true["image_id"] != true.loc[last, "image_id"]], [fit]),
        "perfect but one": (perfect.drop(index=last), [fit, scores]),
    }
    lies["label"][0].loc[last, "label"] = 1 - true.loc[last, "label"]
    cohort = cohorts.read(files.read_json(folder / "record.json", "")["cohort"])
    record = files.read_json(folder / "record.json", "")
    known = weight_files.load_weights(copy / f"runs/{DP}/weights.safetensors")[1]
    for name, (lie, abouts) in lies.items():
        found = differing(
            [
                checked_runs.of_predictions(run, lie, cohort, known if run == ELSEWHERE else None),
                checked_runs.of_scores(record, DP, lie, cohort),
            ]
        )
        assert set(abouts) <= set(found), name
        assert scores in abouts or scores not in found or name == "fewer"  # if it was drawn
    true.iloc[::-1].to_parquet(folder / "predictions.parquet")
    assert differing(of_run(run)) == [f"run {run}: files"]  # the same in another order
    rewritten(folder)
    assert not differing(of_run(run))


def test_lies_in_weights_and_cohorts_are_found(copy):
    path = copy / f"runs/{DP}/weights.safetensors"
    weights, known = weight_files.load_weights(path)
    weights["head.bias"] += 1
    about = {"canonical": json.dumps(known), "lineage": json.dumps(weight_files.lineage_of(path))}
    save_file(weights, path, about)
    rewritten(copy / f"runs/{DP}")
    assert differing(of_run(DP)) == [f"run {DP}: scores follow from its weights"]

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


# ---- what is damaged, or not there


def damage(path: Path) -> None:
    """Cut a file to its first half."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    "name",
    [
        f"cohort/{PRIVATE}/table.parquet",
        f"cohort/{PRIVATE}/images.npy",
        f"cohort/{PRIVATE}/record.json",
        f"runs/{DP}/predictions.parquet",
        f"runs/{DP}/weights.safetensors",
        f"runs/{DP}/record.json",
        f"runs/{PRIVATE}-network/network.json",
    ],
)
def test_a_damaged_file_differs_and_stops_nothing(copy, name):
    damage(copy / name)
    found = [*of_run(DP), *claims.guarded("cohort", checked_runs.of_cohort, PRIVATE)]
    assert differing(found)
    assert not any("synthetic" in claim.detail for claim in found)  # an id begins like this


@pytest.mark.parametrize("changes", [{"steps_done": 10**6}, {"n_units": 0}, {"mode": "other"}])
def test_an_impossible_ledger_differs_and_stops_nothing(copy, changes):
    record = files.read_json(copy / f"runs/{DP}/record.json", "")
    rewritten(copy / f"runs/{DP}", ledger=record["ledger"] | changes)
    assert differing(of_run(DP)) == [f"run {DP}"]


def test_a_damaged_register_or_a_path_for_a_name_differs_and_stops_nothing(copy):
    record = files.read_json(copy / f"runs/{DP}/record.json", "")
    rewritten(copy / f"runs/{DP}", ledger=record["ledger"] | {"mode": "private"})
    (copy / "register/spent.jsonl").write_text("no line of a register\nnor this\n")
    code, checked, _ = verify(copy)
    assert code == 1
    assert checked["notebooks 04 and 05, executed again"] == claims.DIFFERS
    assert checked[f"run {DP}"] == claims.DIFFERS
    rewritten(copy / f"runs/{ELSEWHERE}", trained_on="../../elsewhere")
    assert f"run {ELSEWHERE}: its cohort" in differing(of_run(ELSEWHERE))


def test_what_is_not_there_is_said(copy, tmp_path):
    code, _, said = verify(tmp_path / "nothing")
    assert code == 2
    assert said.startswith("verify.py: Expected a results folder in")
    assert len(said.splitlines()) == 1
    shutil.rmtree(copy / "cohort" / PRIVATE)  # that of the runs alone
    assert [claim.verdict for claim in checked_results.of_index(copy)] == [claims.UNCHECKED]
    shutil.rmtree(copy / ".state")
    assert [claim.verdict for claim in checked_results.of_steps(copy)] == [claims.UNCHECKED]


def test_of_a_folder_that_was_sent_as_the_page_says_nothing_differs(copy, tmp_path):
    sent = tmp_path / "sent"
    shutil.copytree(copy / ".state", sent / ".state")
    for name in [*crate.listed(copy), crate.NAME]:
        (sent / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(copy / name, sent / name)
    code, checked, _ = verify(sent)
    assert code == 0, {about for about, verdict in checked.items() if verdict == claims.DIFFERS}
    of_dp = "step 03_dp_training-eps1000-seed0: files"
    assert checked[of_dp] == checked[f"run {DP}: files"] == claims.HOLDS
    needs_cohort = [f"run {DP}: its cohort", f"runs/{DP}/model_card.md"]
    needs_cohort += ["index.html: numbers and sentences", "step 01_data_preparation: files"]
    needs_cohort += ["tables and sentences of notebook 04"]
    assert {checked[about] for about in needs_cohort} == {claims.UNCHECKED}
    (sent / f"runs/{DP}/record.json").unlink()  # which the crate lists
    assert of_dp in differing(checked_results.of_steps(sent, crate.listed(sent)))
    # without a crate, all but cohorts should be there
    first, second, *_ = checked_results.of_steps(sent)
    assert (first.verdict, second.verdict) == (claims.UNCHECKED, claims.DIFFERS)
    assert "network.json is not there" in second.detail
