"""A private study as people work: cells run again in a live kernel, interrupted, then `run_all.py`,
then a changed helper.

The tests share one copy of the package and one results folder, and follow each other in this order.
After each the register holds what was spent, and no step twice.
"""

import json
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from helpers.core import files

COHORT = "synthetic_cxr_private"
RUN = f"{COHORT}-dp-eps7.89-seed0"
N_STEPS = 10  # 2 epochs x 80 patients / 16
PRIVATE_STEP = {  # parameters of notebook 03, in the live kernel and in the study
    "DELTA": 1e-3,
    "EPSILON": 7.89,
    "EPOCHS": 2,
    "EXPECTED_BATCH_SIZE": 16,
    "MAX_IMAGES_PER_PATIENT": 4,
    "MODE": "private",
    "LEARNING_RATE": 2e-3,
}
TINY = (
    "EVALUATE_ON=none",
    "EPSILONS=[7.89]",
    "N_BOOTSTRAP=20",
    "01.N_PATIENTS=80",
    "01.N_TEST_PATIENTS=30",
    "01.N_PUBLIC_PATIENTS=50",
    "02.PRETRAIN_EPOCHS=1",
    "02.EPOCHS=1",
    *(f"03.{name}={value}" for name, value in PRIVATE_STEP.items() if name != "EPSILON"),
)


@pytest.fixture(scope="module")
def package(tmp_path_factory, copy_package) -> Path:
    """A copy of the package, in which a helper may be edited."""
    return copy_package(tmp_path_factory.mktemp("private") / "package")


