"""Parameters of the notebooks: a model a notebook, and messages that say what to do."""

import typing

import pytest

from helpers.core import errors, notebook_parameters
from helpers.core.parameter_models import MODELS
from helpers.data import manifest_schema
from helpers.study import notebook_files

NUMBERS = pytest.mark.parametrize("number", MODELS)


def defaults_of(number):
    """The defaults of a notebook's parameters cell."""
    return notebook_files.default_parameters(notebook_files.notebooks()[number])


# ---- the notebooks' cells


def test_every_notebook_has_a_model():
    assert list(notebook_files.notebooks()) == list(MODELS)


@NUMBERS
def test_the_parameters_cell_has_the_names_of_the_model_in_its_order(number):
    assert list(defaults_of(number)) == list(MODELS[number].model_fields)


@NUMBERS
def test_the_defaults_of_the_parameters_cell_are_accepted(number):
    notebook_parameters.check(number, defaults_of(number))


def test_notebook_03_has_at_most_24_parameters_the_rarely_changed_ones_last():
    rarely = notebook_parameters.table("03")["rarely"].tolist()
    assert rarely == [False] * 7 + [True] * 17


@NUMBERS
def test_the_table_for_the_docs_has_a_row_a_parameter_each_with_its_meaning(number):
    table = notebook_files.parameter_table(number)
    assert table.columns.tolist() == [
        "parameter",
        "default",
        "type",
        "unit",
        "paper",
        "meaning",
        "rarely",
    ]
    assert table["parameter"].tolist() == list(MODELS[number].model_fields)
    assert (table["meaning"].str.len() > 4).all() and (table["type"].str.len() > 4).all()


# ---- what is refused


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("EPSILON", 0, r"EPSILON to be a number in \(0, 1000\]; got 0\. Set EPSILON in the param"),
        ("EPSILON", float("nan"), "EPSILON to be a number"),
        ("EPSILON", float("inf"), "EPSILON to be a number"),
        ("EPSILON", True, "EPSILON to be a number"),
        ("DELTA", 0.5, r"DELTA to be a number in \(0, 0.1\]"),
        ("CLIP_NORM", -1.0, "CLIP_NORM to be a number"),
        ("SEED", 1.5, r"SEED to be an integer in \[0, 2147483648\]"),
        ("EPOCHS", True, "EPOCHS to be an integer"),
        ("EPOCHS", 0, r"EPOCHS to be an integer in \[1, 100000\] or None; got 0"),
        ("BUDGET", "8", r"BUDGET to be a number in \(0, 1000\] or None; got '8'"),
        ("MODE", "secret", "MODE to be one of demo, private; got 'secret'. Choose one of these"),
        ("PRIVACY_UNIT", "pateint", "PRIVACY_UNIT to be one of.*Did you mean 'patient'"),
        (
            "HEAD",
            "poold",
            "HEAD to be one of halves, levels, sided, pooled, None.*Did you mean 'pooled'",
        ),
        ("CONFIRM", ["weak delt"], "each of CONFIRM to be one of.*Did you mean 'weak delta'"),
        ("CONFIRM", "weak delta", 'CONFIRM to be a list of "weak delta" and "spend again", or'),
        ("RECIPE", "Mine!", "RECIPE to be small letters"),
        ("COHORT", None, "COHORT to be a text; got None"),
    ],
)
def test_a_wrong_parameter_of_notebook_03_is_refused_in_the_words_of_the_house(
    name, value, message
):
    with pytest.raises(errors.InputError, match=message) as refusal:
        notebook_parameters.check("03", defaults_of("03") | {name: value})
    assert "pydantic" not in str(refusal.value) and "\n" not in str(refusal.value)


def test_the_first_wrong_parameter_in_the_order_of_the_cell_is_named():
    values = defaults_of("02") | {"SEED": -1, "BATCH_SIZE": 0}
    with pytest.raises(errors.InputError, match="BATCH_SIZE"):
        notebook_parameters.check("02", values)


