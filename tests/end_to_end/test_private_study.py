"""A private study as people work: cells run again in a live kernel, interrupted, then `run_all.py`,
then a changed helper.

The tests share one copy of the package and one results folder, and follow each other in this order.
After each the register holds what was spent, and no step twice.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from helpers.core import files, fingerprints, paths

RUN = "synthetic_cxr_private-dp-eps7.89-seed0"
SETTINGS = {
    "COHORT": "synthetic_cxr_private",
    "PRETRAIN": "synthetic_cxr_public",
    "WIDTH": 8,
    "DELTA": 1e-3,
    "EPOCHS": 2,
    "EXPECTED_BATCH_SIZE": 16,
    "MODE": "private",
    "LEARNING_RATE": 2e-3,
}
N_STEPS = 10  # 2 x 80 / 16
COMMAND = [
    "--profile",
    "smoke",
    "--set",
    "EVALUATE_ON=none",
    "--set",
    "N_BOOTSTRAP=20",
    *(
        word
        for name, value in SETTINGS.items()
        if name not in ("COHORT", "PRETRAIN", "WIDTH", "DELTA")
        for word in ("--set", f"03.{name}={value}")
    ),
]
LINE = re.compile(r"^\[\d/\d\] (\S+) +(\S+) ", re.MULTILINE)


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    """A copy of the package, in which a helper may be edited."""
    copy = tmp_path_factory.mktemp("package")
    for part in (
        "helpers",
        "notebooks",
        "profiles",
        "data_manifests",
        "benchmarks/results",
        "run_all.py",
        "run_notebook.py",
        "pyproject.toml",
    ):
        source = paths.repository_root() / part
        (shutil.copytree if source.is_dir() else shutil.copy)(source, copy / part)
    return copy


def environment(package: Path) -> dict[str, str]:
    return os.environ | {
        "PYTHONPATH": str(package),
        "RESULTS_DIR": str(package / "out"),
        "OMP_NUM_THREADS": "1",
    }


def run_all(package: Path, *words: str) -> tuple[int, str, str, dict[str, str]]:
    """Exit code, standard output, standard error and the state of each step."""
    done = subprocess.run(
        [sys.executable, "run_all.py", *COMMAND, *words, "--out", str(package / "out")],
        cwd=package,
        text=True,
        capture_output=True,
        env=environment(package) | {"PRIVACY_REGISTER": ""},
        timeout=600,
    )
    return (
        done.returncode,
        done.stdout,
        done.stderr,
        {name[:2]: state for name, state in LINE.findall(done.stdout)},
    )


def counted(package: Path) -> list[int]:
    """The steps that count of each run in the register, as its lines say."""
    found = {}
    for line in map(json.loads, (package / "out/register/spent.jsonl").read_text().splitlines()):
        run = found.setdefault(line["uuid"], {"planned": line.get("steps_planned"), "noted": 0})
        run |= {
            "ended": line["event"] == "end",
            "noted": max(run["noted"], line["steps"] if line["event"] != "begin" else 0),
        }
    return [run["noted"] if run["ended"] else run["planned"] for run in found.values()]


class Kernel:
    """Notebook 03 open in a live kernel, cell by cell as in JupyterLab."""

    def __init__(self, package: Path) -> None:
        self.notebook = nbformat.read(package / "notebooks/03_dp_training.ipynb", as_version=4)
        for cell in self.notebook.cells:
            if "parameters" in cell.metadata.get("tags", []):
                cell.source += "\n" + "\n".join(
                    f"{name} = {value!r}" for name, value in SETTINGS.items()
                )
        self.client = NotebookClient(self.notebook, kernel_name="python3", timeout=300)
        self.package = package

    def __enter__(self) -> "Kernel":
        before = dict(os.environ)
        os.environ.update(environment(self.package))
        try:
            self.client.create_kernel_manager()
            self.client.start_new_kernel(cwd=str(self.package / "notebooks"))
            self.client.start_new_kernel_client()
        finally:
            os.environ.clear()
            os.environ.update(before)
        return self

    def __exit__(self, *_: object) -> None:
        self.client._cleanup_kernel()

    def place(self, text: str) -> int:
        """The cell that holds some code."""
        (place,) = [
            i
            for i, cell in enumerate(self.notebook.cells)
            if cell.cell_type == "code" and text in cell.source
        ]
        return place

    def run(self, first: int, last: int) -> str:
        """Run some cells; return what they printed."""
        said = ""
        for place in range(first, last + 1):
            cell = self.notebook.cells[place]
            if cell.cell_type == "code":
                self.client.execute_cell(cell, place)
                said += "".join(output.get("text", "") for output in cell.outputs)
        return said

    def say(self, source: str) -> str:
        """Run a line of one's own."""
        cell = nbformat.v4.new_code_cell(source)
        self.notebook.cells.append(cell)
        self.client.execute_cell(cell, len(self.notebook.cells) - 1)
        return "".join(output.get("text", "") for output in cell.outputs).strip()


@pytest.fixture(scope="module")
def prepared(package) -> Path:
    """The package with cohort and public model, before any private run."""
    for step in ("01", "02"):
        code, _, complaint, _ = run_all(package, "--only", step)
        assert code == 0, complaint
    return package


