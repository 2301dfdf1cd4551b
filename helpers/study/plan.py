"""Studies: the steps to which a profile expands.

In: what a profile and the command line set (`profiles`). Out: steps, each one notebook with its
parameters, what it reads and what it writes. Refuses: data sets, folders and groups that are not
there.
"""

import dataclasses
import itertools
from collections.abc import Collection
from pathlib import Path
from typing import Any

from helpers.core import errors, fingerprints, notebook_parameters, run_records
from helpers.data import groups, manifests, source_files
from helpers.study import notebook_files

RUN_FILES = ("predictions.parquet", "record.json", "weights.safetensors")
EVALUATION_FILES = RUN_FILES[:2]  # of a run's model among other patients
COHORT_FILES = ("images.npy", "table.parquet", "exclusions.csv", "record.json")


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


# ---- data


def data_sets(chosen: dict) -> list[str]:
    """Return names (or paths) of the manifests a study reads: its cohort's, its pretraining's if
    that is one, EVALUATE_ON's.

    Raises:
        InputError: there is no such manifest, it is not in order, the weights to start from are
            missing, real data would be trained on in demo mode, or groups are asked for that the
            cohort does not have.
    """
    cohort, pretrain = chosen["01"]["COHORT"], chosen["01"]["PRETRAIN"]
    if pretrain.endswith(".safetensors"):
        errors.file_exists(Path(pretrain), "Correct PRETRAIN.")
    sets = [cohort] + (
        [pretrain] if pretrain != "none" and not pretrain.endswith(".safetensors") else []
    )
    sets += [elsewhere] if (elsewhere := chosen["01"]["EVALUATE_ON"]) != "none" else []
    manifests.wanted(cohort, pretrain, {}, elsewhere)
    manifest = manifests.read(cohort)
    manifests.size_fits(
        manifest,
        **{
            name.lower(): chosen["01"][name]
            for name in ("IMAGE_PX", "EQUALISE", "VOLUME_SHAPE", "WINDOW_HU")
            if name in chosen["01"]
        },
    )
    mode = (
        chosen["03"].get("MODE")
        or notebook_files.default_parameters(notebook_files.notebooks()["03"])["MODE"]
    )
    notebook_parameters.mode_fits(mode, manifest.access)
    known = [*groups.ATTRIBUTES, *manifest.further_columns]
    for attribute in (
        chosen["04"].get("ATTRIBUTES")
        or notebook_files.default_parameters(notebook_files.notebooks()["04"])["ATTRIBUTES"]
    ):
        errors.one_of(
            f"each of the ATTRIBUTES of notebook 04, for {manifest.name},", attribute, known
        )
    shortcuts = chosen["04"].get(
        "SHORTCUTS",
        notebook_files.default_parameters(notebook_files.notebooks()["04"])["SHORTCUTS"],
    )
    for column in shortcuts:
        errors.one_of(
            f"each of the SHORTCUTS of notebook 04, for {manifest.name},",
            column,
            list(manifest.further_columns),
        )
    for attribute, *_ in chosen["04"].get("PLANNED") or []:
        errors.one_of(
            f"each attribute in PLANNED of notebook 04, for {manifest.name},", attribute, known
        )
    return list(dict.fromkeys(sets))


def read_data_roots(given: Collection[str], sets: list[str]) -> dict[str, str]:
    """Return the folder of each data set that has files: {name: absolute path}.

    Args:
        given: `path` (of the study's cohort) or `name=path`, in the order of the command line.
        sets: from `data_sets`, the cohort first.

    Raises:
        InputError: a folder or a file expected in it is missing, or it is named for a data set not
            in the study.
    """
    roots, known = {}, [manifests.name_of(name) for name in sets]
    for text in given:
        name, equals, path = text.partition("=")
        if not equals or "/" in name:
            name, path = known[0], text
        errors.one_of("the data set of --data-root", name, known)
        if manifests.read(sets[known.index(name)]).layout.kind == "synthetic":
            errors.refuse(
                f"no --data-root for {name}, which is drawn",
                repr(path),
                "Leave it out, or choose another profile.",
            )
        roots[name] = str(Path(path).expanduser().resolve())
    for manifest in map(manifests.read, sets):
        if manifest.layout.kind != "synthetic":
            source_files.locate(manifest, roots.get(manifest.name))
    return roots


# ---- the plan


