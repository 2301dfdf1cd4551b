"""The plan of a study, what is refused before a kernel starts, and how steps share the machine."""

import errno
import fcntl
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

import run_all
import run_notebook
from helpers.core import errors, files, fingerprints, machine, notebook_parameters, paths
from helpers.study import (
    batches,
    notebook_files,
    plan,
    profiles,
    step_cache,
    step_process,
    study_data,
)

PRIVATE = "synthetic_cxr_private"


def plan_of(profile="smoke", *settings, comparisons=()):
    """The steps of a profile with settings, and with these comparisons instead of its own."""
    wanted = profiles.read_profile(profile).model_copy(update={"comparisons": list(comparisons)})
    chosen, lists = profiles.collect(wanted, [profiles.read_setting(text) for text in settings])
    return plan.plan(chosen, lists)


def command(*words):
    """A finished `python run_all.py ...`."""
    return subprocess.run(
        [sys.executable, "run_all.py", *words],
        cwd=paths.repository_root(),
        capture_output=True,
        text=True,
    )


# ---- settings


@pytest.mark.parametrize(
    "text, setting",
    [
        ("EPOCHS=3", (None, "EPOCHS", 3)),
        ("03.DELTA=1e-5", ("03", "DELTA", 1e-5)),
        ("COHORT=abc", (None, "COHORT", "abc")),
        ("EPSILONS=[1, 2.5]", (None, "EPSILONS", [1, 2.5])),
        ("PRETRAIN=a=b", (None, "PRETRAIN", "a=b")),
    ],
)
def test_read_setting_knows_numbers_lists_and_text(text, setting):
    assert profiles.read_setting(text) == setting


def test_later_settings_win_and_reach_every_notebook_that_has_the_parameter():
    chosen, _ = profiles.collect(
        profiles.read_profile("smoke"),
        [profiles.read_setting("EPOCHS=2"), profiles.read_setting("03.EPOCHS=3")],
    )
    assert (
        chosen["02"]["EPOCHS"] == 2 and chosen["03"]["EPOCHS"] == 3 and "EPOCHS" not in chosen["04"]
    )


def test_text_of_yaml_serves_as_a_float_and_an_integer_too():
    chosen, _ = profiles.collect(
        profiles.Profile(title="t", notebooks={"03": {"DELTA": "1e-6", "CLIP_NORM": 2}}), []
    )
    assert chosen["03"]["DELTA"] == 1e-6 and isinstance(chosen["03"]["CLIP_NORM"], float)


def test_epsilon_replaces_the_list():
    assert [
        step.parameters["EPSILON"]
        for step in plan_of("demo", "EPSILON=2", "SEEDS=[0]")
        if "EPSILON" in step.parameters
    ] == [2.0] * 3  # the recipe without noise, with and without clipping, too


# ---- the plan


def test_audit_is_a_step_where_the_profile_says_so():
    assert "06_privacy_audit" not in [step.id for step in plan_of("demo")]
    *_, audit, fairness, _ = plan_of("audit", "EPSILONS=[8]", "03.DELTA=1e-6", "BUDGET=9")
    assert audit.id == "06_privacy_audit" and audit.needs == ["02_baseline_training-seed0"]
    assert audit.id in fairness.needs  # which shows what was spent
    assert audit.parameters["BUDGET"] == 9
    assert audit.parameters["EPSILONS"] == [8.0] and audit.parameters["DELTA"] == 1e-6
    assert audit.parameters["N_MODELS"] == 64 and audit.marks == ["06_"]


def test_audit_of_a_cohort_without_scanners_has_groups_that_there_are():
    chosen, _ = profiles.collect(profiles.read_profile("chestxray14"), [])
    assert study_data.fitted_defaults(chosen)["06"] == {"AUDITED_GROUPS": ["sex", "age"]}


def test_plan_of_two_budgets_and_two_seeds():
    steps = {step.id: step for step in plan_of("demo", "EPSILONS=[1, 8]", "SEEDS=[0, 1]")}
    first = "02_baseline_training-seed0"
    assert list(steps) == [
        "01_data_preparation",
        first,
        "02_baseline_training-seed1",
        "03_dp_training-same_recipe-eps8-seed0",
        "03_dp_training-same_recipe_clipped-eps8-seed0",
        "03_dp_training-eps1-seed0",
        "03_dp_training-eps1-seed1",
        "03_dp_training-eps8-seed0",
        "03_dp_training-eps8-seed1",
        "04_fairness_analysis",
        "05_paper_comparison",
    ]
    assert steps[first].needs == ["01_data_preparation"]
    assert all(
        step.needs == [first]
        for name, step in steps.items()
        if name[:2] in ("02", "03") and name != first
    )
    assert steps["04_fairness_analysis"].needs == list(steps)[:-2]
    assert steps["05_paper_comparison"].needs == list(steps)[:-1]
    for name in ("04_fairness_analysis", "05_paper_comparison"):
        assert steps[name].parameters["RUNS"] == [
            f"{PRIVATE}-{run}"
            for run in (
                "zero_shot",
                "baseline-seed0",
                "baseline-seed1",
                "same_recipe-eps8-seed0",
                "same_recipe_clipped-eps8-seed0",
                "dp-eps1-seed0",
                "dp-eps1-seed1",
                "dp-eps8-seed0",
                "dp-eps8-seed1",
            )
        ]


