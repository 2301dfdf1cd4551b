"""Where every arm starts: weights of public data or none, their network, and class weights.

In: PRETRAIN. Out: the network from which all arms start. Raises `InputError` for weights that are
absent, do not fit, or have seen the private patients.
"""

import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import nn

from helpers.core import errors, paths, run_records
from helpers.data import cohorts, manifests
from helpers.privacy import lineage, register
from helpers.training import (
    frozen_head,
    head_reading,
    image_loss,
    named_networks,
    networks,
    recipe_rule,
    start_weights,
    training_session,
    training_set,
    weight_files,
)


def starting_model(
    cohort: cohorts.Cohort,
    weights: dict[str, torch.Tensor] | None,
    known: list[str],
    *,
    channels: int,
    seed: int,
    width: int | None = None,
    network: str = "resnet9",
    head: str = "halves",
    trained: str = "all",
) -> tuple[nn.Module, list[str]]:
    """Return the network from which every arm starts, and the canonical findings whose outputs
    start at zero.

    Args:
        cohort: whose findings are the outputs.
        weights: public weights, or None for random ones from the seed.
        known: canonical names of the outputs in `weights`.
        channels, seed, width, network, head: see `named_networks.network`.
        trained: the part that is not frozen, see `networks.train_only`.
    """
    canonical = [cohort.canonical[finding] for finding in cohort.findings]
    model = named_networks.network(
        network,
        canonical,
        cohort.images.shape[1:],
        channels=channels,
        width=width,
        seed=seed,
        head=head,
        lateral=cohort.lateral,
    )
    networks.train_only(model, trained)
    return model, (
        start_weights.start_from(model, weights, known, canonical)
        if weights
        else sorted(set(canonical))
    )


@dataclasses.dataclass
class Start:
    """Where all arms of a study start.

    Attributes:
        weights: by name; None for random ones.
        known: canonical names of their outputs.
        lineage: what trained them, see `lineage`; None where nobody knows.
    """

    weights: dict[str, torch.Tensor] | None
    known: list[str]
    lineage: list[dict] | None


def weights_to_start_from(
    pretrain: str,
    cohort: cohorts.Cohort,
    pretraining: training_session.Session | None = None,
    public: cohorts.Cohort | None = None,
) -> Start:
    """Return the weights from which a cohort's arms start.

    Args:
        pretrain: "none" stands for random ones; a file of weights is read; else the cohort's
            zero-shot run, which holds what was trained on the public cohort.
        cohort: the private one.
        pretraining: a session just finished on the cohort `public`; its weights are returned.
        public: the cohort of `pretraining`.

    Raises:
        InputError: the file or the run is not there, was made with another PRETRAIN, or saw the
            private patients.
    """
    if pretrain == "none":
        return Start(None, [], [])
    if pretraining:
        trained_on = lineage.of_training(
            public.name, register.Register().enrol(*public.training_patients())
        )
        standardise(pretraining.model, public, pretraining.arm.channels)
        start = Start(
            pretraining.model.state_dict(),
            [public.canonical[finding] for finding in public.findings],
            [trained_on],
        )
    elif pretrain.endswith(paths.WEIGHT_FILES):
        start = Start(
            *weight_files.load_weights(Path(pretrain)), weight_files.lineage_of(Path(pretrain))
        )
    else:
        zero_shot = run_records.run_name(cohort.name, "zero_shot")
        made_with, path = (
            run_records.read_record(zero_shot)["parameters"]["PRETRAIN"],
            paths.run_dir(zero_shot) / "weights.safetensors",
        )
        if made_with != pretrain:
            errors.refuse(
                f"the public model made with PRETRAIN = {pretrain!r}",
                repr(made_with),
                "Run notebook 02 again.",
            )
        # a register set later does not know it yet
        if (paths.cohort_dir(manifests.name_of(pretrain)) / "record.json").exists():
            register.Register().enrol(
                *cohorts.read(manifests.name_of(pretrain)).training_patients()
            )
        start = Start(*weight_files.load_weights(path), weight_files.lineage_of(path))
    start.lineage = lineage.checked(
        start.lineage, cohort.name, register.Register().enrol(*cohort.training_patients())
    )
    return start


def standardise(model: head_reading.Network, public: cohorts.Cohort, channels: int) -> None:
    """Standardise the input of a public model's head by public training images; no logit changes.

    Not where resnet9's head reads its last map alone, as in the paper. Features differ in scale,
    while clipping and noise treat all weights of the head alike.

    Args:
        model: trained on the public cohort.
        public: the cohort; its first 2,000 training images are read.
        channels: of the model's input.
    """
    if model.scale is None:
        return
    rows = np.flatnonzero(public.table["split"] == "train")[:2000]
    features = frozen_head.features_of(model, public.images, rows, channels)
    features = (
        features.to(model.scale) / model.scale + model.centre
    ).cpu()  # as the trunk has them
    model.standardise(*(part.to(model.scale) for part in frozen_head.public_moments(features)))


def train_part(model: nn.Module, trained: str, part: str) -> None:
    """Let one part of a start be trained first, see `networks.train_only`.

    Args:
        model: as it starts.
        trained: TRAINED, by hand or by the rule.
        part: what of it is trained first, see `recipe_rule.part_of`.

    Raises:
        InputError: see `recipe_rule.head_alone_fits`.
    """
    recipe_rule.head_alone_fits(trained, model.reading.head, model.is_standardised)
    networks.train_only(model, part)


def positive_weight(
    source: str, data: training_set.TrainingSet, cohort: cohorts.Cohort, pretrain: str
) -> tuple[str, torch.Tensor | None]:
    """Return where the weight of positive labels comes from, as the ledger has it, and the weight
    (n_findings,).

    Args:
        source: "none"; "public": counted on the training labels of the public cohort, by canonical
            name; "private": counted on private labels as the paper did, which voids the guarantee.
        data: the private training images.
        cohort: the private cohort.
        pretrain: the public cohort's manifest, see `weights_to_start_from`.

    Raises:
        InputError: "public" without a public cohort.
    """
    if errors.one_of("POS_WEIGHT", source, ("none", "public", "private")) == "none":
        return "none", None
    if source == "private":
        return "private labels", image_loss.pos_weight(data.labels).to(networks.device())
    if pretrain == "none" or pretrain.endswith(paths.WEIGHT_FILES):
        errors.refuse(
            "PRETRAIN to name public data for POS_WEIGHT = 'public'",
            repr(pretrain),
            "Set POS_WEIGHT to none.",
        )
    public = cohorts.read(manifests.name_of(pretrain))
    counted = image_loss.pos_weight(training_set.TrainingSet.of(public, "image").labels)
    known = [public.canonical[finding] for finding in public.findings]
    columns = [start_weights.alike(cohort.canonical[finding], known) for finding in cohort.findings]
    return "public", torch.tensor(
        [float(counted[known_as].mean()) if known_as else 1.0 for known_as in columns],
        device=networks.device(),
    )
