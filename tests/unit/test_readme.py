"""What README says can be done, can be done."""

import json
import re
import textwrap

from helpers.analysis import study_results
from helpers.core import paths
from helpers.data import manifests
from helpers.study import notebook_files

README = (paths.repository_root() / "README.md").read_text(encoding="utf-8")


def test_manifest_example_is_a_manifest(tmp_path):
    example = re.search(r"    name: our_hospital\n(    .*\n)+", README).group()
    path = tmp_path / "our_hospital.yaml"
    path.write_text(textwrap.dedent(example), encoding="utf-8")
    assert list(manifests.read(path).findings) == ["effusion"]


def test_every_setting_shown_is_a_parameter_of_its_notebook():
    settings = re.findall(r"(?:--set |`)(?:(\d\d)\.)?([A-Z_]+)=", README)
    assert len(settings) >= 3
    defaults = {
        number: notebook_files.default_parameters(path)
        for number, path in notebook_files.notebooks().items()
    }
    for number, name in settings:
        assert name in defaults[number or "03"], name


def test_every_make_target_shown_exists():
    makefile = (paths.repository_root() / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`make ([a-z-]+)`|^    make ([a-z-]+)", README, re.MULTILINE):
        assert f"\n{''.join(target)}:" in makefile


def test_files_of_another_system_are_read_as_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = [
        textwrap.dedent(block)
        for block in re.findall(r"(?:^    image_id,.*\n(?:    .*\n)+)", README, re.MULTILINE)
    ]
    shown = json.loads(re.search(r"'(\{\"TABLE\".*\})'", README).group(1))
    for name, block in (
        ("images.csv", blocks[0]),
        ("ordinary.csv", blocks[1]),
        ("private.csv", blocks[1]),
    ):
        (tmp_path / name).write_text(block, encoding="utf-8")
    table, record, records, predictions = study_results.opened(
        "", [], shown["PREDICTIONS"], shown["TABLE"]
    )
    assert record["findings"] == ["effusion"] and [each["arm"] for each in records] == [
        "baseline",
        "dp",
    ]
    assert (
        set(shown["ATTRIBUTES"]) <= {"sex", "age", *table.columns}
        and len(predictions["private"]) == 2
    )
    assert set(shown) <= set(notebook_files.default_parameters(notebook_files.notebooks()["04"]))