def plan(chosen: dict, lists: dict) -> list[Step]:
    """Return the steps of a study, each after those it needs.

    Prepare the data once; train without privacy for each seed, the first of them with the start
    common to all; train with privacy for each budget and seed; analyse once.
    """
    cohort, pretrain = manifests.name_of(chosen["01"]["COHORT"]), chosen["01"]["PRETRAIN"]
    sets, paths = data_sets(chosen), notebook_files.notebooks()
    tables = [
        Path("cohort", manifests.name_of(name), file) for name in sets for file in COHORT_FILES
    ]
    data = [path for path in tables if path.name in ("images.npy", "table.parquet")] + [
        _manifest_path(name) for name in sets
    ]
    zero_shot = [] if pretrain == "none" else [run_records.run_name(cohort, "zero_shot")]
    start = [Path("runs", run, "weights.safetensors") for run in zero_shot]
    weights = [Path(pretrain)] if pretrain.endswith(".safetensors") else []
    elsewhere = chosen["01"]["EVALUATE_ON"]
    first = Step(
        paths["01"].stem,
        paths["01"],
        chosen["01"],
        outputs=tables,
        marks=["01_"],
        inputs=[_manifest_path(name) for name in sets]
        + _sources(sets, chosen["01"].get("DATA_ROOTS", {})),
    )
    training = []
    for seed in lists["SEEDS"]:
        own = [run_records.run_name(cohort, "baseline", seed)]
        is_first = not training
        training.append(
            _training_step(
                paths["02"],
                f"seed{seed}",
                chosen["02"] | {"SEED": seed},
                (zero_shot if is_first else []) + own,
                first if is_first else training[0],
                data + weights + ([] if is_first else start),
                elsewhere,
            )
        )
    private = [{"EPSILON": float(epsilon)} for epsilon in lists["EPSILONS"]] + lists["comparisons"]
    for given, seed in itertools.product(private, lists["SEEDS"]):
        own = chosen["03"] | given | {"SEED": seed}
        names = {"unit": own.get("PRIVACY_UNIT", "patient"), "recipe": own.get("RECIPE", "default")}
        run = run_records.run_name(cohort, "dp", seed, own["EPSILON"], **names)
        suffix = f"eps{own['EPSILON']:g}-seed{seed}" + (
            f"-{given['RECIPE']}" if "RECIPE" in given else ""
        )
        training.append(
            _training_step(paths["03"], suffix, own, [run], training[0], data + start, elsewhere)
        )
    outputs = [path for step in training for path in step.outputs]
    _keep_apart([path.parts[1] for path in outputs if path.name == "weights.safetensors"])
    names = list(
        dict.fromkeys(path.parts[1] for path in outputs if path.name == "weights.safetensors")
    )
    last = Step(
        paths["04"].stem,
        paths["04"],
        {"RUNS": names} | chosen["04"],
        [step.id for step in [first] + training],
        [path for path in tables if path.name == "table.parquet"]
        + [p for p in outputs if p.name != "weights.safetensors"],
        [Path("tables/04_summary.csv"), Path("figures/04_privacy_utility.png")],
        ["04_"],
    )
    return [first] + training + [last]


def _keep_apart(names: list[str]) -> None:
    """Refuse two steps that would write one run, or files that begin alike.

    Raises:
        InputError: one run's name is another's, or another's up to a "_".
    """
    for one, other in itertools.permutations(names, 2):
        if other == one or other.startswith(f"{one}_"):
            errors.refuse(
                "private runs of different names",
                f"{one} and {other}",
                "Give each comparison a RECIPE of its own.",
            )


def _manifest_path(name_or_path: str) -> Path:
    """Return the file of a manifest."""
    is_name = manifests.name_of(name_or_path) == name_or_path
    return manifests.manifests_dir() / f"{name_or_path}.yaml" if is_name else Path(name_or_path)


def _sources(sets: list[str], data_roots: dict[str, str]) -> list[Path]:
    """Return the folders of real data, and the tables, lists and shards in them."""
    wanted = [
        (Path(data_roots[manifests.name_of(name)]), manifests.read(name))
        for name in sets
        if manifests.name_of(name) in data_roots
    ]
    tables = [
        path
        for root, manifest in wanted
        for pattern in source_files.expected_files(manifest)
        for path in sorted(root.glob(pattern)) or [root / pattern]
    ]
    return [root for root, _ in wanted] + tables


def _training_step(
    notebook: Path,
    suffix: str,
    parameters: dict,
    names: list[str],
    after: Step,
    inputs: list[Path],
    elsewhere: str,
) -> Step:
    """Return a step that writes the named runs, and their predictions for patients elsewhere unless
    that is "none".
    """
    others = (
        []
        if elsewhere == "none"
        else [run_records.elsewhere_name(name, manifests.name_of(elsewhere)) for name in names]
    )
    return Step(
        f"{notebook.stem}-{suffix}",
        notebook,
        parameters,
        [after.id],
        inputs,
        [Path("runs", name, file) for name in names for file in RUN_FILES]
        + [Path("runs", name, file) for name in others for file in EVALUATION_FILES],
        [f"{notebook.name[:2]}_{name}_" for name in names],
    )


def step_key(step: Step, contents: dict[str, str | None]) -> str:
    """Return the fingerprint of all that decides a step's results.

    Args:
        step: the step.
        contents: the hash of each of its inputs; None where one is missing.
    """
    content = {
        "code": notebook_files.code_cells(step.notebook),
        "parameters": step.parameters,
        "inputs": contents,
    }
    return fingerprints.fingerprint(content, notebook_files.helpers_used(step.notebook))
