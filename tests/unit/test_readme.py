"""What README and docs say can be done, can be done; README is short; its numbers are stored."""

import json
import re
import shlex
import textwrap

import pandas as pd
import pytest
import yaml

import run_all
from helpers.analysis import study_results
from helpers.core import paths, run_records
from helpers.data import __main__ as command_line
from helpers.data import manifests
from helpers.study import notebook_files, profiles, study_data

ROOT = paths.repository_root()
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")}
OWN_DATA = PAGES["own_data.md"]
DEFAULTS = {
    number: notebook_files.default_parameters(path)
    for number, path in notebook_files.notebooks().items()
}
NOT_PARAMETERS = {"RULES", "METRICS", "RANKED", "RATES", "PROBABILITIES"}  # of modules


def without_code(text):
    """README as a reader reads it: no code block, no generated table."""
    text = re.sub(r"<!-- demo table -->.*?<!-- /demo table -->", "", text, flags=re.DOTALL)
    return re.sub(r"^    .*\n", "", text, flags=re.MULTILINE)


def test_readme_has_at_most_a_thousand_words():
    assert len(without_code(README).split()) <= 1000


def test_the_first_command_stands_in_the_first_150_words():
    before_it = README.split("\n    make", 1)[0]
    assert len(before_it.split()) <= 150


def test_no_paragraph_has_more_than_80_words():
    paragraphs = re.split(r"\n\n|\n(?=- |\d\. |\|)", without_code(README))
    assert max(len(paragraph.split()) for paragraph in paragraphs) <= 80


def test_one_table_and_one_figure_stand_before_quick_start():
    before_it = README.split("## Quick start")[0]
    assert len(re.findall(r"^\| ?-", before_it, re.MULTILINE)) <= 1
    assert before_it.count("![") <= 1


def test_every_file_that_readme_and_docs_name_is_there():
    links = re.findall(r"\]\(((?!https?:)[^)#]+)", README)
    assert len(links) >= 8
    named = re.findall(
        r"`((?:helpers|tests|docs|benchmarks|data_manifests)/[\w/.-]+\.\w+)`",
        "\n".join([README, (ROOT / "CONTRIBUTING.md").read_text(), *PAGES.values()]),
    )
    made_by_a_reader = {"data_manifests/NAME.yaml", "data_manifests/our_hospital.yaml"}
    for name in {*links, *named} - made_by_a_reader:
        assert (ROOT / name).exists(), name


def test_every_test_to_copy_is_where_contributing_says():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"`(test_\w+)` in `(tests/unit/\w+\.py)`", text)
    assert len(named) >= 4
    for test, file in named:
        assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), test


def test_every_module_that_a_page_names_is_there():
    wings = "core|data|privacy|training|analysis|figures|study"
    named = re.findall(rf"`((?:{wings})/\w+)`", "\n".join(PAGES.values()))
    assert len(named) >= 10
    for name in named:
        path = ROOT / "helpers" / name
        assert path.with_suffix(".py").exists() or path.is_dir(), name


def test_every_module_in_the_layout_is_in_its_wing():
    lines = re.findall(r"^    helpers/(\w+) (.*(?:\n {10,}.*)*)", README, re.MULTILINE)
    assert len(lines) == 7
    for wing, text in lines:
        for module in re.findall(r"\b[a-z]+_[a-z_]+\b", text):
            names = {path.stem for path in (ROOT / "helpers" / wing).rglob("*")}
            assert module in names, module


@pytest.mark.parametrize(
    "study, form",
    [
        ("demo", "AUROC {:.3f} zero-shot, {:.3f} baseline, {:.3f} dp at epsilon {:g}\n"),
        ("demo_ct", "{:.3f}, {:.3f}, {:.3f} at epsilon {:g}\n"),
    ],
)
def test_expected_aurocs_are_those_of_the_stored_study(study, form):
    table = pd.read_csv(ROOT / "expected" / f"{study}.csv").query("recipe == 'default'")
    largest = table.loc[table["epsilon"].idxmax()]
    auroc = table.set_index("arm")["macro_auroc"]
    numbers = (auroc["zero_shot"], auroc["baseline"], largest["macro_auroc"], largest["epsilon"])
    assert form.format(*numbers) in README


def test_every_arm_that_readme_explains_is_in_the_demos_table():
    text = README.split("## Result\n")[1].split("\n## ")[0]
    explained = {
        word.lower().replace("zero-shot", "zero_shot")
        for word in re.findall(r"(?<!\*)\*([\w-]+)\*(?!\*)", text)
    }
    named = explained & set(run_records.ARMS)
    assert named == {"zero_shot", "baseline", "same_recipe", "same_recipe_clipped", "dp"}
    shown = set(pd.read_csv(ROOT / "expected" / "demo.csv")["arm"])
    assert named <= shown, f"not in expected/demo.csv: {sorted(named - shown)}"


def test_every_notebook_is_in_the_table():
    for path in notebook_files.notebooks().values():
        assert f"| `{path.stem}` |" in README


def title_of(path):
    """The first line of a notebook, without its mark."""
    first = json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"]
    return "".join(first).splitlines()[0].removeprefix("# ")


