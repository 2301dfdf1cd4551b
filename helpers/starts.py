"""Where every arm starts: a model of public data, and what public data know of the private findings.

In: a public cohort, a file of weights, or nothing. Out: the network from which all arms start; class weights.
Refuses: weights that are absent, do not fit, or have seen the private patients.
"""

import dataclasses
from pathlib import Path

import torch
from torch import nn

from helpers import arms, checks, cohorts, files, lineage, manifests, models, networks, register, runs
from helpers import training, training_sets

PUBLIC_SEED = 0  # the public model is the same for every seed of the study


def pretraining_session(run: str, public: cohorts.Cohort | None, *, channels: int, width: int, epochs: int,
                        learning_rate: float, batch_size: int, fingerprint: str, precision: str = "float32",
                        augmentation: str = "strong", head: str = "sided") -> training.Session | None:
    """Begin supervised pretraining on a public cohort.

    Where no public label has a side, the public head is pooled, whatever `head`: it has nothing to learn of sides.

    Returns:
        A session; None without a public cohort, or where `run` has been finished with this fingerprint (a second
        seed of the study finds the public model of the first).
    """
    if public is None or holds_public_model(run, fingerprint):
        return None
    has_sides = any(":" in name for name in public.canonical.values())
    model = networks.resnet9(len(public.findings), channels, width, PUBLIC_SEED, head if has_sides else "pooled",
                             public.images.ndim - 1).to(training.device())
    data = training_sets.TrainingSet.of(public, "image")
    arm = arms.BaselineArm(data, model, channels=channels, batch_size=batch_size, seed=PUBLIC_SEED, precision=precision,
                           augmentation=augmentation)
    return training.Session(run, model, arm, epochs=epochs, learning_rate=learning_rate, fingerprint=fingerprint)


def starting_model(cohort: cohorts.Cohort, weights: dict[str, torch.Tensor] | None, known: list[str], *, channels: int,
                   width: int, seed: int, head: str = "sided", trained: str = "all") -> tuple[nn.Module, list[str]]:
    """Return the network from which every arm starts, and the canonical findings whose outputs start at zero.

    Args:
        cohort: whose findings are the outputs.
        weights: public weights, or None for random ones from the seed.
        known: canonical names of the outputs in `weights`.
        channels, width, seed, head: see `networks.resnet9`.
        trained: the part that is not frozen, see `networks.train_only`.
    """
    canonical = [cohort.canonical[finding] for finding in cohort.findings]
    model = networks.resnet9(len(canonical), channels, width, seed, head, cohort.images.ndim - 1).to(training.device())
    networks.train_only(model, trained)
    return model, models.start_from(model, weights, known, canonical) if weights else sorted(set(canonical))


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


def weights_to_start_from(pretrain: str, cohort: cohorts.Cohort, pretraining: training.Session | None = None,
                          public: cohorts.Cohort | None = None) -> Start:
    """Return the weights from which a cohort's arms start.

    Args:
        pretrain: "none" stands for random ones; a safetensors file is read; else the cohort's zero-shot run, which holds
            what was trained on the public cohort.
        cohort: the private one.
        pretraining: a session just finished on the cohort `public`; its weights are returned.
        public: the cohort of `pretraining`.

    Raises:
        InputError: the file or the run is not there, was made with another PRETRAIN, or saw the private patients.
    """
    if pretrain == "none":
        return Start(None, [], [])
    if pretraining:
        trained_on = lineage.of_training(public.name, register.Register().enrol(*public.training_patients()))
        start = Start(pretraining.model.state_dict(), [public.canonical[finding] for finding in public.findings], [trained_on])
    elif pretrain.endswith(".safetensors"):
        start = Start(*models.load_weights(Path(pretrain)), models.lineage_of(Path(pretrain)))
    else:
        zero_shot = runs.run_name(cohort.name, "zero_shot")
        made_with, path = runs.read_record(zero_shot)["parameters"]["PRETRAIN"], runs.run_dir(zero_shot) / "weights.safetensors"
        if made_with != pretrain:
            checks.refuse(f"the public model made with PRETRAIN = {pretrain!r}", repr(made_with), "Run notebook 02 again.")
        if (runs.cohort_dir(manifests.name_of(pretrain)) / "record.json").exists():  # a register set later does not know it yet
            register.Register().enrol(*cohorts.read(manifests.name_of(pretrain)).training_patients())
        start = Start(*models.load_weights(path), models.lineage_of(path))
    start.lineage = lineage.checked(start.lineage, cohort.name, register.Register().enrol(*cohort.training_patients()))
    return start


def refuse_shared(public: cohorts.Cohort, private: cohorts.Cohort) -> None:
    """Accept a public cohort that has no film of the private one, before anything is trained on it.

    Raises:
        InputError: see `lineage.checked`.
    """
    own = register.Register()
    trained_on = lineage.of_training(public.name, own.enrol(*public.training_patients()))
    lineage.checked([trained_on], private.name, own.enrol(*private.training_patients()))


def fingerprint_of_public_model(zero_shot: str, parameters: dict, made_from: dict, cohort: str) -> str:
    """Return the fingerprint of the public model; once a private run has started from it, code no longer decides.

    To train it again, with the same data and parameters, could change its weights by a rounding error; a private run
    started from the old ones would then have another identity.

    Args:
        zero_shot: the run that holds it.
        parameters, made_from: all that decides it but code.
        cohort: name of the private cohort.
    """
    if runs.private_runs_of(runs.results_dir(), cohort) and (runs.run_dir(zero_shot) / "record.json").exists():
        record = runs.read_record(zero_shot)
        if (record["parameters"], record.get("made_from")) == (files.plain(parameters), files.plain(made_from)):
            return record["fingerprint"]
    return files.fingerprint(parameters | made_from, ["starts"])


def holds_public_model(zero_shot: str, fingerprint: str) -> bool:
    """Return whether a zero-shot run has the weights of this fingerprint, be its predictions damaged or of other patients."""
    folder = runs.run_dir(zero_shot)
    record = runs.read_record(zero_shot) if (folder / "record.json").exists() else {}
    return record.get("fingerprint") == fingerprint and record.get("weights_hash") == models.hash_of_file(folder / "weights.safetensors")


def positive_weight(source: str, data: training_sets.TrainingSet, cohort: cohorts.Cohort,
                    pretrain: str) -> tuple[str, torch.Tensor | None]:
    """Return where the weight of positive labels comes from, as the ledger has it, and the weight (n_findings,).

    Args:
        source: "none"; "public": counted on the training labels of the public cohort, by canonical name; "private":
            counted on private labels as the paper did, which voids the guarantee.
        data: the private training images.
        cohort: the private cohort.
        pretrain: the public cohort's manifest, see `weights_to_start_from`.

    Raises:
        InputError: "public" without a public cohort.
    """
    if checks.one_of("POS_WEIGHT", source, ("none", "public", "private")) == "none":
        return "none", None
    if source == "private":
        return "private labels", arms.pos_weight(data.labels).to(training.device())
    if pretrain == "none" or pretrain.endswith(".safetensors"):
        checks.refuse("PRETRAIN to name public data for POS_WEIGHT = 'public'", repr(pretrain), "Set POS_WEIGHT to none.")
    public = cohorts.read(manifests.name_of(pretrain))
    counted = arms.pos_weight(training_sets.TrainingSet.of(public, "image").labels)
    known = [public.canonical[finding] for finding in public.findings]
    places = [models.alike(cohort.canonical[finding], known) for finding in cohort.findings]
    return "public", torch.tensor([float(counted[each].mean()) if each else 1.0 for each in places], device=training.device())
