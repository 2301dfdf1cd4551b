"""Pretraining on public data: the model from which all arms of a study start.

In: a public cohort. Out: a session. Raises `InputError` for a public cohort that shares films with
the private one.
"""

from helpers.core import files, fingerprints, paths, run_records
from helpers.data import cohorts
from helpers.privacy import lineage, register
from helpers.training import networks, ordinary_step, training_session, training_set, weight_files

CODE = [
    "training.starts",
    "training.pretraining",
    "training.loop",
    "training.finished_runs",
]  # decides weights and predictions, besides data and parameters
PUBLIC_SEED = 0  # the public model is the same for every seed of the study


def pretraining_session(
    run: str,
    public: cohorts.Cohort | None,
    *,
    channels: int,
    width: int,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    fingerprint: str,
    precision: str = "float32",
    augmentation: str = "strong",
    head: str = "sided",
) -> training_session.Session | None:
    """Begin supervised pretraining on a public cohort.

    Where no public label has a side, the public head is pooled, whatever `head`: it has nothing to
    learn of sides.

    Returns:
        A session; None without a public cohort, or where `run` has been finished with this
        fingerprint (a second seed of the study finds the public model of the first).
    """
    if public is None or holds_public_model(run, fingerprint):
        return None
    has_sides = any(":" in name for name in public.canonical.values())
    model = networks.resnet9(
        len(public.findings),
        channels,
        width,
        PUBLIC_SEED,
        head if has_sides else "pooled",
        public.images.ndim - 1,
    ).to(networks.device())
    data = training_set.TrainingSet.of(public, "image")
    arm = ordinary_step.BaselineArm(
        data,
        model,
        channels=channels,
        batch_size=batch_size,
        seed=PUBLIC_SEED,
        precision=precision,
        augmentation=augmentation,
    )
    return training_session.Session(
        run, model, arm, epochs=epochs, learning_rate=learning_rate, fingerprint=fingerprint
    )


def refuse_shared(public: cohorts.Cohort, private: cohorts.Cohort) -> None:
    """Accept a public cohort that has no film of the private one, before anything is trained on it.

    Raises:
        InputError: see `lineage.checked`.
    """
    own = register.Register()
    trained_on = lineage.of_training(public.name, own.enrol(*public.training_patients()))
    lineage.checked([trained_on], private.name, own.enrol(*private.training_patients()))


def fingerprint_of_public_model(
    zero_shot: str, parameters: dict, made_from: dict, cohort: str
) -> str:
    """Return the fingerprint of the public model; once a private run has started from it, code no
    longer decides.

    To train it again, with the same data and parameters, could change its weights by a rounding
    error; a private run started from the old ones would then have another identity.

    Args:
        zero_shot: the run that holds it.
        parameters, made_from: all that decides it but code.
        cohort: name of the private cohort.
    """
    if (
        run_records.private_runs_of(paths.results_dir(), cohort)
        and (paths.run_dir(zero_shot) / "record.json").exists()
    ):
        record = run_records.read_record(zero_shot)
        if (record["parameters"], record.get("made_from")) == (
            files.plain(parameters),
            files.plain(made_from),
        ):
            return record["fingerprint"]
    return fingerprints.fingerprint(parameters | made_from, CODE)


def holds_public_model(zero_shot: str, fingerprint: str) -> bool:
    """Return whether a zero-shot run has the weights of this fingerprint, be its predictions
    damaged or of other patients.
    """
    folder = paths.run_dir(zero_shot)
    record = run_records.read_record(zero_shot) if (folder / "record.json").exists() else {}
    return record.get("fingerprint") == fingerprint and record.get(
        "weights_hash"
    ) == weight_files.hash_of_file(folder / "weights.safetensors")
