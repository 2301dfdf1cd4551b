"""The plan of a study: the steps to which a profile expands.

In: what a profile and the command line set (`profiles`). Out: steps, each one notebook with its
parameters, what it reads and what it writes. Raises `InputError` for what `study_data` refuses, and
for recipes that cannot be, and private runs that would share a name.
"""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

from helpers.core import errors, fingerprints, paths, run_records
from helpers.data import manifests
from helpers.study import notebook_files, study_data
from helpers.training import network_settings, recipe_rule, same_recipe

RUN_FILES = ("predictions.parquet", "record.json", "weights.safetensors")
EVALUATION_FILES = RUN_FILES[:2]  # of a run's model among other patients
COHORT_FILES = ("images.npy", "table.parquet", "exclusions.csv", "record.json")
REPLICATES = Path("tables/04_replicates.parquet")  # AUROC of resamples, drawn once for 04 and 05


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

    @property
    def trains(self) -> bool:
        """Whether it trains models: on a GPU where there is one."""
        return self.notebook.name[:2] in ("02", "03", "06")


def plan(chosen: dict, lists: dict) -> list[Step]:
    """Return the steps of a study, each after those it needs.

    Prepare the data once; train without privacy for each seed, the first of them with the start
    and the network common to all; train the recipe of the largest budget without noise, with and
    without clipping, with the first seed; train with privacy for each budget and seed; analyse
    once, and compare with the paper.

    Args:
        chosen, lists: from `profiles.collect`.

    Raises:
        InputError: see `study_data.data_sets` and `_check_recipe`; or two private runs of one name.
    """
    data_sets = study_data.data_sets(chosen)
    preparation = _preparation(chosen["01"], data_sets)
    data = [
        path for path in preparation.outputs if path.name in ("images.npy", "table.parquet")
    ] + [study_data.manifest_path(name) for name in data_sets]
    baselines = _baselines(chosen, lists["SEEDS"], preparation, data)
    inputs = data + _start_files(baselines[0]) + [network_file(_cohort(chosen))]
    training = [
        *baselines,
        *(_ablation_steps(chosen, lists, baselines[0], inputs) if lists["ablation"] else []),
        *_private_steps(chosen, lists, baselines[0], inputs),
    ]
    written = [path for step in training for path in step.outputs]
    runs = [path.parts[1] for path in written if path.name == "weights.safetensors"]
    _keep_apart(runs)
    fitted = study_data.fitted_defaults(chosen)
    results = [path for path in preparation.outputs if path.name == "table.parquet"] + [
        path for path in written if path.name in EVALUATION_FILES
    ]
    # before 04, which shows what was spent on the same patients
    audit = [_audit(chosen, lists, baselines[0], inputs)] if lists["audit"] else []
    fairness = _analysis(
        "04",
        {"RUNS": runs} | fitted["04"] | chosen["04"],
        [preparation, *training, *audit],
        results,
        [Path("tables/04_summary.csv"), Path("figures/04_privacy_utility.png"), REPLICATES],
    )
    comparison = _analysis(
        "05",
        {"RUNS": runs} | fitted["05"] | chosen["05"],
        [preparation, *training, *audit, fairness],
        [*results, REPLICATES],
        [Path("tables/05_accuracy_parity_difference.csv")],
    )
    return [preparation, *training, *audit, fairness, comparison]


def _audit(chosen: dict, lists: dict, first: Step, inputs: list[Path]) -> Step:
    """Return the step that attacks models of the study's recipes; it trains its own."""
    notebook = notebook_files.notebooks()["06"]
    budgets = {"EPSILONS": [float(epsilon) for epsilon in lists["EPSILONS"]]}
    shared = {name: chosen["03"][name] for name in ("DELTA", "BUDGET") if name in chosen["03"]}
    return Step(
        notebook.stem,
        notebook,
        budgets | shared | study_data.fitted_defaults(chosen)["06"] | chosen["06"],
        needs=[first.id],
        inputs=list(inputs),
        outputs=[Path("tables/06_attacks.csv"), Path("figures/06_attack_roc.png")],
        marks=["06_"],
    )


