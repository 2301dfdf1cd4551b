"""What must not be passed on is found where it is planted, and nothing else is."""

import base64
import io
import json
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import run_notebook
from helpers.core import files, paths
from helpers.study import crate, disclosure

ID, IMAGE = "ward-000123", "film_000123.png"


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


FILM = png(np.random.default_rng(0).integers(30, 220, (64, 64)))


def drawing():
    """A figure with lines, a grey band and text, as this package draws them."""
    figure, ax = plt.subplots(figsize=(4, 3))
    ax.plot([0, 1], [0, 1])
    ax.axvspan(0.2, 0.8, color="0.9")
    ax.set_xlabel("epsilon")
    stream = io.BytesIO()
    figure.savefig(stream)
    plt.close(figure)
    return stream.getvalue()


def cell(text="", picture=None, name="stdout"):
    outputs = [{"output_type": "stream", "name": name, "text": [text]}] if text else []
    if picture:
        data = {"image/png": base64.b64encode(picture).decode()}
        outputs.append({"output_type": "display_data", "data": data, "metadata": {}})
    return {"cell_type": "code", "source": ["x"], "metadata": {}, "outputs": outputs}


def shown(html):
    data = {"text/html": [html]}
    output = {"output_type": "display_data", "data": data, "metadata": {}}
    return cell() | {"outputs": [output]}


def notebook(*cells):
    return json.dumps({"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


@pytest.fixture
def out(tmp_path):
    """A results folder of data that are not open, with nothing to find."""
    table = pd.DataFrame(
        {"patient_id": [ID, "7", "PT:0012/345678", "MÜLLER12345"], "image_id": [IMAGE, *"bcd"]}
    )
    files.write_json(tmp_path / "cohort/own/record.json", {"cohort": "own", "access": "private"})
    (tmp_path / "cohort/own").mkdir(exist_ok=True)
    table.to_parquet(tmp_path / "cohort/own/table.parquet")
    for name, text in {
        "index.html": "<p>7 patients, epsilon 1.06; 123 images</p>",
        "notebooks/01_a.ipynb": notebook(cell("7 patients"), cell(picture=drawing())),
        "notebooks/01_a.html": "<th>sex</th>",
        "tables/04_metrics.csv": "group,auroc\nward,0.8\n",
        "runs/r/record.json": json.dumps({"run": "r", "PRETRAIN": f"{Path.home()}/w.safetensors"}),
        "runs/r/model_card.md": "# Model card",
        "runs/r/predictions.parquet": "a row an image",
    }.items():
        files.write_text(tmp_path / name, text)
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures/04_a.png").write_bytes(drawing())
    return tmp_path


def test_nothing_is_found_where_nothing_is(out):
    assert disclosure.findings(out, ["/data/ward"]) == []


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("index.html", f"<p>{ID}</p>", "an identifier"),
        ("notebooks/01_a.html", f'<img alt="{IMAGE}">', "an identifier"),
        ("notebooks/01_a.ipynb", notebook(cell(f"worst: {Path(IMAGE).stem}")), "an identifier"),
        ("tables/04_metrics.csv", f"group,auroc\n{ID},0.8\n", "an identifier"),
        ("tables/06_x.csv", "patient_id,auroc\n7,0.8\n", "a column of patients"),
        ("tables/04_a.csv", "auroc,image_id\n0.8,b\n", "a column of patients"),
        ("tables/04_a.csv", "group,n_patients\nward,120\nother,9\n", "a count of fewer"),
        ("index.html", "<th>patient_id</th><td>7</td>", "a column of patients"),
        ("notebooks/01_a.ipynb", notebook(shown("<th> patient_id</th><td>7</td>")), "a column"),
        ("index.html", f"<p>The worst is {ID}.</p>", "an identifier"),
        ("index.html", f"<p>p_{ID}_frontal</p>", "an identifier"),
        ("index.html", "<p>PT:0012/345678; M&Uuml;LLER12345</p>", "an identifier"),
        ("notebooks/01_a.ipynb", notebook(cell(f"a\t{ID}")), "an identifier"),
        ("figures/04_a.svg", f"<text>{ID}</text>", "an identifier"),
        ("runs/r/model_card.md", f"patient {ID} ", "an identifier"),
        ("runs/r/record.json", json.dumps({"of": [ID]}), "an identifier"),
        ("ro-crate-metadata.json", json.dumps({"name": ID}), "an identifier"),
        ("notebooks/01_a.ipynb", notebook(cell(picture=FILM)), "a picture of a patient"),
        (
            "notebooks/01_a.html",
            f'<img src="data:image/png;base64,{base64.b64encode(FILM).decode()}">',
            "a picture of a patient",
        ),
        ("notebooks/01_a.ipynb", notebook(cell(ID, name="stderr")), "an identifier"),
        ("notebooks/01_a.ipynb", notebook(cell("/daten/R\u00f6ntgen/1.png")), "the folder"),
        ("notebooks/01_a.ipynb", notebook(cell("x = '/daten/R\\xf6ntgen'")), "the folder"),
        ("index.html", "<p>/data/ward/1.png</p>", "the folder of the data"),
        ("tables/04_metrics.csv", f"path\n{Path.home()}/x\n", "the home folder"),
    ],
)
def test_what_is_planted_is_found_and_not_quoted(out, name, text, what):
    files.write_text(out / name, text)
    found = disclosure.findings(out, ["/data/ward", "/daten/Röntgen"])
    assert len(found) == 1 and found[0].startswith(f"{name}: {what}")
    assert not any(secret in found[0] for secret in (ID, IMAGE, "/data/ward"))