def test_the_recipe_of_the_largest_budget_is_run_without_noise_once():
    steps = {step.id: step for step in plan_of("demo", "EPSILONS=[8, 1]", "SEEDS=[3, 0]")}
    whole = steps["03_dp_training-same_recipe-eps8-seed3"].parameters
    clipped = steps["03_dp_training-same_recipe_clipped-eps8-seed3"].parameters
    private = steps["03_dp_training-eps8-seed3"]
    assert "WITHOUT" not in private.parameters
    assert whole == private.parameters | {"WITHOUT": ["noise", "clipping"]}
    assert clipped == private.parameters | {"WITHOUT": ["noise"]}
    for step in list(steps.values())[3:5]:
        assert (step.needs, step.inputs) == (private.needs, private.inputs)
    assert sum("same_recipe" in name for name in steps) == 2
    assert not any("same_recipe" in step.id for step in plan_of("smoke"))


@pytest.mark.parametrize("setting", ["WITHOUT=['noise']", "03.WITHOUT=['noise']"])
def test_a_study_does_not_leave_noise_out_of_its_private_runs(setting):
    with pytest.raises(errors.InputError, match="`ablation` of a profile.*in notebook 03"):
        plan_of("demo", setting)


@pytest.mark.parametrize(
    "profile, settings, complaint",
    [
        ("demo", ["03.TRAINED=head", "03.EPOCHS=2"], "None as EPOCHS where TRAINED is 'head'"),
        ("demo", ["PRETRAIN=none", "03.HEAD_STEPS=9"], "None as HEAD_STEPS where TRAINED is 'all'"),
        ("demo", ["PRETRAIN=none", "03.TRAINED=head"], "standardised by public images"),
        ("demo", ["HEAD=pooled", "03.TRAINED=all_then_head"], "standardised by public images"),
        ("demo_ct", ["HEAD=halves"], "'levels' for volumes"),
        ("demo_ct", ["NETWORK=resnet18"], "NETWORK = 'resnet9' for volumes; got 'resnet18'"),
        ("demo", ["NETWORK=resnet99"], "NETWORK to be one of resnet9, resnet18"),
        ("demo", ["NETWORK=resnet18"], "WIDTH = None with NETWORK = 'resnet18'; got 16"),
        ("demo", ["WIDTH=None"], "WIDTH for NETWORK = 'resnet9'; got None"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_before_anything_runs(profile, settings, complaint):
    plan_of(profile, *settings[:-1])  # accepted, but for what comes last
    with pytest.raises(errors.InputError, match=complaint):
        plan_of(profile, *settings)


def test_another_network_is_planned_with_the_settings_that_it_has():
    of_vit = ["NETWORK=vit_b_16", "WIDTH=None", "HEAD=pooled"]
    assert plan_of("demo", *of_vit)
    with pytest.raises(errors.InputError, match="HEAD = 'pooled' with NETWORK"):
        plan_of("demo", *of_vit[:2])
    with pytest.raises(errors.InputError, match="a multiple of 16, with .* got 72 x 72"):
        plan_of("demo", *of_vit, "IMAGE_PX=72")


@pytest.mark.parametrize(
    "head, comparison, complaint",
    [
        ("halves", {"HEAD": "levels"}, "HEAD = 'halves', as the public model"),
        ("pooled", {"HEAD": "halves", "TRAINED": "head"}, "standardised by public images"),
    ],
)
def test_a_comparison_whose_head_the_public_model_does_not_fit_is_refused(
    head, comparison, complaint
):
    chosen, lists = profiles.collect(profiles.read_profile("smoke"), [(None, "HEAD", head)])
    way = {"RECIPE": "other", "EPSILON": 8.0}
    with pytest.raises(errors.InputError, match=complaint):
        plan.plan(chosen, lists | {"comparisons": [way | comparison]})


def test_every_step_has_parameters_of_its_notebook_alone_and_the_model_accepts_them():
    for step in plan_of("demo"):
        number = step.notebook.name[:2]
        defaults = notebook_files.default_parameters(step.notebook)
        assert set(step.parameters) <= set(defaults)
        notebook_parameters.check(number, defaults | step.parameters)


def test_every_input_within_the_results_is_an_output_of_a_step_that_is_needed():
    steps = {step.id: step for step in plan_of("smoke", "SEEDS=[0, 1]")}
    for step in steps.values():
        before = {path for name in step.needs for path in steps[name].outputs}
        before |= set(steps["01_data_preparation"].outputs)  # needed by whatever is needed
        assert {path for path in step.inputs if not path.is_absolute()} <= before


def test_private_runs_read_the_network_that_the_first_baseline_records():
    network = Path("runs", f"{PRIVATE}-network", "network.json")
    steps = plan_of("demo", "SEEDS=[0, 1]", "PRETRAIN=none")
    assert [step.id for step in steps if network in step.outputs] == ["02_baseline_training-seed0"]
    assert [step for step in steps if network in step.inputs] == [
        step for step in steps if step.id.startswith("03")
    ]


def test_comparison_with_the_paper_reads_what_the_analysis_reads_and_its_replicates():
    *_, fairness, comparison = plan_of("demo")
    assert comparison.inputs == [*fairness.inputs, plan.REPLICATES]
    assert plan.REPLICATES in fairness.outputs and comparison.marks == ["05_"]
    assert comparison.outputs == [Path("tables/05_accuracy_parity_difference.csv")]


PAPER = {
    "RECIPE": "paper_recipe",
    "EPSILON": 7.89,
    "PRIVACY_UNIT": "image",
    "LEARNING_RATE": "5e-4",
}


def test_a_comparison_is_one_more_private_run_a_seed_with_its_own_parameters():
    steps = {
        step.id: step
        for step in plan_of("demo", "SEEDS=[0, 1]", "03.DELTA=2e-5", comparisons=[PAPER])
    }
    comparison = steps["03_dp_training-eps7.89-seed1-paper_recipe"].parameters
    assert comparison["LEARNING_RATE"] == 5e-4 and comparison["PRIVACY_UNIT"] == "image"
    assert comparison["DELTA"] == 2e-5
    assert (
        f"{PRIVATE}-dp-eps7.89-seed1-image_level-paper_recipe"
        in steps["04_fairness_analysis"].parameters["RUNS"]
    )
    assert (
        len(steps) == 1 + 2 + 2 + 3 * 2 + 2 + 2
        and "PRIVACY_UNIT" not in steps["03_dp_training-eps1.06-seed0"].parameters
    )


@pytest.mark.parametrize(
    "comparison, message",
    [
        ({"EPSILON": 1.0}, "RECIPE in comparison 1"),
        ({"RECIPE": "mine"}, "EPSILON in comparison 1"),
        (PAPER | {"WIDTH": 8}, "comparison 1.*WIDTH"),
        (PAPER | {"MODE": "demo"}, "comparison 1.*MODE"),
        (PAPER | {"CLIP_NORM": "wide"}, "CLIP_NORM to be a number"),
        (PAPER | {"CLIP_NORM": -1.0}, "CLIP_NORM"),
        (PAPER | {"RECIPE": "Mine!"}, "RECIPE to be small letters"),
    ],
)
def test_a_comparison_that_is_not_in_order_is_refused(comparison, message):
    with pytest.raises(errors.InputError, match=message):
        plan_of("demo", comparisons=[comparison])


@pytest.mark.parametrize(
    "comparisons",
    [
        [PAPER, PAPER],
        [PAPER | {"RECIPE": "default", "PRIVACY_UNIT": "patient"}],
        [PAPER, PAPER | {"RECIPE": "paper_recipe_long"}],
    ],
)
def test_runs_that_would_share_a_name_or_its_beginning_are_refused(comparisons):
    with pytest.raises(errors.InputError, match="RECIPE of its own"):
        plan_of("demo", comparisons=comparisons)


def test_a_comparison_keeps_its_recipe_and_goes_where_one_budget_is_asked_for():
    steps = plan_of(
        "demo", "03.EPOCHS=3", "03.DELTA=1e-6", "SEEDS=[0]", comparisons=[PAPER | {"EPOCHS": 9}]
    )
    private = [step.parameters for step in steps if step.id.startswith("03")]
    assert [values["EPOCHS"] for values in private] == [3, 3, 3, 3, 3, 9] and {
        values["DELTA"] for values in private
    } == {1e-6}
    assert not [
        step
        for step in plan_of("demo", "EPSILON=2", comparisons=[PAPER])
        if "paper_recipe" in step.id
    ]


def test_one_network_for_all_arms_and_no_budget_that_is_none():
    with pytest.raises(errors.InputError, match="HEAD for all notebooks; got HEAD for 02 alone"):
        plan_of("demo", "02.HEAD=pooled")
    plan_of("demo", "HEAD=pooled")
    for setting, message in (
        ("EPSILON=None", "EPSILON to be a number"),
        ("SEEDS=[None]", "SEED to be an integer"),
        ("02.BATCH_SIZE=None", "BATCH_SIZE"),
    ):
        with pytest.raises(errors.InputError, match=message):
            plan_of("demo", setting)
    assert all(
        step.parameters.get("EPOCHS", 0) is None
        for step in plan_of("smoke", "03.EPOCHS=None")
        if step.id[:2] == "03"
    )


def test_only_the_first_baseline_writes_the_common_start():
    written = {
        step.id: {path.parts[1] for path in step.outputs}
        for step in plan_of("demo", "SEEDS=[0, 1]")
    }
    assert written["02_baseline_training-seed0"] == {
        f"{PRIVATE}-zero_shot",
        f"{PRIVATE}-baseline-seed0",
        f"{PRIVATE}-network",
    }
    assert written["02_baseline_training-seed1"] == {f"{PRIVATE}-baseline-seed1"}


def test_without_pretraining_there_is_no_zero_shot_run():
    steps = plan_of("demo", "PRETRAIN=none")
    assert not [
        path for step in steps for path in step.outputs + step.inputs if "zero_shot" in str(path)
    ]
    assert f"{PRIVATE}-zero_shot" not in steps[-2].parameters["RUNS"]


def test_seed_of_the_analysis_is_its_own():
    chosen, lists = profiles.collect(
        profiles.read_profile("demo").model_copy(update={"comparisons": []}),
        [profiles.read_setting("SEEDS=[3]"), profiles.read_setting("04.SEED=5")],
    )
    *training, fairness, comparison = plan.plan(chosen, lists)
    assert fairness.parameters["SEED"] == 5 and training[-1].parameters["SEED"] == 3
    assert comparison.parameters["SEED"] == 5  # it reads replicates drawn with that seed


@pytest.mark.parametrize("number", ["", "04.", "05."])
def test_what_replicates_are_drawn_with_is_the_same_in_both_analyses(number):
    *_, fairness, comparison = plan_of(
        "demo", f"{number}N_BOOTSTRAP=50", f"{number}ATTRIBUTES=['sex']"
    )
    for values in (fairness.parameters, comparison.parameters):
        assert values["N_BOOTSTRAP"] == 50 and values["ATTRIBUTES"] == ["sex"]


def test_shortcuts_are_those_of_the_comparison_with_the_paper():
    *_, fairness, comparison = plan_of("demo", "SHORTCUTS=[]")
    assert comparison.parameters["SHORTCUTS"] == [] and "SHORTCUTS" not in fairness.parameters


def test_memory_is_set_once_for_all_arms_in_notebook_02():
    chosen, _ = profiles.collect(
        profiles.read_profile("demo_ct"), [profiles.read_setting("PHYSICAL_BATCH_SIZE=16")]
    )
    assert chosen["02"]["PHYSICAL_BATCH_SIZE"] == 16
    assert not [n for n in chosen if n != "02" and "PHYSICAL_BATCH_SIZE" in chosen[n]]


def test_private_runs_follow_the_head_of_notebook_02_except_where_a_comparison_sets_one():
    steps = plan_of("demo", "HEAD=pooled", "SEEDS=[0]", comparisons=[PAPER | {"HEAD": "sided"}])
    assert [step.parameters.get("HEAD") for step in steps if step.id[:2] in ("02", "03")] == [
        "pooled",
        *[None] * 5,
        "sided",
    ]


def test_a_comparison_that_sets_its_seed_runs_once():
    comparisons = [{"RECIPE": "once", "EPSILON": 2, "SEED": 7}, {"RECIPE": "each", "EPSILON": 2}]
    steps = plan_of("smoke", "SEEDS=[0, 1]", comparisons=comparisons)
    assert [step.id.partition("eps")[2] for step in steps if step.id.startswith("03")] == [
        "1000-seed0",
        "1000-seed1",
        "2-seed7-once",
        "2-seed0-each",
        "2-seed1-each",
    ]


def test_notebook_03_alone_is_refused_on_the_network_of_another_study(tmp_path):
    steps = plan_of("demo")
    for path in {path for step in steps for path in step.inputs if not path.is_absolute()}:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    recorded = tmp_path / "runs/synthetic_cxr_private-network/network.json"
    files.write_json(recorded, {"WIDTH": 16, "HEAD": "halves", "PRETRAIN": "synthetic_cxr_public"})
    assert {step.id[:2] for step in batches.select(steps, "03", None, tmp_path)} == {"03"}
    files.write_json(recorded, {"WIDTH": 16, "HEAD": "pooled"})
    for only, start in (("03", None), (None, "03")):
        with pytest.raises(
            errors.InputError, match="HEAD = 'halves', before 03; got HEAD = 'poole"
        ):
            batches.select(steps, only, start, tmp_path)
    assert batches.select(steps, None, "02", tmp_path)  # 02 writes it anew


def test_group_contrasts_decide_the_analyses_only():
    users = {
        step.id[:2]
        for step in plan_of()
        if "group_contrasts"
        in {
            path.stem
            for path in fingerprints.helper_sources(notebook_files.helpers_used(step.notebook))
        }
    }
    assert users == {"04", "05"}


# ---- refusals


@pytest.mark.parametrize(
    "words, message",
    [
        (
            ["--profile", "demoo"],
            "the profile to be a known one; got 'demoo'. Did you mean 'demo'? Known are audit, ",
        ),
        (["--set", "EPSILO=1"], "Did you mean 'EPSILON'"),
        (
            ["--set", "03.EPOCH=1"],
            "got 'EPOCH'. Did you mean 'EPOCHS'? Known are BUDGET, CLIP_NORM, COHORT, CONFIRM",
        ),
        (["--set", "EPSILON=0"], "EPSILON to be a number in (0, 1000]; got 0"),
        (["--set", "EPOCHS=1.5"], "EPOCHS to be an integer in [1, 100000]; got 1.5"),
        (["--set", "02.SEED=1"], "SEED for all notebooks"),
        (["--set", "EPOCHS"], "--set NAME=value"),
        (["--set", "COHORT=nowhere"], "data manifest to be one of"),
        (["--set", "SEEDS=[0, 0]"], "different values in SEEDS"),
        (["--set", "PRETRAIN=absent.safetensors"], "Correct PRETRAIN"),
        (
            ["--profile", "covid_chestxray", "--data-root", "/nowhere"],
            "under the data root of covid_chestxray; got no folder /nowhere",
        ),
        (["--data-root", "other=/tmp"], "the data set of --data-root"),
        (["--data-root", "/tmp"], "no --data-root for synthetic_cxr_private"),
        (["--set", "04.ATTRIBUTES=['ward']"], "ATTRIBUTES of notebook 04"),
        (
            ["--set", "04.PLANNED=[['ward', 'A - B', 1.0]]"],
            "each of the attributes in PLANNED of notebook 04",
        ),
        (
            ["--set", "04.PLANNED=[['sex', 'female - male']]"],
            "PLANNED to be a list of [attribute, contrast, epsilon]",
        ),
        (["--set", "05.SHORTCUTS=['ward']"], "SHORTCUTS of notebook 05"),
        (["--set", "04.STRATA=['ward']"], "STRATA of notebook 04"),
        (["--set", "03.CONFIRM=['weak delt']"], "Did you mean 'weak delta'"),
        (["--set", "ALLOW_WEAK_DELTA=True"], "the parameter of the notebooks to be one of"),
        (["--set", "04.MARGIN=0"], "MARGIN to be a number in (0, 0.5]; got 0"),
        (["--set", "04.AGE_EDGES=[10, 20]"], "AGE_EDGES to be lower edges"),
        (["--set", "EVALUATE_ON=nowhere"], "data manifest to be one of"),
        (["--set", "EVALUATE_ON=synthetic_cxr_private"], "EVALUATE_ON other than COHORT"),
        (["--set", "04.EVALUATE_ON=synthetic_cxr_elsewhere"], "EVALUATE_ON for all notebooks"),
        (["--set", "04.FINDINGS=['cardiomegali']"], "Did you mean 'cardiomegaly'?"),
        (["--only", "07"], "a step that begins with 07"),
        (["--only", "04"], "Run the steps before it first"),
        (["--jobs", "0"], "--jobs to be an integer"),
    ],
)
def test_wrong_use_is_refused_in_one_paragraph(words, message, tmp_path, capsys):
    assert run_all.main(["--profile", "smoke", "--out", str(tmp_path / "out"), *words]) == 2
    said = capsys.readouterr()
    assert message in said.err and said.err.count("\n") == 1 and not said.out
    assert not (tmp_path / "out").exists()


def test_refusal_as_the_shell_sees_it(tmp_path):
    done = command("--set", "EPSILON=0", "--out", str(tmp_path))
    assert (
        done.returncode == 2
        and done.stderr.startswith("run_all.py: Expected EPSILON")
        and not done.stdout
    )


def test_checks_before_the_first_kernel_do_without_torch():
    code = (
        "import run_all, sys; run_all.main(['--profile', 'smoke', '--dry-run']); sys.exit('torch'"
        " in sys.modules)"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], cwd=paths.repository_root(), capture_output=True
        ).returncode
        == 0
    )


def test_notebook_that_is_no_python_is_refused(tmp_path):
    path = tmp_path / "09_broken.ipynb"
    path.write_text(
        '{"cells": [{"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": ["X ='
        ' ("]}]}'
    )
    with pytest.raises(errors.InputError, match="Python in code cell 1 of 09_broken.ipynb"):
        notebook_files.default_parameters(path)


@pytest.mark.parametrize(
    "text, message", [("title: [", "YAML"), ("title: t\nepsilons: [1]", "epsilons: Extra inputs")]
)
def test_profile_in_another_form_is_refused(text, message, tmp_path, monkeypatch):
    monkeypatch.setattr(profiles, "PROFILES", tmp_path)
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(errors.InputError, match=message):
        profiles.read_profile("mine")


@pytest.mark.parametrize(
    "text, message",
    [
        ("parameters: {EPSILO: 1}", "profiles/mine.yaml: Expected.*Did you mean 'EPSILON'"),
        ("parameters: {EPOCHS: 0}", "profiles/mine.yaml: Expected EPOCHS to be an integer"),
        ('notebooks: {"04": {CLIP_NORM: 1}}', "profiles/mine.yaml: Expected.*04_fairness"),
        ("comparisons: [{EPSILON: 1}]", "profiles/mine.yaml: Expected RECIPE"),
    ],
)
def test_a_wrong_parameter_of_a_profile_names_the_profile(text, message, tmp_path, monkeypatch):
    monkeypatch.setattr(profiles, "PROFILES", tmp_path)
    (tmp_path / "mine.yaml").write_text(f"title: t\n{text}")
    with pytest.raises(errors.InputError, match=message):
        profiles.read_profile("mine")


@pytest.fixture
def ward(tmp_path, monkeypatch):
    """A data root, and a profile `ward` as short as can be; notebooks' defaults are the demo's."""
    rows = [f"f{k}.png,p{k // 2},{'FM'[k // 2 % 2]},{k % 2},GE" for k in range(200)]
    root = tmp_path / "films"
    root.mkdir()
    (root / "t.csv").write_text("\n".join(["file,patient,sex,effusion,scanner", *rows]))
    for row in rows:
        (root / row.split(",")[0]).write_bytes(row.encode())
    (tmp_path / "ward.yaml").write_text(
        "{name: ward, title: W, modality: x, access: private, licence: none, citation: none,"
        " how_to_get: Ask., layout: {kind: table_and_images, table: t.csv, image_path: '{file}'},"
        " image_id: '{file}', patient_id: patient,"
        " sex: {column: sex, values: {F: female, M: male}},"
        " findings: {effusion: {canonical: effusion, column: effusion,"
        " values: {'1': positive, '0': negative}}}, split: {valid_share: 0.2, test_share: 0.2}}"
    )
    folder = tmp_path / "profiles"
    folder.mkdir()
    (folder / "ward.yaml").write_text(
        f"title: t\nparameters: {{COHORT: {tmp_path / 'ward.yaml'}, PRETRAIN: none}}\n"
        "notebooks: {'03': {MODE: private}}"
    )
    monkeypatch.setattr(profiles, "PROFILES", folder)
    return tmp_path


def dry_run(ward, *words):
    """The exit code of a dry run of the ward's profile."""
    root, out = str(ward / "films"), str(ward / "out")
    return run_all.main(
        ["--profile", "ward", "--data-root", root, "--out", out, "--dry-run", *words]
    )


def test_defaults_of_the_demo_do_not_break_a_profile_of_real_data(ward):
    *_, fairness, comparison = plan_of("ward")
    assert fairness.parameters["ATTRIBUTES"] == comparison.parameters["ATTRIBUTES"] == ["sex"]
    assert comparison.parameters["SHORTCUTS"] == fairness.parameters["STRATA"] == []


def test_a_drawn_cohort_keeps_the_defaults():
    *_, comparison = plan_of("smoke")
    assert "SHORTCUTS" not in comparison.parameters


def test_dry_run_reads_the_table_and_looks_for_the_files(ward, capsys):
    assert dry_run(ward) == 0
    said = capsys.readouterr().out
    assert "200 in t.csv" in said and "100; images of one: median 2" in said
    assert "50 female, 50 male" in said and "not read       scanner" in said
    assert "03_dp_training" in said and not (ward / "out").exists()


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("column: sex", "column: sexx", r"Did you mean 'sex'\? .*`sex.column` in ward.yaml"),
        ("patient_id: patient", "patient_id: file", "to say whose an image is"),
        ("'1': positive", "'7': positive", "'1' in 100 rows"),
        ("image_path: '{file}'", "image_path: 'films/{file}'", "at least 95% of 200 image files"),
    ],
)
def test_dry_run_names_what_notebook_01_would_refuse(old, new, message, ward, capsys):
    path = ward / "ward.yaml"
    path.write_text(path.read_text().replace(old, new))
    assert dry_run(ward) == 2
    said = capsys.readouterr().err
    assert re.search(message, said) and said.count("\n") == 1