@pytest.fixture(scope="module")
def environment(package) -> dict[str, str]:
    """What the copy's kernels and commands have in common."""
    return {"PYTHONPATH": str(package), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def run_tiny(package, environment, run_study) -> Callable:
    """run_tiny(*words, settings=[...]): the smoke study made tiny, on the copy of the package."""

    def run(*words: str, settings: tuple = ()):
        return run_study(
            "smoke",
            package / "out",
            *words,
            settings=(*TINY, *settings),
            package=package,
            environment=environment | {"PRIVACY_REGISTER": ""},
        )

    return run


@pytest.fixture(scope="module")
def run_hashes(package, file_hashes) -> Callable[[], dict[str, str]]:
    """run_hashes(): {file: hash} of the private run, but its card, which is of notebook 04."""

    def hashes() -> dict[str, str]:
        of_run = file_hashes(package / "out/runs" / RUN)
        return {name: value for name, value in of_run.items() if name != "model_card.md"}

    return hashes


def counted(package: Path) -> list[int]:
    """The steps that count of each run in the register, as its lines say."""
    runs = {}
    for line in map(json.loads, (package / "out/register/spent.jsonl").read_text().splitlines()):
        run = runs.setdefault(line["uuid"], {"planned": line.get("steps_planned"), "noted": 0})
        run |= {
            "ended": line["event"] == "end",
            "noted": max(run["noted"], line["steps"] if line["event"] != "begin" else 0),
        }
    return [run["noted"] if run["ended"] else run["planned"] for run in runs.values()]


class Kernel:
    """Notebook 03 open in a live kernel, cell by cell as in JupyterLab."""

    def __init__(self, package: Path, environment: dict[str, str]) -> None:
        self.notebook = nbformat.read(package / "notebooks/03_dp_training.ipynb", as_version=4)
        for cell in self.notebook.cells:
            if "parameters" in cell.metadata.get("tags", []):
                cell.source += "\n" + "\n".join(
                    f"{name} = {value!r}" for name, value in PRIVATE_STEP.items()
                )
        self.client = NotebookClient(self.notebook, kernel_name="python3", timeout=300)
        self.package = package
        self.environment = environment | {"RESULTS_DIR": str(package / "out")}

    def __enter__(self) -> "Kernel":
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            self.client.create_kernel_manager()
            self.client.start_new_kernel(cwd=str(self.package / "notebooks"))
            self.client.start_new_kernel_client()
        return self

    def __exit__(self, *_: object) -> None:
        self.client._cleanup_kernel()

    def cell_with(self, text: str) -> int:
        """The number of the only code cell that holds some code."""
        (number,) = [
            number
            for number, cell in enumerate(self.notebook.cells)
            if cell.cell_type == "code" and text in cell.source
        ]
        return number

    def run(self, first: int, last: int) -> str:
        """Run some cells; return what they printed."""
        said = ""
        for number in range(first, last + 1):
            cell = self.notebook.cells[number]
            if cell.cell_type == "code":
                self.client.execute_cell(cell, number)
                said += "".join(output.get("text", "") for output in cell.outputs)
        return said

    def say(self, source: str) -> str:
        """Run a line of one's own."""
        cell = nbformat.v4.new_code_cell(source)
        self.notebook.cells.append(cell)
        self.client.execute_cell(cell, len(self.notebook.cells) - 1)
        return "".join(output.get("text", "") for output in cell.outputs).strip()


@pytest.fixture(scope="module")
def prepared(package, run_tiny) -> Path:
    """The package with cohort and public model, before any private run."""
    for step in ("01", "02"):
        study = run_tiny("--only", step)
        assert study.code == 0, study.complaint
    return package


CTRL_C_AT_STEP_7 = """
add = arm.add_units
def ctrl_c(*arguments):
    if arm.steps_done == 7:
        raise KeyboardInterrupt
    return add(*arguments)
arm.add_units = ctrl_c
"""


def test_cells_run_again_in_a_live_kernel_spend_nothing_twice(
    prepared, environment, run_tiny, run_hashes
):
    with Kernel(prepared, environment) as kernel:
        session = kernel.cell_with("session = devices.session(")
        training = kernel.cell_with("for epoch in loop.epochs_left(session)")
        said = kernel.run(0, session)
        assert f"Goes on from step 0 of {N_STEPS}. 1 private run in the privacy register" in said
        assert "of this results folder, on these patients: together epsilon 7.8" in said
        kernel.say(CTRL_C_AT_STEP_7)
        with pytest.raises(CellExecutionError, match="KeyboardInterrupt"):
            kernel.run(training, training)
        assert kernel.say("print(session.step, arm.steps_done)") == "7 7"
        assert counted(prepared) == [N_STEPS]
        used_arm = "an arm that no session has used; got one with 7 of 10 steps released"
        with pytest.raises(CellExecutionError, match=used_arm):
            kernel.run(session, session)
        elsewhere = run_tiny("--only", "03")  # meanwhile, in another process
        assert elsewhere.code == 1
        assert f"the run {RUN} for this process alone; got process" in elsewhere.complaint
        assert "Traceback" not in elsewhere.complaint

        # from the top: what was trained until the interrupt is on disk, and is taken up
        said = kernel.run(0, session)
        assert f"Goes on from step 7 of {N_STEPS}" in said
        kernel.run(training, training)
        kernel.run(training, training)  # and once more
        assert kernel.say("print(arm.ledger()['steps_done'])") == str(N_STEPS)
        kernel.run(training + 1, len(kernel.notebook.cells) - 3)
        assert counted(prepared) == [N_STEPS]

        finished = run_hashes()
        kernel.run(0, training)  # all of it again, after the end
        assert kernel.say("print(session.is_read, session.step)") == f"True {N_STEPS}"
    assert counted(prepared) == [N_STEPS]
    assert run_hashes()["record.json"] == finished["record.json"]


def test_run_all_reads_what_the_kernel_finished(prepared, run_tiny, run_hashes):
    before = run_hashes()
    study = run_tiny()
    assert study.code == 0, study.complaint
    assert "This study plans 0 new private runs; with the 1 in the privacy register" in study.said
    assert "of this results folder, on these patients, together epsilon 7.8" in study.said
    assert study.states["03_dp_training-eps7.89-seed0"] == "done"
    assert counted(prepared) == [N_STEPS]
    assert run_hashes() == before
    page = (prepared / "out/index.html").read_text(encoding="utf-8")
    assert "1 private run in the privacy register of this results folder" in page
    assert "on these patients: together epsilon 7.8" in page
    assert "has no bound at all" in page


def test_a_comment_in_a_helper_trains_nothing_again(prepared, run_tiny, run_hashes):
    before = run_hashes()
    with open(prepared / "helpers/privacy/clipping.py", "a") as helper:
        helper.write("# as after any `git pull`\n")
    for step in ("02", "03"):
        study = run_tiny("--only", step)
        assert study.code == 0, study.complaint
        assert set(study.states.values()) == {"done"}  # it ran again; 03 read what it had
    assert counted(prepared) == [N_STEPS]
    assert run_hashes() == before


def test_a_changed_learning_rate_is_refused_in_one_line(prepared, run_tiny):
    study = run_tiny("--only", "03", settings=["03.LEARNING_RATE=0.001"])
    assert study.code == 1
    assert list(study.states.values()) == ["FAILED"]
    assert study.complaint.count("\n") == 1
    assert "Traceback" not in study.complaint
    assert "LEARNING_RATE (0.002 then, 0.001 now)" in study.complaint
    assert 'CONFIRM = ["spend again"]' in study.complaint
    assert counted(prepared) == [N_STEPS]


def test_force_and_lost_predictions_spend_nothing(prepared, run_tiny, run_hashes):
    folder, before = prepared / "out/runs" / RUN, run_hashes()
    ledger = files.read_json(folder / "record.json", "")["ledger"]
    (folder / "predictions.parquet").unlink()
    study = run_tiny("--only", "03", "--force")
    assert study.code == 0, study.complaint
    assert f"--force leaves {RUN} as it is" in study.said
    assert list(study.states.values()) == ["done"]
    assert counted(prepared) == [N_STEPS]
    assert run_hashes()["weights.safetensors"] == before["weights.safetensors"]
    assert (folder / "predictions.parquet").exists()
    assert files.read_json(folder / "record.json", "")["ledger"] == ledger


def test_a_budget_refuses_the_next_run_before_it_begins(prepared, run_tiny):
    study = run_tiny(settings=["EPSILONS=[7.89, 4]", "03.BUDGET=8"])
    assert study.code == 2
    assert "private runs that together keep BUDGET = 8" in study.complaint
    assert "got 2 on these patients, together epsilon" in study.complaint
    assert counted(prepared) == [N_STEPS]
    assert not (prepared / "out/runs" / f"{COHORT}-dp-eps4-seed0").exists()


def test_spending_again_is_by_name_and_both_stand_in_the_register(prepared, run_tiny):
    settings = ["03.LEARNING_RATE=0.001", "03.CONFIRM=['spend again']"]
    study = run_tiny("--only", "03", settings=settings)
    assert study.code == 0, study.complaint
    assert list(study.states.values()) == ["done"]
    assert counted(prepared) == [N_STEPS, N_STEPS]
    page = prepared / "out/notebooks/03_dp_training-eps7.89-seed0.ipynb"
    assert (
        "2 private runs in the privacy register of this results folder, on these patients:"
        " together epsilon" in page.read_text(encoding="utf-8")
    )