def test_what_is_no_identifier_raises_no_alarm(out):
    text = "<p>ward-0001234 film_00012 12345678 b 7</p><td>7</td>/data/ward_public/x"
    files.write_text(out / "index.html", text)
    files.write_text(out / "tables/04_metrics.csv", "group,image\n7,b\n")
    assert disclosure.findings(out, ["/data/ward"]) == []


def test_a_user_s_own_parameters_may_name_files_where_the_data_are(out):
    own = cell() | {
        "source": ['COHORT = "/data/ward/own.yaml"'],
        "metadata": {"tags": ["injected-parameters"]},
    }
    files.write_text(out / "notebooks/02_b.ipynb", notebook(own))
    files.write_text(out / "notebooks/02_b.html", "<pre>COHORT = &#34;/data/ward/own.yaml&#34;")
    assert disclosure.findings(out, ["/data/ward"]) == []
    files.write_text(out / "notebooks/02_b.html", "<pre>/data/ward/own.yaml /data/ward/1.png")
    assert disclosure.findings(out, ["/data/ward"]) == [
        "notebooks/02_b.html: the folder of the data"
    ]


def test_films_and_rows_of_an_open_cohort_beside_a_restricted_one_may_be_shown(out):
    files.write_json(out / "cohort/free/record.json", {"cohort": "free", "access": "open"})
    table = pd.DataFrame({"patient_id": ["7"], "image_id": ["free_000777"]})
    table.to_parquet(out / "cohort/free/table.parquet")
    (out / "runs/free-network").mkdir()  # whose films notebook 01 shows
    files.write_text(out / "notebooks/01_a.ipynb", notebook(cell(picture=FILM)))
    files.write_text(out / "tables/01_examples.csv", "image_id,patient_id\nfree_000777,7\n")
    assert disclosure.findings(out) == []
    files.write_text(out / "tables/01_examples.csv", f"image_id\n{IMAGE}\n")
    assert disclosure.findings(out) == [
        "tables/01_examples.csv: an identifier of a patient or an image"
    ]


def test_a_film_among_the_figures_is_found(out):
    (out / "figures/04_film.png").write_bytes(FILM)
    assert disclosure.findings(out) == ["figures/04_film.png: a picture of a patient"]


def test_identifiers_and_pictures_of_open_data_may_be_shown_but_no_folder(out):
    files.write_json(out / "cohort/own/record.json", {"cohort": "own", "access": "open"})
    files.write_text(out / "index.html", f"{ID}")
    files.write_text(out / "notebooks/01_a.ipynb", notebook(cell(picture=FILM)))
    assert disclosure.findings(out) == []
    files.write_text(out / "index.html", f"{Path.home()}/results")
    assert disclosure.findings(out) == ["index.html: the home folder"]