def test_cells_run_again_in_a_live_kernel_spend_nothing_twice(prepared):
    with Kernel(prepared) as kernel:
        session, training = (
            kernel.place("session = training.Session("),
            kernel.place("for epoch in training.epochs_left(session)"),
        )
        said = kernel.run(0, session)
        assert (
            f"Goes on from step 0 of {N_STEPS}. 1 private run in the privacy register of this"
            " results folder, on these patients: together epsilon 7.8" in said
        )
        kernel.say(
            "add = arm.add_units\ndef ctrl_c(*given):\n    if arm.steps_done == 7: raise"
            " KeyboardInterrupt\n    return add(*given)\narm.add_units = ctrl_c"
        )
        with pytest.raises(CellExecutionError, match="KeyboardInterrupt"):
            kernel.run(training, training)
        assert kernel.say("print(session.step, arm.steps_done)") == "7 7" and counted(prepared) == [
            N_STEPS
        ]
        with pytest.raises(
            CellExecutionError,
            match="an arm that no session has used; got one with 7 of 10 steps released",
        ):
            kernel.run(session, session)
        code, _, complaint, _ = run_all(prepared, "--only", "03")  # meanwhile, elsewhere
        assert (
            code == 1
            and f"the run {RUN} for this process alone; got process" in complaint
            and "Traceback" not in complaint
        )

        # from the top: what was trained until the interrupt is on disk, and is taken up
        said = kernel.run(0, session)
        assert f"Goes on from step 7 of {N_STEPS}" in said
        kernel.run(training, training)
        kernel.run(training, training)  # and once more
        assert kernel.say("print(arm.ledger()['steps_done'])") == str(N_STEPS)
        kernel.run(training + 1, len(kernel.notebook.cells) - 3)
        assert counted(prepared) == [N_STEPS]

        record = fingerprints.file_hash(prepared / "out/runs" / RUN / "record.json")
        kernel.run(0, training)  # all of it again, after the end
        assert kernel.say("print(session.is_read, session.step)") == f"True {N_STEPS}"
    assert (
        counted(prepared) == [N_STEPS]
        and fingerprints.file_hash(prepared / "out/runs" / RUN / "record.json") == record
    )


def test_run_all_reads_what_the_kernel_finished(prepared):
    before = {
        path.name: fingerprints.file_hash(path) for path in (prepared / "out/runs" / RUN).iterdir()
    }
    code, said, complaint, states = run_all(prepared)
    assert code == 0, complaint
    assert (
        "This study plans 0 new private runs; with the 1 in the privacy register of this results"
        " folder, on these patients, together epsilon 7.8" in said
    )
    assert states["03"] == "done" and counted(prepared) == [N_STEPS]
    assert {
        path.name: fingerprints.file_hash(path) for path in (prepared / "out/runs" / RUN).iterdir()
    } == before
    page = (prepared / "out/index.html").read_text(encoding="utf-8")
    assert (
        "1 private run in the privacy register of this results folder, on these patients: together"
        " epsilon 7.8"
        in page
        and "has no bound at all" in page
    )


def test_a_comment_in_a_helper_trains_nothing_again(prepared):
    before = {
        path.name: fingerprints.file_hash(path) for path in (prepared / "out/runs" / RUN).iterdir()
    }
    with open(prepared / "helpers/privacy/clipping.py", "a") as helper:
        helper.write("# as after any `git pull`\n")
    for step in ("02", "03"):
        code, _, complaint, states = run_all(prepared, "--only", step)
        assert code == 0, complaint
        assert states[step] == "done"  # it ran again; 03 read what it had
    assert counted(prepared) == [N_STEPS]
    assert {
        path.name: fingerprints.file_hash(path) for path in (prepared / "out/runs" / RUN).iterdir()
    } == before


def test_a_changed_learning_rate_is_refused_in_one_line(prepared):
    code, _, complaint, states = run_all(
        prepared, "--only", "03", "--set", "03.LEARNING_RATE=0.001"
    )
    assert (
        code == 1
        and states["03"] == "FAILED"
        and complaint.count("\n") == 1
        and "Traceback" not in complaint
    )
    assert (
        "LEARNING_RATE (0.002 then, 0.001 now)" in complaint
        and 'CONFIRM = ["spend again"]' in complaint
        and counted(prepared) == [N_STEPS]
    )


def test_force_and_lost_predictions_spend_nothing(prepared):
    folder = prepared / "out/runs" / RUN
    weights, ledger = (
        fingerprints.file_hash(folder / "weights.safetensors"),
        files.read_json(folder / "record.json", "")["ledger"],
    )
    (folder / "predictions.parquet").unlink()
    code, said, complaint, states = run_all(prepared, "--only", "03", "--force")
    assert code == 0, complaint
    assert (
        f"--force leaves {RUN} as it is" in said
        and states["03"] == "done"
        and counted(prepared) == [N_STEPS]
    )
    assert (
        fingerprints.file_hash(folder / "weights.safetensors") == weights
        and (folder / "predictions.parquet").exists()
    )
    assert files.read_json(folder / "record.json", "")["ledger"] == ledger


def test_a_budget_refuses_the_next_run_before_it_begins(prepared):
    code, said, complaint, _ = run_all(
        prepared, "--set", "EPSILONS=[7.89, 4]", "--set", "03.BUDGET=8"
    )
    assert (
        code == 2
        and "private runs that together keep BUDGET = 8; got 2 on these patients, together epsilon"
        in complaint
    )
    assert (
        counted(prepared) == [N_STEPS]
        and not (prepared / "out/runs/synthetic_cxr_private-dp-eps4-seed0").exists()
    )


def test_spending_again_is_by_name_and_both_stand_in_the_register(prepared):
    code, _, complaint, states = run_all(
        prepared, "--only", "03", "--set", "03.LEARNING_RATE=0.001", "--set", "03.CONFIRM=['spend again']"
    )
    assert code == 0, complaint
    page = (prepared / "out/notebooks/03_dp_training-eps7.89-seed0.ipynb").read_text(
        encoding="utf-8"
    )
    assert (
        states["03"] == "done"
        and counted(prepared) == [N_STEPS, N_STEPS]
        and "2 private runs in the privacy register of this results folder, on these patients: together epsilon"
        in page
    )