def test_the_start_page_links_every_notebook_by_its_title_with_the_minutes_of_readme():
    start = (ROOT / "START.md").read_text(encoding="utf-8")
    for path in notebook_files.notebooks().values():
        minutes = re.search(rf"^\| `{path.stem}` \| .* \| (\d+) \| ", README, re.MULTILINE)[1]
        assert f"| [{title_of(path)}](notebooks/{path.name}) | {minutes} |" in start
    for path in sorted((ROOT / "course/exercises").glob("*.ipynb")):
        assert f"[{title_of(path)}](course/exercises/{path.name})" in start
    for name in re.findall(r"\]\(([^)#]+)\)", start):
        assert (ROOT / name).exists(), name


def test_manifest_example_is_a_manifest(tmp_path):
    example = re.search(r"    name: our_hospital\n(    .*\n)+", OWN_DATA).group()
    path = tmp_path / "our_hospital.yaml"
    path.write_text(textwrap.dedent(example), encoding="utf-8")
    assert list(manifests.read(path).findings) == ["effusion"]


def test_every_setting_shown_is_a_parameter_of_its_notebook():
    text = "\n".join([README, *PAGES.values()])
    settings = re.findall(r"--set (?:(\d\d)\.)?([A-Z_]+)=", text)
    assert len(settings) >= 3
    for number, name in settings:
        assert name in (DEFAULTS[number] if number else set().union(*DEFAULTS.values())), name


def test_every_command_of_a_study_shown_is_accepted():
    text = "\n".join([README, *PAGES.values()])
    commands = re.findall(r"run_all\.py --profile (demo[a-z_]*)((?: --set \S+=\S+)+)", text)
    assert commands
    for name, settings in commands:
        words = re.findall(r"--set (\S+)", settings)
        profiles.collect(profiles.read_profile(name), [profiles.read_setting(w) for w in words])


def test_every_parameter_named_in_docs_is_one_of_a_notebook_or_a_profile():
    text = "\n".join([README, *PAGES.values()])
    variables = {"PRIVACY_REGISTER", "RESULTS_DIR", "NAME", "FOLDER"}
    variables |= {"OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"}
    of_profiles = {"EPSILONS", "SEEDS"}
    for name in re.findall(r"`([A-Z][A-Z_]{3,})(?: ?[=:].*?)?`", text):
        known = set().union(*DEFAULTS.values()) | variables | of_profiles | NOT_PARAMETERS
        assert name in known, name


def test_every_make_target_shown_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    text = "\n".join([README, (ROOT / "CONTRIBUTING.md").read_text(), *PAGES.values()])
    for target in re.findall(r"`make ([a-z-]+)`|^    make ([a-z-]+)", text, re.MULTILINE):
        assert f"\n{''.join(target)}:" in makefile, target


def test_files_of_another_system_are_read_as_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = [
        textwrap.dedent(block)
        for block in re.findall(r"(?:^    image_id,.*\n(?:    .*\n)+)", OWN_DATA, re.MULTILINE)
    ]
    commands = re.findall(r"'(\{\"TABLE\".*\})'", OWN_DATA)
    shown, of_05 = (json.loads(text.replace("/path/to", str(tmp_path))) for text in commands)
    for name, block in (
        ("images.csv", blocks[0]),
        ("ordinary.csv", blocks[1]),
        ("private.csv", blocks[1]),
    ):
        (tmp_path / name).write_text(block, encoding="utf-8")
    table, record, records, predictions = study_results.opened(
        "", [], shown["PREDICTIONS"], shown["TABLE"]
    )
    assert record["findings"] == ["effusion"]
    assert [record["arm"] for record in records] == ["baseline", "dp"]
    assert set(shown["ATTRIBUTES"]) <= {"sex", "age", *table.columns}
    assert len(predictions["private"]) == 2
    assert set(shown) <= set(DEFAULTS["04"])
    assert set(of_05) <= set(DEFAULTS["05"])
    for name in ("TABLE", "ATTRIBUTES", "PREDICTIONS"):  # 05 reads the replicates that 04 drew
        assert of_05[name] == shown[name]


def test_every_command_on_own_data_is_understood():
    text = "\n".join([README, *PAGES.values()])
    commands = re.findall(r"\.venv/bin/python (-m helpers\.data|run_all\.py) ([^`\n#]*)", text)
    assert len(commands) >= 6
    for program, words in commands:
        parser = run_all if program == "run_all.py" else command_line
        parser.read_arguments(shlex.split(words.replace("...", "")))  # a wrong word ends the test


def test_the_profile_and_manifest_shown_make_a_study(tmp_path):
    manifest, profile = (
        yaml.safe_load(textwrap.dedent(block))
        for block in re.findall(r"((?:^    .*\n)+)", OWN_DATA, re.MULTILINE)
        if re.match("    (name|title):", block)
    )
    path = tmp_path / "our_hospital.yaml"
    path.write_text(yaml.safe_dump(manifest), encoding="utf-8")
    shown = profiles.Profile.model_validate(profile)
    shown.parameters["COHORT"] = str(path)
    chosen, _ = profiles.collect(shown, [])
    assert study_data.data_sets(chosen) == [str(path)]
    assert chosen["04"]["ATTRIBUTES"] == chosen["05"]["ATTRIBUTES"] == ["sex", "age"]