@pytest.mark.parametrize(
    "path", sorted((paths.repository_root() / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem
)
def test_pictures_of_the_stored_notebooks_are_told_apart(path):
    # Of all pictures that this package draws, those of notebook 01 that show films are two.
    pictures = [
        base64.b64decode("".join(output["data"]["image/png"]))
        for one in json.loads(path.read_text(encoding="utf-8"))["cells"]
        for output in one.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    n_films = sum(map(disclosure.is_photograph, pictures))
    assert n_films == (2 if path.stem.startswith("01") else 0)


# ---- the crate


def test_crate_lists_what_may_be_passed_on_with_its_hash(out):
    files.write_json(
        out / "cohort/own/record.json",
        {"cohort": "own", "access": "private", "title": "Ward", "licence": "none"},
    )
    path = crate.write(out, "A study")
    graph = {entity["@id"]: entity for entity in json.loads(path.read_text())["@graph"]}
    assert graph["./"]["name"] == "A study" and graph["./"]["license"] == ["none"]
    listed = {name for name, entity in graph.items() if entity["@type"] == "File"}
    assert "index.html" in listed and "tables/04_metrics.csv" in listed
    # data that are not open: no row a patient, no weights without privacy
    assert not [name for name in listed if name.startswith("cohort") or "predictions" in name]
    assert graph["#cohort-own"]["conditionsOfAccess"] == "private"
    assert graph["#step-01_a"]["instrument"] == {"@id": "#private-fair-accurate"}
    assert [claim.verdict for claim in crate.of_crate(out)] == ["holds"]
    assert disclosure.findings(out) == []
    written = path.read_bytes()
    crate.write(out, "A study")
    assert path.read_bytes() == written  # a second run changes nothing, not even the date
    crate.write(out, "Another one")
    assert path.read_bytes() != written


@pytest.mark.parametrize(
    ("access", "listed"), [("private", ""), ("open", "predictions"), ("embedded", "weights")]
)
def test_weights_of_real_patients_are_not_listed(out, access, listed):
    files.write_json(out / "cohort/own/record.json", {"cohort": "own", "access": access})
    files.write_text(out / "runs/r/weights.safetensors", "numbers")
    files.write_text(out / "tables/06_groups.csv", "group\nB\n")
    names = {path.name for path in crate.shared_files(out)}
    assert ("predictions.parquet" in names) == (access != "private")
    assert ("weights.safetensors" in names) == (listed == "weights")
    assert ("06_groups.csv" in names) == (access != "private")


@pytest.mark.parametrize("change", ["changed", "missing", "more", "no cohort", "none"])
def test_a_crate_that_is_not_that_of_the_folder_differs(out, change):
    crate.write(out, "A study")
    if change == "changed":
        files.write_text(out / "tables/04_metrics.csv", "group,auroc\nward,0.9\n")
    elif change == "missing":
        (out / "tables/04_metrics.csv").unlink()
    elif change == "more":
        files.write_text(out / "tables/04_more.csv", "a\n")
    elif change == "no cohort":
        shutil.rmtree(out / "cohort")
    else:
        (out / crate.NAME).unlink()
    (claim,) = crate.of_crate(out)
    assert claim.verdict == ("differs" if change in ("changed", "more") else "cannot be checked")
    assert "tables/04_m" in claim.detail or claim.verdict == "cannot be checked"
    if change == "no cohort":  # the files that are there are compared all the same
        files.write_text(out / "tables/04_metrics.csv", "group,auroc\nward,0.9\n")
        assert [claim.verdict for claim in crate.of_crate(out)] == ["differs"]


def test_a_digit_flipped_in_a_crate_is_found(out):
    path = crate.write(out, "A study")
    text = path.read_text(encoding="utf-8")
    for said in ('"contentSize": "', '"size": "', '"sha256": "'):
        files.write_text(path, text.replace(said, said + "1", 1))
        assert [claim.verdict for claim in crate.of_crate(out)] == ["differs"]


# ---- executed notebooks


def test_executed_notebooks_name_no_folder_of_the_machine():
    home = str(Path.home())
    cells = [
        nbformat.v4.new_code_cell(
            f'DATA_ROOTS = {{"ward": "/data/w\\xfcrd"}}\nCOHORT = "{home}/own.yaml"',
            outputs=[nbformat.v4.new_output("stream", text=f"/data/würd/1.png {home}ward")],
        )
    ]
    executed = nbformat.v4.new_notebook(cells=cells)
    run_notebook.without_folders(executed, {"ward": "/data/würd"})
    assert '"ward": "<folder of ward>"' in executed.cells[0].source
    assert 'COHORT = "~/own.yaml"' in executed.cells[0].source
    # another folder whose name begins alike is left
    assert executed.cells[0].outputs[0].text == f"<folder of ward>/1.png {home}ward"