def _preparation(parameters: dict, data_sets: list[str]) -> Step:
    """Return the step that builds the cohorts."""
    notebook = notebook_files.notebooks()["01"]
    return Step(
        notebook.stem,
        notebook,
        parameters,
        inputs=[study_data.manifest_path(name) for name in data_sets]
        + study_data.source_files(data_sets, parameters.get("DATA_ROOTS", {})),
        outputs=[
            Path("cohort", manifests.name_of(name), file)
            for name in data_sets
            for file in COHORT_FILES
        ],
        marks=["01_"],
    )


def _baselines(chosen: dict, seeds: list[int], preparation: Step, data: list[Path]) -> list[Step]:
    """Return a step a seed without privacy; the first writes the start and the network too."""
    cohort, pretrain = manifests.name_of(chosen["02"]["COHORT"]), chosen["02"]["PRETRAIN"]
    weights = [Path(pretrain)] if pretrain.endswith(paths.WEIGHT_FILES) else []
    steps = []
    for seed in seeds:
        runs = [run_records.run_name(cohort, "baseline", seed)]
        if not steps and pretrain != "none":
            runs.insert(0, run_records.run_name(cohort, "zero_shot"))
        step = _training_step("02", f"seed{seed}", chosen, {"SEED": seed}, runs)
        step.needs = [steps[0].id if steps else preparation.id]
        step.inputs = data + weights + (_start_files(steps[0]) if steps else [])
        if not steps:
            step.outputs.append(network_file(cohort))
        steps.append(step)
    return steps


def _cohort(chosen: dict) -> str:
    """Return the name of the private cohort."""
    return manifests.name_of(chosen["03"]["COHORT"])


def _ablation_steps(chosen: dict, lists: dict, first: Step, inputs: list[Path]) -> list[Step]:
    """Return a step for the recipe of the largest budget without noise and clipping, and one
    without noise.
    """
    budget = {"EPSILON": float(max(lists["EPSILONS"])), "SEED": lists["SEEDS"][0]}
    return [
        _step_of_recipe(chosen, budget | {"WITHOUT": without}, first, inputs)
        for without in (["noise", "clipping"], ["noise"])
    ]


def _private_steps(chosen: dict, lists: dict, first: Step, inputs: list[Path]) -> list[Step]:
    """Return a step for each budget or comparison and each seed; a comparison that sets SEED has
    that one only.
    """
    budgets = [{"EPSILON": float(epsilon)} for epsilon in lists["EPSILONS"]]
    return [
        _step_of_recipe(chosen, {"SEED": seed} | settings, first, inputs)
        for settings, seed in itertools.product(budgets + lists["comparisons"], lists["SEEDS"])
        if "SEED" not in settings or seed == lists["SEEDS"][0]
    ]


def _step_of_recipe(chosen: dict, settings: dict, first: Step, inputs: list[Path]) -> Step:
    """Return a step of notebook 03, private or without what WITHOUT names."""
    values = chosen["03"] | settings
    _check_recipe(chosen, values)
    arm, seed = same_recipe.arm_of(values.get("WITHOUT", [])), settings["SEED"]
    run = run_records.run_name(
        _cohort(chosen),
        arm,
        seed,
        values["EPSILON"],
        unit=values.get("PRIVACY_UNIT", "patient"),
        recipe=values.get("RECIPE", "default"),
    )
    suffix = ("" if arm == "dp" else f"{arm}-") + f"eps{values['EPSILON']:g}-seed{seed}"
    suffix += f"-{settings['RECIPE']}" if "RECIPE" in settings else ""
    step = _training_step("03", suffix, chosen, settings, [run])
    step.needs, step.inputs = [first.id], list(inputs)
    return step


