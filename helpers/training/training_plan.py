"""A training as two files, from which other processes make the same arm and session.

In: a run's network and arm as they start, the settings of its session. Out: `devices.json` and
`devices.safetensors` in the run's folder, and the training again. Raises `InputError` for files
that are not there, and a cohort that was built anew since.

What identifies a private run follows from these files as it does in the notebook: it has no say in
how many processes train.
"""

import dataclasses
from pathlib import Path

import torch
from torch import nn

from helpers.core import errors, files, fingerprints, paths
from helpers.data import cohorts
from helpers.privacy import promise
from helpers.training import (
    named_networks,
    networks,
    ordinary_step,
    private_step,
    training_set,
    weight_files,
)

_NAMES = ("devices.json", "devices.safetensors")
_MADE_BY = "Run the notebook with DEVICES above 1 first: it writes the plan of its training."
_ORDINARY = (
    "batch_size",
    "seed",
    "precision",
    "augmentation",
    "physical_batch_size",
    "inverted",
)

Arm = ordinary_step.BaselineArm | private_step.PrivateArm


@dataclasses.dataclass
class Training:
    """A training as it starts.

    Attributes:
        run: its name.
        model: the network, on this process's device.
        arm: not yet used.
        settings: of its session, see `training_session.Session`.
    """

    run: str
    model: nn.Module
    arm: Arm
    settings: dict


def path_of(run: str) -> Path:
    """Return where the plan of a run lies."""
    return paths.run_dir(run) / _NAMES[0]


def remove(run: str) -> None:
    """Remove the plan of a run, if there is one."""
    for name in _NAMES:
        (paths.run_dir(run) / name).unlink(missing_ok=True)


def write(training: Training) -> Path:
    """Write a training as it starts; return the path of its plan.

    Args:
        training: of a cohort on disk.
    """
    arm, model, data = training.arm, training.model, training.arm.data
    max_images_per_patient, seed = data.chosen_by
    plan = {
        "run": training.run,
        "data": {
            "cohort": data.cohort.name,
            "data_hash": data.cohort.record["data_hash"],
            "unit": data.unit,
            "max_images_per_patient": max_images_per_patient,
            "seed": seed,
        },
        "network": {
            "name": model.name,
            "channels": arm.channels,
            "width": model.n_channels // 8 if model.name == "resnet9" else None,
            "head": model.reading.head,
            "trained": [name for name, value in model.named_parameters() if value.requires_grad],
        },
        "session": training.settings,
    }
    if isinstance(arm, private_step.PrivateArm):
        plan["private"] = _of_private(arm)
    else:
        plan["ordinary"] = {name: getattr(arm, name) for name in _ORDINARY}
    path = path_of(training.run)
    weight_files.save_weights(model, path.with_name(_NAMES[1]), [])
    files.write_json(path, plan)
    return path


def _of_private(arm: private_step.PrivateArm) -> dict:
    """Return what a private arm was made with, but its data and network."""
    weights = arm.pos_weight
    return {
        "budget": dataclasses.asdict(arm.budget),
        "batching": dataclasses.asdict(arm.batching),
        "head": arm.head_steps and dataclasses.asdict(arm.head_steps),
        "mode": arm.promise.mode,
        "seed": arm.seed,
        "lineage": arm.lineage,
        "weighting": [arm.promise.pos_weight, None if weights is None else weights.tolist()],
        "precision": arm.precision,
    }


def fingerprint(path: Path) -> str:
    """Return a hash of a plan, its weights and this package's code: what a step's sums depend on.

    Args:
        path: of the plan.
    """
    sources = sorted((paths.repository_root() / "helpers").glob("**/*.py"))
    plan_and_weights = [path.with_name(name) for name in _NAMES]
    return fingerprints.fingerprint(
        [fingerprints.file_hash(file) for file in [*plan_and_weights, *sources]]
    )


def read(path: Path) -> Training:
    """Return the training of a plan: network and arm as they start.

    Raises:
        InputError: a file is not there, or the cohort was built anew since.
    """
    if path.is_dir():
        errors.refuse(f"a plan, {_NAMES[0]}", f"the folder {path}", "Name the file in it.")
    plan = files.read_json(path, _MADE_BY)
    if missing := {"run", "data", "network", "session"} - plan.keys():
        errors.refuse(f"a plan in {path}", f"one without {errors.examples(missing)}", _MADE_BY)
    data, network = plan["data"], plan["network"]
    cohort = cohorts.read(data["cohort"])
    if cohort.record["data_hash"] != data["data_hash"]:
        errors.refuse(
            f"the cohort {cohort.name} with which {path} was written",
            "another one, built since",
            "Run the notebook again: it writes the plan anew.",
        )
    model = named_networks.network(
        network["name"],
        [cohort.canonical[finding] for finding in cohort.findings],
        cohort.images.shape[1:],
        channels=network["channels"],
        width=network["width"],
        head=network["head"],
        lateral=cohort.lateral,
    )
    model.load_state_dict(weight_files.load_weights(path.with_name(_NAMES[1]))[0])
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in network["trained"])
    images = training_set.TrainingSet.of(
        cohort, data["unit"], data["max_images_per_patient"], data["seed"]
    )
    return Training(
        plan["run"], model, _arm_of(plan, images, model, network["channels"]), plan["session"]
    )


def _arm_of(plan: dict, images: training_set.TrainingSet, model: nn.Module, channels: int) -> Arm:
    """Return the arm of a plan, not yet used."""
    if "ordinary" in plan:
        return ordinary_step.BaselineArm(images, model, channels=channels, **plan["ordinary"])
    declared = plan["private"]
    weighted_by, weights = declared["weighting"]
    if weights is not None:
        weights = torch.tensor(weights, device=networks.device())
    return private_step.PrivateArm(
        images,
        model,
        promise.PrivacyBudget(**declared["budget"]),
        promise.Batching(**declared["batching"]),
        mode=declared["mode"],
        seed=declared["seed"],
        lineage=declared["lineage"],
        weighting=(weighted_by, weights),
        channels=channels,
        precision=declared["precision"],
        head=declared["head"] and promise.HeadSteps(**declared["head"]),
    )
