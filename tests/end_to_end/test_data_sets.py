"""The study of each public data set, with its own profile made tiny, on the documented files."""

import data_trees
import pandas as pd
import pytest

from helpers.core import small_counts
from helpers.data import manifests

TINY = (
    "EPSILONS=[7.89]",
    "N_BOOTSTRAP=20",
    "WIDTH=8",
    "CHANNELS=1",
    "PHYSICAL_BATCH_SIZE=32",
    "02.EPOCHS=1",
    "02.BATCH_SIZE=16",
    "03.DELTA=1e-3",
    "03.EPOCHS=2",
    "03.EXPECTED_BATCH_SIZE=16",
    "03.LEARNING_RATE=2e-3",
    "04.PLANNED=[]",
)
OF_FILMS = ("01.IMAGE_PX=32",)
OF_PHANTOMS = ("01.N_PUBLIC_PATIENTS=50", "02.PRETRAIN_EPOCHS=1")
IN_EVERY_RUN = {"rsna_pneumonia"}  # DICOM, a joined table with several rows a film, no patients
NAMES = [
    name if name in IN_EVERY_RUN else pytest.param(name, marks=pytest.mark.slow)
    for name in data_trees.WRITERS
]


@pytest.mark.parametrize("name", NAMES)
def test_study_of_a_data_set_runs_to_its_end(name, tmp_path, run_study):
    manifest = manifests.read(name)
    tree = data_trees.write(name, tmp_path / "files", 90)
    settings = TINY + (() if manifest.volume else OF_FILMS)
    settings += (f"MIN_PATIENTS={2 if small_counts.is_open(manifest.access) else 10}",)
    settings += OF_PHANTOMS if name == "chestxray14_part" else ()
    study = run_study(
        name,
        tmp_path / "out",
        "--data-root",
        str(tmp_path / "files"),
        settings=settings,
        environment={"OMP_NUM_THREADS": "1", "PRIVACY_REGISTER": ""},
    )
    assert study.code == 0, study.complaint
    assert set(study.states.values()) == {"done"}
    (predictions,) = (tmp_path / "out" / "runs").glob(f"{name}-dp-*/predictions.parquet")
    predicted = pd.read_parquet(predictions)
    table = pd.read_parquet(tmp_path / "out" / "cohort" / name / "table.parquet")
    assert set(predicted["finding"]) == set(tree.findings)
    assert set(predicted["image_id"]) >= set(table.loc[table["split"] == "test", "image_id"])
    ledger = (predictions.parent / "record.json").read_text(encoding="utf-8")
    unit = "patient" if manifest.patient_id else "image"
    assert f'"unit": "{unit}"' in ledger
