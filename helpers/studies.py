"""Studies: a profile, checked against the notebooks' parameters, and the steps it expands to.

In: a profile (YAML), settings from the command line, the notebooks' parameters cells. Out: steps, each one notebook
with its parameters, what it reads and what it writes. Refuses: everything that can be known to be wrong without data.

Notebooks are read here as JSON files only: nothing is executed, and nothing imports torch.
"""

import ast
import dataclasses
import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

import pydantic
import yaml

from helpers import checks, files, manifests, runs

NOTEBOOKS = runs.repository_root() / "notebooks"
PROFILES = runs.repository_root() / "profiles"
RUN_FILES = ("predictions.parquet", "record.json", "weights.safetensors")
COHORT_FILES = ("images.npy", "table.parquet", "exclusions.csv", "record.json")
_LISTS = {"EPSILONS": "EPSILON", "SEEDS": "SEED"}  # a profile's lists, expanded to one step for each value
_SHARED = ("COHORT", "PRETRAIN", "SEED", "WIDTH", "CHANNELS")  # the same in every notebook, or its inputs would not be there


class Profile(pydantic.BaseModel, extra="forbid"):
    """A study: only what differs from the notebooks' defaults."""

    title: str
    parameters: dict[str, Any] = {}
    notebooks: dict[Literal["01", "02", "03", "04"], dict[str, Any]] = {}


@dataclasses.dataclass
class Step:
    """One notebook with its parameters.

    Attributes:
        id: name of the step and of its executed notebook.
        needs: ids of the steps before it.
        inputs: files it reads; relative paths are meant within the results folder.
        outputs: files it must write, relative to the results folder.
        marks: what the names of its further tables and figures begin with.
    """

    id: str
    notebook: Path
    parameters: dict[str, Any]
    needs: list[str] = dataclasses.field(default_factory=list)
    inputs: list[Path] = dataclasses.field(default_factory=list)
    outputs: list[Path] = dataclasses.field(default_factory=list)
    marks: list[str] = dataclasses.field(default_factory=list)


# ---- notebooks as files

def notebooks() -> dict[str, Path]:
    """Return the notebooks by number: "01", "02", ..."""
    return {path.name[:2]: path for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))}


def code_cells(notebook: Path, tag: str | None = None) -> list[str]:
    """Return the sources of a notebook's code cells, of those with a tag if one is given."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"
            and (tag is None or tag in cell["metadata"].get("tags", []))]


def sources_hash(notebook: Path) -> str:
    """Return the SHA-256 of a notebook's code."""
    return hashlib.sha256(json.dumps(code_cells(notebook)).encode()).hexdigest()


def helpers_used(notebook: Path) -> set[str]:
    """Return the names of the helper modules that a notebook imports.

    Raises:
        InputError: a code cell is not Python.
    """
    modules = set()
    for number, source in enumerate(code_cells(notebook), 1):
        try:
            modules |= files.helpers_imported(source)
        except SyntaxError as error:
            checks.refuse(f"Python in code cell {number} of {notebook.name}", error, "Correct the cell.")
    return modules


def default_parameters(notebook: Path) -> dict[str, Any]:
    """Return the names and defaults of a notebook's parameters cell.

    Raises:
        InputError: not exactly one such cell, or something other than literals in it.
    """
    helpers_used(notebook)  # refuses what is not Python before the first kernel starts
    cells = code_cells(notebook, "parameters")
    if len(cells) != 1:
        checks.refuse(f"one cell tagged `parameters` in {notebook.name}", len(cells), "Tag the cell of its parameters.")
    try:
        return {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(cells[0]).body}
    except (ValueError, SyntaxError, AttributeError) as error:
        checks.refuse(f"only lines NAME = literal in the parameters cell of {notebook.name}", error, "Move the rest on.")


# ---- profiles and settings