def test_an_absent_parameter_is_refused_and_other_names_pass():
    values = defaults_of("02") | {"STYLE": 3}
    notebook_parameters.check("02", values)
    del values["WIDTH"]
    with pytest.raises(errors.InputError, match="WIDTH in the parameters cell of notebook 02"):
        notebook_parameters.check("02", values)


@pytest.mark.parametrize(
    "planned, message",
    [
        ("sex", "PLANNED to be a list of"),
        ([["sex", "female - male"]], r"got \[\['sex', 'female - male'\]\]"),
        ([["sex", "f - m", "1"]], "epsilon"),
        ([["sex", "f - m", 1.0]] * 13, "at most 12"),
        ([{"sex", "f - m", 1.0}], "PLANNED to be a list of"),
        ([["sex", "f - m", -1.0]], "PLANNED to be a list of"),
    ],
)
def test_planned_comparisons_of_another_form_are_refused(planned, message):
    with pytest.raises(errors.InputError, match=message):
        notebook_parameters.check_some("04", {"PLANNED": planned})


@pytest.mark.parametrize(
    "number, name, wrong, right",
    [
        (
            "04",
            "AGE_EDGES",
            [[0], [10, 20], [0, 60, 60], [0, "60"], "0", [0, 130]],
            [0, 30, 60.5],
        ),
        ("01", "VOLUME_SHAPE", [[8, 8], [4, 64, 64], [8.0, 8, 8], "8"], [32, 64, 64]),
        ("01", "WINDOW_HU", [[250, -150], [1, 1], [0], [0, 1e4]], [-150, 250.5]),
        ("04", "OPERATING_POINT", ["f1", "sensitivity 1.2", "sensitivity 0.0", ""], "youden"),
        ("04", "OPERATING_POINT", ["false alarms"], "false alarms 0.05"),
        ("04", "STRATA", ["scanner", [1]], ["scanner", "view"]),
        ("05", "FINDINGS", ["mass", [None]], ["mass"]),
        ("02", "CHANNELS", [True, 1.0, 2, "1"], 3),
        ("04", "PLANNED", [None, [[]]], [["sex", "female - male", 1]]),
    ],
)
def test_one_parameter_alone_is_checked_by_its_form(number, name, wrong, right):
    notebook_parameters.check_some(number, {name: right})
    for value in wrong:
        with pytest.raises(errors.InputError, match=f"{name} to be"):
            notebook_parameters.check_some(number, {name: value})


def test_a_name_that_the_notebook_does_not_have_is_refused():
    with pytest.raises(errors.InputError, match="Did you mean 'N_PATIENTS'"):
        notebook_parameters.check_some("01", {"N_PATIENT": 3})


def test_a_setting_takes_an_integer_and_text_of_yaml_as_a_float_and_nothing_else():
    assert notebook_parameters.setting("03", "DELTA", "1e-6") == 1e-6
    assert notebook_parameters.setting("03", "LEARNING_RATE", "5e-4") == 5e-4
    assert isinstance(notebook_parameters.setting("03", "CLIP_NORM", 2), float)
    assert notebook_parameters.setting("03", "RECIPE", "12") == "12"
    for name, text in (("DELTA", "small"), ("EPOCHS", "3")):
        with pytest.raises(errors.InputError, match=f"{name} to be"):
            notebook_parameters.setting("03", name, text)
    with pytest.raises(errors.InputError, match="DELTA to be a number"):
        notebook_parameters.check("03", defaults_of("03") | {"DELTA": "1e-6"})


# ---- demo mode


@pytest.mark.parametrize(
    "access", typing.get_args(manifest_schema.Manifest.model_fields["access"].annotation)
)
def test_mode_fits_has_demo_for_embedded_cohorts_only_and_private_for_all(access):
    # a new value must be thought of here
    assert access in ("embedded", "open", "registration", "credentialed", "private")
    notebook_parameters.mode_fits("private", access)
    if access == "embedded":
        notebook_parameters.mode_fits("demo", access)
    else:
        with pytest.raises(
            errors.InputError, match="Expected MODE = 'private' on real data; got MODE = 'demo'"
        ):
            notebook_parameters.mode_fits("demo", access)
