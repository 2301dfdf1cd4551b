"""Manifests: what is shipped is in order.

What is wrong is refused with file and field; paths stay under the root.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from helpers.core import errors, paths
from helpers.data import manifests
from helpers.data.tables import source_files

MINIMAL = {
    "name": "ward",
    "title": "A ward",
    "modality": "chest radiograph",
    "access": "private",
    "licence": "none",
    "citation": "none",
    "how_to_get": "Ask the ward.",
    "image_id": "{file}",
    "patient_id": "patient",
    "layout": {"kind": "table_and_images", "table": "films.csv", "image_path": "films/{file}"},
    "findings": {
        "effusion": {
            "canonical": "pleural_effusion",
            "column": "effusion",
            "values": {"1": "positive", "0": "negative"},
        }
    },
    "split": {"test_share": 0.3},
}


def write_manifest(folder: Path, **changes: object) -> Path:
    path = folder / "ward.yaml"
    path.write_text(yaml.safe_dump(MINIMAL | changes), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", manifests.names())
def test_read_accepts_every_shipped_manifest(name):
    manifest = manifests.read(name)
    assert manifest.name == name and manifest.how_to_get.strip() and manifest.licence


def test_names_lists_the_shipped_manifests():
    assert set(manifests.names()) >= {
        "synthetic_cxr_public",
        "synthetic_cxr_private",
        "covid_chestxray",
        "chestxray14",
        "taix_ray",
    }


def test_no_data_set_is_named_in_the_helpers():
    for path in (paths.repository_root() / "helpers").rglob("*.py"):
        code = path.read_text(encoding="utf-8")
        named_data_sets = [name for name in manifests.names() if name in code]
        assert not named_data_sets, (
            f"{path.name} names {named_data_sets}: code knows kinds of layout, not data sets"
        )


def test_public_site_has_no_sides_and_shares_its_names_with_the_private_site():
    public, private = (
        manifests.read("synthetic_cxr_public"),
        manifests.read("synthetic_cxr_private"),
    )
    assert list(public.findings) == [
        "cardiomegaly",
        "congestion",
        "pleural_effusion",
        "pneumonic_infiltrates",
        "atelectasis",
    ]
    assert {rule.canonical for rule in private.findings.values()} == set(public.findings)


def test_findings_with_a_side_are_lateral_and_so_are_those_that_say_so(tmp_path):
    effusion = MINIMAL["findings"]["effusion"]
    of = {
        "none": effusion,
        "said": effusion | {"lateral": True},
        "sided": effusion | {"side": "right"},
        "both": effusion | {"side": "left", "lateral": True},
    }
    manifest = manifests.read(write_manifest(tmp_path, findings=of))
    assert {name: rule.lateral for name, rule in manifest.findings.items()} == {
        "none": False,
        "said": True,
        "sided": True,
        "both": True,
    }


def test_shipped_chest_manifests_say_which_findings_can_be_on_one_side():
    midline = {"cardiomegaly", "congestion", "covid19"}
    for name in manifests.names():
        manifest = manifests.read(name)
        lateral = {rule.canonical for rule in manifest.findings.values() if rule.lateral}
        known = {rule.canonical for rule in manifest.findings.values()}
        is_film = manifest.modality.startswith("chest radiograph")
        assert lateral == (known - midline if is_film else set()), name


def test_read_refuses_an_unknown_name_and_lists_the_known():
    with pytest.raises(
        errors.InputError, match=r"got 'chestxray15'. Did you mean 'chestxray14'\? Known.*covid"
    ):
        manifests.read("chestxray15")


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"titel": "A"}, r"ward.yaml.*titel: Extra inputs"),
        ({"access": "secret"}, r"access: Input should be 'open'"),
        ({"name": "other"}, r"name: ward in ward.yaml; got name: other"),
        ({"findings": {}}, r"findings: is empty; write at least one entry below it"),
        ({"findings": {"sex": MINIMAL["findings"]["effusion"]}}, r"names used twice.*sex"),
        (
            {"findings": {"film_sha256": MINIMAL["findings"]["effusion"]}},
            r"names used twice.*film_sha256",
        ),
        ({"further_columns": {"film_sha256": "hash"}}, r"names used twice.*film_sha256"),
        (
            {"findings": {"effusion": {"canonical": "effusion", "column": "a"}}},
            r"findings.effusion.*exactly one rule",
        ),
        (
            {
                "findings": {
                    "effusion": MINIMAL["findings"]["effusion"] | {"side": "left", "lateral": False}
                }
            },
            r"findings.effusion.*has a `side`, so that it is lateral: leave out `lateral: false`",
        ),
        (
            {
                "findings": {
                    "effusion": {"canonical": "effusion", "column": "a", "positive_grades": [3]}
                }
            },
            r"needs `grades`",
        ),
        ({"split": {"column": "split"}}, r"split.*`column` with `values`"),
        ({"split": {"test_share": 0.6, "valid_share": 0.5}}, r"split.*leave patients to train on"),
        (
            {"layout": MINIMAL["layout"] | {"table": "../films.csv"}},
            r"layout.table_and_images.table.*no '\.\.'",
        ),
        (
            {"layout": MINIMAL["layout"] | {"table": "/etc/passwd"}},
            r"layout.table_and_images.table.*not absolute",
        ),
        ({"layout": MINIMAL["layout"] | {"image_path": "../{file}"}}, r"image_path.*no '\.\.'"),
        (
            {"layout": {"kind": "dicom"}},
            r"layout.*'synthetic', 'table_and_images', 'parquet_images'",
        ),
    ],
)
def test_read_refuses_a_wrong_manifest_and_names_file_and_field(tmp_path, changes, words):
    with pytest.raises(errors.InputError, match=words):
        manifests.read(write_manifest(tmp_path, **changes))


@pytest.mark.parametrize(
    "layout",
    [
        MINIMAL["layout"],
        {"kind": "parquet_images", "shards": ["a.parquet"], "image_column": "image"},
        {"kind": "folders", "pattern": "{split}/{file}"},
    ],
    ids=lambda layout: layout["kind"],
)
def test_read_refuses_to_call_real_patients_embedded(tmp_path, layout):
    with pytest.raises(
        errors.InputError,
        match=(
            r"`access: embedded` belongs to drawn images \(layout synthetic\): real patients are"
            r" open"
        ),
    ):
        manifests.read(write_manifest(tmp_path, layout=layout, access="embedded"))
    assert manifests.read(write_manifest(tmp_path, layout=layout, access="open")).access == "open"


@pytest.mark.parametrize(
    "text", ["a: [1", "- a\n- b", "", "!!python/object/apply:os.system ['true']"]
)
def test_read_refuses_what_is_no_mapping_and_runs_nothing(tmp_path, text):
    (tmp_path / "ward.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(errors.InputError, match="ward.yaml"):
        manifests.read(tmp_path / "ward.yaml")


@pytest.mark.parametrize(
    "old, new, words",
    [
        ("title: A ward", "title: A ward\ntitle: B", "'title' in line .* and in line"),
        ("'1': positive", "yes: positive", 'which YAML reads as True.*quote it: "yes"'),
        (
            "title: A ward",
            "title: no",
            "title: .*YAML reads it as False; to mean the text, quote it",
        ),
        ("'{file}'", "{file}", 'image_id: .*quote it: "{file}"'),
        ("column: effusion", "column: 2020-01-01", "YAML reads it as datetime.date"),
    ],
)
def test_what_yaml_would_lose_or_misread_is_refused(tmp_path, old, new, words):
    path = write_manifest(tmp_path)
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(errors.InputError, match=f"ward.yaml.*{words}"):
        manifests.read(path)


def test_manifest_hash_ignores_comments_and_sees_rules(tmp_path):
    first = manifests.manifest_hash(manifests.read(write_manifest(tmp_path)))
    path = write_manifest(tmp_path)
    path.write_text("# a comment\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    assert manifests.manifest_hash(manifests.read(path)) == first
    assert (
        manifests.manifest_hash(manifests.read(write_manifest(tmp_path, split={"test_share": 0.4})))
        != first
    )


def test_locate_says_what_is_missing_and_how_to_get_it(tmp_path):
    manifest = manifests.read(write_manifest(tmp_path))
    (tmp_path / "empty").mkdir()
    for root, words in [
        (None, "no data root"),
        (tmp_path / "absent", "no folder .*absent"),
        (tmp_path / "empty", "empty folder"),
        (tmp_path, "no films.csv in"),
    ]:
        with pytest.raises(
            errors.InputError,
            match=f"films.csv under the data root of ward; got .*{words}.*Ask the ward",
        ):
            source_files.locate(manifest, root)


def test_locate_wants_joined_tables_and_checksums_too(tmp_path):
    layout = MINIMAL["layout"] | {
        "table": ["films.csv", "more.csv"],
        "joins": [{"table": "people.csv", "by": ["patient"]}],
        "checksums": "sums.csv",
    }
    manifest = manifests.read(write_manifest(tmp_path, layout=layout))
    names = ["films.csv", "more.csv", "people.csv", "sums.csv"]
    assert source_files.expected_files(manifest) == names
    for name in names:
        with pytest.raises(errors.InputError, match=f"no {name} in"):
            source_files.locate(manifest, tmp_path)
        (tmp_path / name).touch()
    assert source_files.locate(manifest, tmp_path) == tmp_path


def test_inside_refuses_paths_and_links_that_leave_the_root(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.csv").write_text("x", encoding="utf-8")
    (root / "link.csv").symlink_to(tmp_path / "secret.csv")
    (root / "own.csv").symlink_to(root / "other.csv")
    assert source_files.inside(root, "own.csv") == root / "own.csv"
    for path in (
        "../secret.csv",
        "a/../../secret.csv",
        str(tmp_path / "secret.csv"),
        "~/secret.csv",
        "C:/secret.csv",
        "a\\b",
        "",
    ):
        with pytest.raises(errors.InputError, match="under the data root"):
            source_files.inside(root, path)
    with pytest.raises(errors.InputError, match="a link that leaves it"):
        source_files.inside(root, "link.csv")


def test_wanted_refuses_pretraining_on_the_cohort_and_roots_of_other_data_sets():
    both = manifests.wanted("synthetic_cxr_private", "synthetic_cxr_public", {})
    assert [manifest.name for manifest in both] == ["synthetic_cxr_private", "synthetic_cxr_public"]
    assert len(manifests.wanted("synthetic_cxr_private", "none", {})) == 1
    assert len(manifests.wanted("synthetic_cxr_private", "weights.safetensors", {})) == 1
    with pytest.raises(errors.InputError, match="PRETRAIN other than COHORT"):
        manifests.wanted("synthetic_cxr_private", "synthetic_cxr_private", {})
    assert (
        manifests.wanted("synthetic_cxr_private", "none", {}, "synthetic_cxr_elsewhere")[-1].name
        == "synthetic_cxr_elsewhere"
    )
    assert (
        len(
            manifests.wanted(
                "synthetic_cxr_private", "synthetic_cxr_public", {}, "synthetic_cxr_public"
            )
        )
        == 2
    )
    with pytest.raises(errors.InputError, match="EVALUATE_ON other than COHORT"):
        manifests.wanted("synthetic_cxr_private", "none", {}, "synthetic_cxr_private")
    with pytest.raises(errors.InputError, match="each name in DATA_ROOTS.*'taix_ray'"):
        manifests.wanted("synthetic_cxr_private", "none", {"taix_ray": "/data"})


@pytest.mark.skipif(
    not hasattr(os, "setuid") or os.getuid() != 0,
    reason="needs root, to become an unprivileged user",
)
@pytest.mark.parametrize("closed", ["root", "root/films", "root/films.csv"])
def test_an_unreadable_folder_or_table_is_refused_by_name(tmp_path, closed):
    (tmp_path / "root" / "films").mkdir(parents=True)
    (tmp_path / "root" / "films.csv").write_text(
        "file,patient,effusion\na.png,1,1\nb.png,2,0\n",
        encoding="utf-8",
    )
    (tmp_path / "root" / "films" / "a.png").write_bytes(b"x")
    path = write_manifest(tmp_path)
    for folder in [tmp_path, *tmp_path.parents][:4]:  # pytest's own folders are closed to others
        if folder != Path("/tmp"):
            folder.chmod(0o755)
    (tmp_path / closed).chmod(0)
    code = (
        "import os\nfrom helpers.core import errors\n"
        "from helpers.data import build_cohort\nos.setuid(65534)\ntry:\n"
        f"    build_cohort.build({str(path)!r}, {str(tmp_path / 'root')!r}, processes=1)\n"
        "except errors.InputError as error:\n    print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    (tmp_path / closed).chmod(0o755)
    assert f"read permission for {tmp_path / closed}" in run.stdout, run.stdout + run.stderr