def profiles() -> list[str]:
    """Return the names of the known profiles."""
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def read_profile(name: str) -> Profile:
    """Return a profile.

    Raises:
        InputError: unknown (lists the known ones), not YAML, or not in the form of `Profile`.
    """
    checks.one_of("the profile", name, profiles())
    try:
        return Profile.model_validate(yaml.safe_load((PROFILES / f"{name}.yaml").read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        checks.refuse(f"YAML in profiles/{name}.yaml", " ".join(str(error).split()), "Correct the file.")
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        checks.refuse(f"a profile in profiles/{name}.yaml", f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
                      "A profile has a title, `parameters` and `notebooks`.")


def read_setting(text: str) -> tuple[str | None, str, Any]:
    """Return (number of the notebook or None for all, name, value) of `NAME=value` or `03.NAME=value`.

    Raises:
        InputError: not in that form.
    """
    target, equals, value = text.partition("=")
    number, dot, name = target.rpartition(".")
    if not equals or not name.isidentifier():
        checks.refuse("--set NAME=value or --set 03.NAME=value", repr(text), "For example --set 03.EPOCHS=2.")
    try:
        return (number if dot else None), name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return (number if dot else None), name, value


def collect(profile: Profile, settings: Collection[tuple[str | None, str, Any]]) -> tuple[dict, dict]:
    """Return what a study sets: {notebook: {parameter: value}}, later settings over earlier ones, and its lists.

    Raises:
        InputError: an unknown notebook or parameter (names the known ones), a value of another type than the
            default, or outside the range of its name.
    """
    defaults = {number: default_parameters(path) for number, path in notebooks().items()}
    chosen = {number: {} for number in defaults}
    lists = {"EPSILONS": [defaults["03"]["EPSILON"]], "SEEDS": [defaults["02"]["SEED"]]}
    in_profile = [(number, name, value) for number, values in profile.notebooks.items() for name, value in values.items()]
    for number, name, value in [(None, *item) for item in profile.parameters.items()] + in_profile + list(settings):
        if number is not None:
            checks.one_of("the notebook", number, list(defaults))
        if number in (None, "03") and name in ("EPSILON", "EPSILONS") or number is None and name in ("SEED", "SEEDS"):
            plural = name if name in _LISTS else name + "S"
            lists[plural] = _checked_list(plural, value if name in _LISTS else [value])
            continue
        if number is not None and name in _SHARED and not (number == "04" and name == "SEED"):
            checks.refuse(f"{name} for all notebooks", f"{name} for {number} alone", f"Set {name} without a number.")
        owners = [number] if number else [n for n in defaults if name in defaults[n]]
        known = defaults[number] if number else {k for values in defaults.values() for k in values} | set(_LISTS)
        checks.one_of(f"the parameter of {notebooks()[number].stem if number else 'the notebooks'}", name, sorted(known))
        for owner in owners:
            chosen[owner][name] = _typed(name, value, defaults[owner][name])
            checks.parameters({name: chosen[owner][name]})
    for name in ("COHORT", "PRETRAIN"):
        value = _anchored(chosen["01"].get(name, defaults["01"][name]))
        for number in chosen:
            chosen[number] |= {name: value} if name in defaults[number] else {}
    return chosen, lists


def _anchored(name_or_path: str) -> str:
    """Return a name as it is, the path of a file as an absolute path: kernels have working directories of their own."""
    is_path = name_or_path.endswith((".yaml", ".yml", ".safetensors"))
    return str(Path(name_or_path).expanduser().resolve()) if is_path else name_or_path


def _checked_list(name: str, values: Any) -> list:
    """Return the values of a profile's list, each of them allowed and none twice."""
    if not isinstance(values, list) or not values:
        checks.refuse(f"{name} to be a list of values", repr(values), f"Write {name}: [1, 2].")
    for value in values:
        checks.parameters({_LISTS[name]: value})
    if len({f"{value:g}" for value in values}) < len(values):
        checks.refuse(f"different values in {name}", values, "Remove the repeated one.")
    return values


def _typed(name: str, value: Any, default: Any) -> Any:
    """Return a value of its default's type; an integer serves as a float, as does YAML's text 1e-5."""
    if isinstance(default, float) and isinstance(value, (int, str)) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass  # refused below
    if default is not None and type(value) is not type(default):
        checks.refuse(f"{name} of type {type(default).__name__}, like {default!r}", repr(value), "Correct the value.")
    return value


# ---- data

def data_sets(chosen: dict) -> list[str]:
    """Return names (or paths) of the manifests a study reads: its cohort's, and its pretraining's if that is one.

    Raises:
        InputError: there is no such manifest, it is not in order, the weights to start from are missing, real data
            would be trained on in demo mode, or groups are asked for that the cohort does not have.
    """
    cohort, pretrain = chosen["01"]["COHORT"], chosen["01"]["PRETRAIN"]
    if pretrain.endswith(".safetensors"):
        checks.file_exists(Path(pretrain), "Correct PRETRAIN.")
    sets = [cohort] + ([pretrain] if pretrain != "none" and not pretrain.endswith(".safetensors") else [])
    for name in sets:
        manifests.read(name)
    manifest = manifests.read(cohort)
    mode = chosen["03"].get("MODE") or default_parameters(notebooks()["03"])["MODE"]
    checks.mode_fits(mode, manifest.access)
    known = ["sex", "age", "comorbidities", "sex x age", *manifest.further_columns]
    for attribute in chosen["04"].get("ATTRIBUTES") or default_parameters(notebooks()["04"])["ATTRIBUTES"]:
        checks.one_of(f"each of the ATTRIBUTES of notebook 04, for {manifest.name},", attribute, known)
    return list(dict.fromkeys(sets))


def read_data_roots(given: Collection[str], sets: list[str]) -> dict[str, str]:
    """Return the folder of each data set that has files: {name: absolute path}.

    Args:
        given: `path` (of the study's cohort) or `name=path`, in the order of the command line.
        sets: from `data_sets`, the cohort first.

    Raises:
        InputError: a folder or a file expected in it is missing, or it is named for a data set not in the study.
    """
    roots, known = {}, [manifests.name_of(name) for name in sets]
    for text in given:
        name, equals, path = text.partition("=")
        if not equals or "/" in name:
            name, path = known[0], text
        checks.one_of("the data set of --data-root", name, known)
        if manifests.read(sets[known.index(name)]).layout.kind == "synthetic":
            checks.refuse(f"no --data-root for {name}, which is drawn", repr(path), "Leave it out, or choose another profile.")
        roots[name] = str(Path(path).expanduser().resolve())
    for manifest in map(manifests.read, sets):
        if manifest.layout.kind != "synthetic":
            manifests.locate(manifest, roots.get(manifest.name))
    return roots


# ---- the plan

def plan(chosen: dict, lists: dict) -> list[Step]:
    """Return the steps of a study, each after those it needs.

    Prepare the data once; train without privacy for each seed, the first of them with the start common to all;
    train with privacy for each budget and seed; analyse once.
    """
    cohort, pretrain = manifests.name_of(chosen["01"]["COHORT"]), chosen["01"]["PRETRAIN"]
    sets, paths = data_sets(chosen), notebooks()
    tables = [Path("cohort", manifests.name_of(name), file) for name in sets for file in COHORT_FILES]
    data = [path for path in tables if path.name in ("images.npy", "table.parquet")]
    zero_shot = [] if pretrain == "none" else [runs.run_name(cohort, "zero_shot")]
    start = [Path("runs", run, "weights.safetensors") for run in zero_shot]
    weights = [Path(pretrain)] if pretrain.endswith(".safetensors") else []
    first = Step(paths["01"].stem, paths["01"], chosen["01"], outputs=tables, marks=["01_"],
                 inputs=[_manifest_path(name) for name in sets] + _sources(sets, chosen["01"].get("DATA_ROOTS", {})))
    training = []
    for seed in lists["SEEDS"]:
        own = [runs.run_name(cohort, "baseline", seed)]
        is_first = not training
        training.append(_training_step(paths["02"], f"seed{seed}", chosen["02"] | {"SEED": seed},
                                       (zero_shot if is_first else []) + own, first if is_first else training[0],
                                       data + weights + ([] if is_first else start)))
    private = {"unit": chosen["03"].get("PRIVACY_UNIT", "patient"), "recipe": chosen["03"].get("RECIPE", "default")}
    for epsilon in lists["EPSILONS"]:
        for seed in lists["SEEDS"]:
            training.append(_training_step(paths["03"], f"eps{epsilon:g}-seed{seed}",
                                           chosen["03"] | {"EPSILON": float(epsilon), "SEED": seed},
                                           [runs.run_name(cohort, "dp", seed, epsilon, **private)], training[0],
                                           data + start))
    outputs = [path for step in training for path in step.outputs]
    names = list(dict.fromkeys(path.parts[1] for path in outputs))
    last = Step(paths["04"].stem, paths["04"], {"RUNS": names} | chosen["04"], [step.id for step in [first] + training],
                [Path("cohort", cohort, "table.parquet")] + [p for p in outputs if p.name != "weights.safetensors"],
                [Path("tables/04_summary.csv"), Path("figures/04_privacy_utility.png")], ["04_"])
    return [first] + training + [last]


def _manifest_path(name_or_path: str) -> Path:
    """Return the file of a manifest."""
    is_name = manifests.name_of(name_or_path) == name_or_path
    return manifests.manifests_dir() / f"{name_or_path}.yaml" if is_name else Path(name_or_path)


def _sources(sets: list[str], data_roots: dict[str, str]) -> list[Path]:
    """Return the folders of real data, and the tables, lists and shards in them."""
    wanted = [(Path(data_roots[manifests.name_of(name)]), manifests.read(name)) for name in sets
              if manifests.name_of(name) in data_roots]
    tables = [path for root, manifest in wanted for pattern in manifests.expected_files(manifest)
              for path in sorted(root.glob(pattern)) or [root / pattern]]
    return [root for root, _ in wanted] + tables


def _training_step(notebook: Path, suffix: str, parameters: dict, names: list[str], after: Step,
                   inputs: list[Path]) -> Step:
    """Return a step that writes the named runs."""
    return Step(f"{notebook.stem}-{suffix}", notebook, parameters, [after.id], inputs,
                [Path("runs", name, file) for name in names for file in RUN_FILES],
                [f"{notebook.name[:2]}_{name}_" for name in names])


def step_key(step: Step, contents: dict[str, str | None]) -> str:
    """Return the fingerprint of all that decides a step's results.

    Args:
        step: the step.
        contents: the hash of each of its inputs; None where one is missing.
    """
    content = {"code": code_cells(step.notebook), "parameters": step.parameters, "inputs": contents}
    return files.fingerprint(content, helpers_used(step.notebook))
