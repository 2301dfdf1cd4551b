"""The smoke study, from an empty folder to its report, run again, damaged, killed and gone on with.

The tests share one results folder and follow each other in this order.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

from helpers.core import files, fingerprints, paths

PRIVATE = "synthetic_cxr_private"
STEPS = [
    "01_data_preparation",
    "02_baseline_training-seed0",
    "03_dp_training-eps7.89-seed0",
    "04_fairness_analysis",
]
RUN_NAMES = [f"{PRIVATE}-{name}" for name in ("zero_shot", "baseline-seed0", "dp-eps7.89-seed0")]
LINE = re.compile(r"^\[\d/4\] (\S+) +(\S+) ", re.MULTILINE)


def start(out: Path) -> subprocess.Popen:
    """The command of the README, under way."""
    command = [sys.executable, "run_all.py", "--profile", "smoke", "--out", str(out)]
    return subprocess.Popen(
        command,
        cwd=paths.repository_root(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def run(out: Path) -> tuple[int, str, str, dict[str, str]]:
    """Exit code, standard output, standard error and the state of each step of a finished command."""
    process = start(out)
    said, complaint = process.communicate(timeout=600)
    return process.returncode, said, complaint, dict(LINE.findall(said))


def contents(out: Path) -> dict[str, str]:
    """{file: hash} of all files that are not hidden."""
    return {
        path.relative_to(out).as_posix(): fingerprints.file_hash(path)
        for path in sorted(out.rglob("*"))
        if path.is_file() and not path.relative_to(out).parts[0].startswith(".")
    }


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    """The results folder of one run of the smoke study."""
    folder = tmp_path_factory.mktemp("study") / "results"
    code, said, complaint, states = run(folder)
    assert code == 0, complaint
    assert not complaint and states == dict.fromkeys(STEPS, "done")
    assert (
        f"Report: {folder / 'index.html'}" in said
        and "mean AUROC" in said
        and "7.89 per patient" in said
    )
    return folder


def test_output_is_exactly_what_the_design_says(out):
    found = set(contents(out))
    expected = {"index.html"} | {
        f"notebooks/{step}.{ending}" for step in STEPS for ending in ("ipynb", "html")
    }
    expected |= {
        f"runs/{name}/{file}"
        for name in RUN_NAMES
        for file in ("predictions.parquet", "record.json", "weights.safetensors")
    }
    expected |= {
        f"runs/synthetic_cxr_elsewhere-from-{name}/{file}"
        for name in RUN_NAMES
        for file in ("predictions.parquet", "record.json")
    }
    expected |= {
        f"cohort/{name}/{file}"
        for name in (PRIVATE, "synthetic_cxr_public", "synthetic_cxr_elsewhere")
        for file in ("images.npy", "table.parquet", "exclusions.csv", "record.json")
    }
    further = {
        name
        for name in found - expected
        if not re.fullmatch(r"register/(salt|patients-[0-9a-f]{64}\.npz)", name)
    }
    # demo mode spends nothing
    assert not expected - found and not (out / "register/spent.jsonl").exists()
    marks = ["01_", *(f"02_{name}_" for name in RUN_NAMES[:2]), f"03_{RUN_NAMES[2]}_", "04_"]
    names = "|".join(map(re.escape, marks))
    assert not [
        name
        for name in further
        if not re.fullmatch(rf"(tables/({names})\w+\.csv|figures/({names})\w+\.(png|svg))", name)
    ]
    assert {"tables/04_summary.csv", "figures/04_privacy_utility.png"} <= further


def test_study_has_at_most_a_thousand_images(out):
    assert sum(len(pd.read_parquet(path)) for path in out.glob("cohort/*/table.parquet")) <= 1000


def test_numbers_are_the_expected_ones(out):
    # Other machines and thread counts add floats in another order, and training carries that on.
    found, expected = (
        pd.read_csv(path).set_index("run")
        for path in (out / "tables/04_summary.csv", paths.repository_root() / "expected/smoke.csv")
    )
    assert list(found.index) == list(expected.index)
    assert (found["macro_auroc"] - expected["macro_auroc"]).abs().max() < 0.03


def test_pages_load_nothing_from_the_network(out):
    for path in [out / "index.html", *out.glob("notebooks/*.html")]:
        html = path.read_text(encoding="utf-8")
        loading = re.findall(
            r"<(?:script|img|link|iframe|source|video|object|embed)\b[^>]*", html, re.IGNORECASE
        )
        assert not [
            tag[:100]
            for tag in loading
            if re.search(r"(src|href|data)\s*=\s*[\"']?(https?:)?//", tag)
        ], path.name
        assert not re.search(r"@import|url\(\s*[\"']?(https?:)?//|import\([\"']http", html), (
            path.name
        )


def test_executed_notebooks_hold_no_trace_of_the_machine(out):
    for path in out.glob("notebooks/*.ipynb"):
        text = path.read_text(encoding="utf-8")
        assert (
            "papermill" not in json.loads(text)["metadata"]
            and str(out) not in text
            and str(Path.home()) + "/" not in text
        )


def test_links_of_the_report_lead_somewhere(out):
    links = re.findall(r'<a href="([^"]+)"', (out / "index.html").read_text(encoding="utf-8"))
    assert len(links) >= len(STEPS) and all((out / link).exists() for link in links)


@pytest.mark.parametrize("name", [RUN_NAMES[0], RUN_NAMES[2]])
def test_analysis_works_with_one_run(out, tmp_path, name):
    parameters = {"RUNS": [name], "N_BOOTSTRAP": 20, "MIN_PATIENTS": 3}
    os.makedirs(tmp_path / "results")
    for part in ("cohort", "runs"):
        os.symlink(out / part, tmp_path / "results" / part)
    done = subprocess.run(
        [
            sys.executable,
            "run_notebook.py",
            "notebooks/04_fairness_analysis.ipynb",
            "--to",
            str(tmp_path / "page"),
            "--parameters",
            json.dumps(parameters),
        ],
        cwd=paths.repository_root(),
        text=True,
        capture_output=True,
        env=os.environ | {"RESULTS_DIR": str(tmp_path / "results")},
    )
    assert done.returncode == 0, done.stderr


def test_models_were_tried_among_the_patients_of_another_hospital(out):
    elsewhere = pd.read_csv(out / "tables/04_elsewhere.csv")
    assert (
        elsewhere["arm"].tolist() == ["zero_shot", "baseline", "dp"]
        and elsewhere["macro_auroc"].between(0, 1).all()
    )
    there = pd.read_parquet(
        out / f"runs/synthetic_cxr_elsewhere-from-{RUN_NAMES[1]}/predictions.parquet"
    )
    table = pd.read_parquet(out / "cohort/synthetic_cxr_elsewhere/table.parquet")
    assert set(there["patient_id"]) == set(
        table.loc[table["split"] != "train", "patient_id"]
    ) and "pleural_effusion" in set(there["finding"])
    assert (
        files.read_json(out / f"runs/synthetic_cxr_elsewhere-from-{RUN_NAMES[2]}/record.json", "")[
            "trained_on"
        ]
        == PRIVATE
    )


def test_analysis_works_on_files_of_another_system(out, tmp_path):
    cohort = out / "cohort" / PRIVATE / "table.parquet"
    pd.read_parquet(cohort).drop(columns="split").to_csv(tmp_path / "table.csv", index=False)
    for name in RUN_NAMES[1:]:
        pd.read_parquet(out / "runs" / name / "predictions.parquet").drop(
            columns="patient_id"
        ).to_csv(tmp_path / f"{name}.csv", index=False)
    parameters = {
        "TABLE": str(tmp_path / "table.csv"),
        "N_BOOTSTRAP": 50,
        "MIN_PATIENTS": 3,
        "PREDICTIONS": [
            {"path": str(tmp_path / f"{RUN_NAMES[1]}.csv"), "arm": "baseline"},
            {"path": str(tmp_path / f"{RUN_NAMES[2]}.csv"), "arm": "dp", "epsilon": 7.89},
        ],
    }
    done = subprocess.run(
        [
            sys.executable,
            "run_notebook.py",
            "notebooks/04_fairness_analysis.ipynb",
            "--to",
            str(tmp_path / "page"),
            "--parameters",
            json.dumps(parameters),
        ],
        cwd=paths.repository_root(),
        text=True,
        capture_output=True,
        env=os.environ | {"RESULTS_DIR": str(tmp_path / "results")},
    )
    assert done.returncode == 0, done.stderr
    found, own = (
        pd.read_csv(folder / "tables/04_summary.csv").set_index("run")
        for folder in (tmp_path / "results", out)
    )
    assert found["macro_auroc"].to_dict() == pytest.approx(
        own.loc[RUN_NAMES[1:], "macro_auroc"].to_dict()
    )


def test_second_run_finds_all_done_though_files_were_touched(out):
    before = contents(out)
    for path in out.rglob("*.*"):
        os.utime(path)
    started = time.monotonic()
    code, said, _, states = run(out)
    assert code == 0 and states == dict.fromkeys(STEPS, "unchanged") and "mean AUROC" in said
    assert time.monotonic() - started < 20
    assert contents(out) == before


def test_damaged_step_runs_again_is_killed_and_goes_on(out):
    folder = out / "runs" / RUN_NAMES[2]
    before = pd.read_parquet(folder / "predictions.parquet")
    content = bytearray((folder / "predictions.parquet").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "predictions.parquet").write_bytes(content)

    (lock := out / ".locks" / f"{RUN_NAMES[2]}.lock").unlink()
    process = start(out)
    deadline = time.monotonic() + 200
    while not lock.exists():  # made when training begins
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    for child in psutil.Process(process.pid).children():
        assert STEPS[2] in " ".join(child.cmdline())
        child.send_signal(signal.SIGKILL)
    said, complaint = process.communicate(timeout=60)
    assert (
        process.returncode == 1
        and "03_dp_training.ipynb" in complaint
        and "killed by signal 9" in complaint
    )
    assert complaint.count("\n") == 1 and "Traceback" not in complaint
    assert dict(LINE.findall(said)) == {
        STEPS[0]: "unchanged",
        STEPS[1]: "unchanged",
        STEPS[2]: "FAILED",
    }

    code, _, complaint, states = run(out)
    assert code == 0, complaint
    assert (states[STEPS[0]], states[STEPS[1]], states[STEPS[2]]) == (
        "unchanged",
        "unchanged",
        "done",
    )
    pd.testing.assert_frame_equal(
        pd.read_parquet(folder / "predictions.parquet"), before, rtol=1e-4
    )
    assert not list(out.rglob("*.part")) and not (folder / "checkpoint.pt").exists()
