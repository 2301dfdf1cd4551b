"""The page on one's own data, to the letter: its commands and files, on drawn radiographs."""

import os
import re
import shlex
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from helpers.core import paths

OWN_DATA = (paths.repository_root() / "docs/own_data.md").read_text(encoding="utf-8")
WAY = OWN_DATA.split("## Layouts")[0]


def block(first_line):
    """The indented block of the page that begins so."""
    return textwrap.dedent(re.search(rf"^    {first_line}(?:.*\n)(?:    .*\n)*", WAY, re.M).group())


def draw_radiographs(folder, n_patients=60):
    """Films with a table as on the page, one film a patient, some of a second one."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    rows = []
    for number in range(n_patients + 10):
        patient = number % n_patients
        grade = number % 5
        pixels = rng.integers(0, 120, (40, 40)).astype(np.uint8)
        pixels[25:, :20] += np.uint8(25 * grade)
        Image.fromarray(pixels).save(folder / f"images/r{number}.png")
        rows.append([f"r{number}.png", f"p{patient}", "FM"[patient % 2], 30 + patient, grade])
    columns = ["file", "patient", "sex", "age", "effusion_grade"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "radiographs.csv", index=False)


@pytest.fixture(scope="module")
def way(tmp_path_factory, copy_package):
    """What each command of the page said, by its last words, in a copy of the package."""
    folder = tmp_path_factory.mktemp("own")
    package = copy_package(folder / "package")
    draw_radiographs(folder / "radiographs")
    commands = re.findall(r"^    (\.venv/bin/python .*)$", WAY, re.M)
    assert [shlex.split(text)[-2:] for text in commands[:4]] == [
        ["--name", "our_hospital"],
        ["--data-root", "/path/to/radiographs"],
        ["results_our_hospital", "--dry-run"],
        ["--only", "01"],
    ]
    said = {}
    for name, command in zip(("new", "check", "dry-run", "only"), commands):
        words = shlex.split(command.replace("/path/to", str(folder)))
        assert words[0] == ".venv/bin/python"
        environment = os.environ | {"PYTHONPATH": str(package)}
        environment.pop("RESULTS_DIR", None)
        said[name] = subprocess.run(
            [sys.executable, *words[1:]],
            cwd=package,
            text=True,
            capture_output=True,
            env=environment,
            timeout=300,
        )
        assert said[name].returncode == 0, said[name].stderr
        if name == "new":  # then one edits it, and writes the profile
            manifest = package / "data_manifests/our_hospital.yaml"
            said["guessed"] = yaml.safe_load(manifest.read_text())
            manifest.write_text(block("name: our_hospital"), encoding="utf-8")
            (package / "profiles/our_hospital.yaml").write_text(
                block("title: Our chest radiogr.*, ")
            )
    return package, said


def test_the_first_manifest_guesses_what_the_page_writes(way):
    _, said = way
    written = yaml.safe_load(block("name: our_hospital"))
    for field in ("name", "layout", "image_id", "patient_id", "sex", "split", "image"):
        assert said["guessed"][field] == written[field], field
    (guessed,), (wanted,) = said["guessed"]["findings"].values(), written["findings"].values()
    assert guessed["positive_grades"] == wanted["positive_grades"]


def test_the_check_and_the_dry_run_say_who_is_there(way):
    _, said = way
    for name in ("check", "dry-run"):
        assert "70 in radiographs.csv" in said[name].stdout
        assert "60; images of one: median 1, most 2" in said[name].stdout
        assert "30 female, 30 male" in said[name].stdout
    assert "03_dp_training-eps7.89-seed0" in said["dry-run"].stdout


def test_notebook_01_makes_the_cohort_of_the_page(way):
    package, _ = way
    results = package / "results_our_hospital"
    table = pd.read_parquet(results / "cohort/our_hospital/table.parquet")
    assert len(table) == 70 and table["patient_id"].nunique() == 60
    assert table["effusion"].sum() == 42  # grades 2, 3 and 4 of 70 films
    assert table.groupby("patient_id")["split"].nunique().max() == 1
    assert (results / "notebooks/01_data_preparation.html").is_file()