def _check_recipe(chosen: dict, values: dict) -> None:
    """Refuse what notebook 03 would refuse after hours of notebook 02, as far as it is known now.

    Raises:
        InputError: settings that the network does not have, halves of volumes or beside whole
            films, the head alone where its input is not standardised, or settings by hand of what
            is not trained.
    """
    cohort, pretrain = chosen["03"]["COHORT"], chosen["02"]["PRETRAIN"]
    network, width, of_all = (
        study_data.value(chosen, "02", name) for name in ("NETWORK", "WIDTH", "HEAD")
    )
    head = values.get("HEAD") or of_all
    for read in {head, of_all}:
        network_settings.check_network(network, width, read, _size(chosen["01"]))
    if "halves" in (head, of_all) and manifests.read(cohort).volume:
        errors.refuse("HEAD = 'levels' for volumes", "'halves'", "Set it in the profile.")
    if of_all == "halves" != head and pretrain != "none":
        errors.refuse(
            "HEAD = 'halves', as the public model of notebook 02 has it",
            repr(head),
            "A model of halves of films does not read whole ones: leave HEAD out.",
        )
    names = ("TRAINED", *recipe_rule.OF_ALL_WEIGHTS, *recipe_rule.OF_HEAD)
    by_hand = {name: values.get(name) for name in names}
    is_standardised = recipe_rule.is_standardised(pretrain, head, of_all, network)
    recipe_rule.head_alone_fits(by_hand["TRAINED"], head, is_standardised)
    start = recipe_rule.start_of(pretrain, cohort, head, of_all, network)
    if by_hand["TRAINED"] or start == "unknown":  # the number of patients has no say then
        recipe_rule.settle(values["EPSILON"], 1, start, **by_hand)


def _size(preparation: dict) -> tuple[int, ...]:
    """Return the size of a study's images or volumes."""
    manifest = manifests.read(preparation["COHORT"])
    if manifest.volume:
        return tuple(preparation.get("VOLUME_SHAPE") or manifest.volume.shape)
    return (preparation.get("IMAGE_PX") or manifest.image.px,) * 2


def network_file(cohort: str) -> Path:
    """Return where notebook 02 records the network and its start, for notebook 03."""
    return Path("runs", f"{cohort}-network", "network.json")


def _start_files(first: Step) -> list[Path]:
    """Return the weights common to all runs, which the first baseline's step writes."""
    return [
        path
        for path in first.outputs
        if path.name == "weights.safetensors" and path.parts[1].endswith("-zero_shot")
    ]


def _training_step(number: str, suffix: str, chosen: dict, settings: dict, runs: list[str]) -> Step:
    """Return a step that writes the named runs, and their predictions for patients elsewhere unless
    EVALUATE_ON is "none".
    """
    notebook, elsewhere = notebook_files.notebooks()[number], chosen["01"]["EVALUATE_ON"]
    others = (
        []
        if elsewhere == "none"
        else [run_records.elsewhere_name(run, manifests.name_of(elsewhere)) for run in runs]
    )
    return Step(
        f"{notebook.stem}-{suffix}",
        notebook,
        chosen[number] | settings,
        outputs=[Path("runs", run, file) for run in runs for file in RUN_FILES]
        + [Path("runs", run, file) for run in others for file in EVALUATION_FILES],
        marks=[f"{number}_{run}_" for run in runs],
    )


def _analysis(
    number: str, parameters: dict, before: list[Step], inputs: list[Path], outputs: list[Path]
) -> Step:
    """Return a step that reads the predictions of all runs."""
    notebook = notebook_files.notebooks()[number]
    needs = [step.id for step in before]
    return Step(notebook.stem, notebook, parameters, needs, inputs, outputs, [f"{number}_"])


def _keep_apart(runs: list[str]) -> None:
    """Refuse two steps that would write one run, or files that begin alike.

    Raises:
        InputError: one run's name is another's, or another's up to a "_".
    """
    for one, other in itertools.permutations(runs, 2):
        if other == one or other.startswith(f"{one}_"):
            errors.refuse(
                "private runs of different names",
                f"{one} and {other}",
                "Give each comparison a RECIPE of its own.",
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