@pytest.mark.parametrize(
    "words, message",
    [
        (
            ["--set", "03.DELTA=0.05"],
            "Expected DELTA below 1 / [0-9]+ training patients = .* got 0.05",
        ),
        (
            ["--set", "03.EXPECTED_BATCH_SIZE=900", "--set", "TRAINED=all"],
            "EXPECTED_BATCH_SIZE of at m",
        ),
        (["--set", "DEVICES=5000"], "DEVICES"),
        (["--cluster", "slurm", "--jobs", "2"], "Slurm's sbatch"),
    ],
)
@pytest.mark.parametrize("profile", ["ward", "smoke"])
def test_dry_run_refuses_what_later_steps_would(profile, words, message, ward, capsys, monkeypatch):
    monkeypatch.setattr(batches, "has_gpu", lambda: False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(profiles, "PROFILES", paths.repository_root() / "profiles")
    if profile == "ward":
        monkeypatch.setattr(profiles, "PROFILES", ward / "profiles")
        words = ["--data-root", str(ward / "films"), *words]
    words = ["--profile", profile, "--out", str(ward / "out"), "--dry-run", *words]
    assert run_all.main(words) == 2
    said = capsys.readouterr().err
    assert re.search(message, said) and said.count("\n") == 1 and not (ward / "out").exists()


def test_attributes_that_are_offered_make_sensible_groups(ward, capsys):
    assert dry_run(ward, "--set", "04.ATTRIBUTES=['ward']") == 2
    said = capsys.readouterr().err
    assert said.split("to be one of ")[1].split("; got")[0] == "sex"  # all that is recorded
    assert dry_run(ward, "--set", "SHORTCUTS=['scanner']") == 2
    assert "further_columns in ward.yaml" in capsys.readouterr().err


def test_download_fetches_before_the_data_root_is_looked_at(ward, capsys, monkeypatch):
    monkeypatch.setattr(run_all, "run_study", lambda batch, title: 0)
    table = ward / "films/t.csv"
    content = table.read_bytes()
    (ward / "published.csv").write_bytes(content)
    table.unlink()
    checksum = hashlib.sha256(content).hexdigest()
    manifest = (ward / "ward.yaml").read_text().replace("access: private", "access: open")
    entry = f"{{url: '{(ward / 'published.csv').as_uri()}', checksum: 'sha256:{checksum}',"
    (ward / "ward.yaml").write_text(
        f"{manifest[:-1]}, download: [{entry} to: t.csv, max_bytes: 100000}}]}}"
    )
    words = ["--profile", "ward", "--data-root", str(ward / "films"), "--out", str(ward / "out")]
    assert run_all.main([*words, "--download"]) == 0
    assert "t.csv: fetched" in capsys.readouterr().out and table.read_bytes() == content


@pytest.mark.parametrize(
    "words, message",
    [
        (["--profile", "smoke"], "a data set with files for --download"),
        (["--profile", "taix_ray"], "--data-root taix_ray=FOLDER, the folder to fetch into"),
        (["--profile", "taix_ray", "--data-root", "{tmp}/x"], "How to get it"),
    ],
)
def test_download_of_what_cannot_be_fetched_is_refused(words, message, tmp_path, capsys):
    words = [word.format(tmp=tmp_path) for word in words]
    assert run_all.main([*words, "--download", "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_results_folder_in_use_is_refused(tmp_path, capsys):
    with open(tmp_path / ".lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert run_all.main(["--profile", "smoke", "--out", str(tmp_path)]) == 2
    assert "at work in it" in capsys.readouterr().err


def test_list_and_dry_run_execute_nothing(tmp_path, capsys):
    assert run_all.main(["--list"]) == 0
    assert run_all.main(["--profile", "demo", "--dry-run", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert (
        "smoke" in said
        and "03_dp_training-eps1.06-seed0" in said
        and not (tmp_path / "out").exists()
    )


# ---- sharing the machine


@pytest.mark.parametrize(
    "cores, jobs, n_ready, threads",
    [
        (2, 2, 1, [2]),
        (2, 2, 2, [1, 1]),
        (2, 2, 6, [1, 1]),
        (8, 4, 3, [2, 2, 2]),
        (4, 1, 3, [4]),
        (2, 3, 3, [1, 1, 1]),
    ],
)
def test_ready_steps_share_the_cores(cores, jobs, n_ready, threads, tmp_path, monkeypatch):
    batch = batches.Batch(step_cache.Results(tmp_path), plan_of(), plan_of(), jobs)
    batch.cores, batch.waiting = (
        cores,
        [plan.Step(f"s{i}", plan_of()[0].notebook, {}) for i in range(n_ready)],
    )
    started = []
    monkeypatch.setattr(batch, "start", lambda step, n_threads: started.append(n_threads))
    batch.advance()
    assert started == threads


# ---- what is done already


@pytest.fixture
def finished(tmp_path):
    """A results folder with one finished step, which read `in` and wrote `tables/09_out.csv`."""
    notebook = tmp_path / "09_step.ipynb"
    notebook.write_text(
        '{"cells": [{"cell_type": "code", "metadata": {}, "source": ["from helpers import'
        ' groups"]}]}'
    )
    step = plan.Step("09_step", notebook, {"N": 1}, inputs=[tmp_path / "in"], marks=["09_"])
    folder = step_cache.Results(tmp_path / "out")
    for path in [
        step.inputs[0],
        *(folder.out / page for page in step_cache.pages(step)),
        folder.out / "tables/09_out.csv",
    ]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("contents")
    folder.store(step, folder.key(step), 1.0)
    return folder, step


def test_step_is_done_until_something_that_decides_it_changes(finished):
    folder, step = finished
    assert folder.is_done(step)
    (folder.out / "tables/09_out.csv").touch()
    step.inputs[0].touch()
    assert folder.is_done(step)
    step.parameters["N"] = 2
    assert not folder.is_done(step)
    step.parameters["N"] = 1
    step.inputs[0].write_text("other contents")
    assert not folder.is_done(step)


def test_changed_output_is_noticed_and_removed(finished):
    folder, step = finished
    (folder.out / "tables/09_out.csv").write_text("content")
    assert not folder.is_done(step)
    folder.clear(step, everything=False)
    assert not (folder.out / "tables/09_out.csv").exists() and folder.state(step) == {
        "seconds": 1.0
    }


def test_state_that_cannot_be_read_means_run_again(finished):
    folder, step = finished
    (folder.out / ".state" / "09_step.json").write_text("{half")
    assert not folder.is_done(step)


def test_big_file_is_hashed_again_when_it_changes(finished, monkeypatch):
    folder, step = finished
    monkeypatch.setattr(step_cache, "BIG_BYTES", 0)
    before = folder.content_hash(step.inputs[0])
    assert step_cache.Results(folder.out).content_hash(step.inputs[0]) == before
    step.inputs[0].write_text("longer contents")
    assert folder.content_hash(step.inputs[0]) != before


def test_a_single_notebook_refuses_a_misspelt_parameter(monkeypatch, capsys):
    import run_notebook

    monkeypatch.setattr(
        "sys.argv",
        [
            "run_notebook.py",
            "notebooks/04_fairness_analysis.ipynb",
            "--parameters",
            '{"MARGN": 0.05}',
        ],
    )
    monkeypatch.chdir(paths.repository_root())
    assert run_notebook.main() == 2 and "Did you mean 'MARGIN'?" in capsys.readouterr().err


def test_a_page_names_files_of_the_package_and_does_not_link_them():
    import run_notebook

    prose = (
        "See the [glossary](../docs/glossary.md), [docs/audit.md](../docs/audit.md), [a](b.png)."
    )
    assert run_notebook.without_links_to_the_package(prose) == (
        "See the glossary (`docs/glossary.md`), docs/audit.md, [a](b.png)."
    )


def test_a_page_has_formulas_as_mathml_and_money_as_it_is():
    import nbformat

    import run_notebook

    text = "With $\\varepsilon$ and\n\n$$e^{x} \\le 1$$\n\nit costs $5 or $6, `$HOME/$X`."
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell(text), nbformat.v4.new_code_cell("'$a$'")]
    )
    page = run_notebook.page(notebook, "a title")
    body = page[page.index("<body") :]
    assert body.count("<math") == 2
    assert "varepsilon" not in body
    assert "it costs $5 or $6" in body
    assert "$HOME/$X" in body
    assert "$a$" in body
    assert notebook.cells[0].source == text


def test_too_little_room_is_refused_before_a_step(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    out = tmp_path / "out"
    assert run_all.main(["--profile", "smoke", "--only", "01", "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert f"bytes free in {out} for the results" in said and "got 1,000 bytes free" in said


def test_jobs_follow_the_limits_of_a_container(tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "has_gpu", lambda: False)
    monkeypatch.setattr(machine, "cores", lambda: 8)
    monkeypatch.setattr(machine, "available_memory", lambda: 3 * step_process.BYTES_PER_JOB)
    batch = batches.Batch(step_cache.Results(tmp_path), plan_of(), plan_of())
    assert (batch.cores, batch.jobs) == (8, 3)


def test_without_locks_a_study_runs_with_a_warning(tmp_path, monkeypatch, capsys):
    no_locks = OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
    monkeypatch.setattr(fcntl, "flock", lambda *arguments: (_ for _ in ()).throw(no_locks))
    monkeypatch.setattr(batches.Batch, "run", lambda batch: True)
    assert run_all.main(["--profile", "smoke", "--out", str(tmp_path)]) == 0
    assert f"The disk of {tmp_path} has no locks" in capsys.readouterr().err


# ---- the kernel's environment


@pytest.fixture
def environment(monkeypatch):
    """An environment that a test may change."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setattr(tempfile, "tempdir", None)
    return os.environ


def test_a_kernels_folder_is_where_tmpdir_points(tmp_path, environment):
    environment["TMPDIR"] = str(tmp_path)
    with run_notebook.temporary_folder() as folder:
        assert Path(folder).parent == tmp_path


def test_a_kernels_folder_is_short_enough_for_sockets(tmp_path, environment):
    environment["TMPDIR"] = str(tmp_path / ("long" * 30))
    os.mkdir(environment["TMPDIR"])
    with run_notebook.temporary_folder() as folder:
        assert folder.startswith("/tmp/k") and run_notebook.holds_sockets(folder)


def test_where_only_a_long_path_is_writable_a_kernel_does_without_sockets(
    tmp_path, environment, monkeypatch
):
    environment["TMPDIR"] = str(tmp_path / ("long" * 30))
    os.mkdir(environment["TMPDIR"])
    monkeypatch.setattr(os, "access", lambda path, mode: path != "/tmp")
    with run_notebook.temporary_folder() as folder:
        assert folder.startswith(environment["TMPDIR"])
        assert not run_notebook.holds_sockets(folder) and not any(Path(folder).iterdir())


@pytest.mark.parametrize("threads, kernels", [("", "3"), ("4,2", "4"), ("0", "3"), ("2", "2")])
def test_a_kernel_gets_a_number_of_threads(threads, kernels, tmp_path, environment, monkeypatch):
    monkeypatch.setattr(machine, "cores", lambda: 3)
    environment["OMP_NUM_THREADS"] = threads
    run_notebook.set_environment(str(tmp_path))
    assert environment["OMP_NUM_THREADS"] == kernels


@pytest.mark.parametrize("is_writable", [True, False])
def test_matplotlib_keeps_its_files_elsewhere_only_where_home_is_read_only(
    is_writable, tmp_path, environment, monkeypatch
):
    for name in ("MPLCONFIGDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        environment.pop(name, None)
    environment["HOME"] = str(tmp_path / "home")
    os.mkdir(environment["HOME"])
    access = os.access
    monkeypatch.setattr(
        os,
        "access",
        lambda path, mode: access(path, mode) and (is_writable or path != tmp_path / "home"),
    )
    run_notebook.set_environment(str(tmp_path))
    assert environment.get("MPLCONFIGDIR") == (None if is_writable else f"{tmp_path}/matplotlib")
