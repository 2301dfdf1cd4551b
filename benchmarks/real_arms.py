"""Arms of the ladder on real films, and one run of an arm.

In: settings. Out: a finished run, with its predictions of `valid` and `test`, in the results
folder. Raises `InputError` as the package does: real films are trained on in private mode only.

All arms of a start have its public model, network and shifts at prediction. Noise of a private run
comes from the operating system: the seed counts its repetitions, and none of them repeats exactly.
"""

import dataclasses

import torch

from helpers.core import fingerprints, paths, run_records
from helpers.data import cohorts
from helpers.privacy import lineage, promise, register
from helpers.training import (
    finished_runs,
    image_loss,
    loop,
    networks,
    ordinary_step,
    pretraining,
    private_step,
    recipe_rule,
    starts,
    training_session,
    training_set,
    weight_files,
)

EPSILONS, SEEDS, DELTA = (7.89, 1.06), (0, 1, 2), 5e-5
WIDTH, CHANNELS, SHIFTS, MOST_IMAGES = 16, 1, 5, 4
PUBLIC = {
    "drawn": dict(epochs=4, learning_rate=2e-3, augmentation="strong", batch_size=64),
    "archive": dict(epochs=10, learning_rate=2e-3, augmentation="strong", batch_size=64),
}  # public training
KIND = {"drawn": "drawn", "archive": "alike"}  # see `recipe_rule.STARTS`
OURS = {"ours, head": "head", "ours, all": "all", "ours, both": "all_then_head"}
CEILING_EPOCHS = (3, 6, 12)  # tried with seed 0; the best on `valid` is the ceiling


@dataclasses.dataclass(frozen=True)
class Settings:
    """One run.

    Attributes:
        arm: "zero-shot", "no privacy", one of `OURS`, or "paper, our start".
        start: see `real_cohorts.STARTS`.
        epsilon: None without privacy.
        seed: of the streams; of private runs the number of the repetition.
        head: what the network reads.
        epochs: of ordinary training.
    """

    arm: str
    start: str
    epsilon: float | None = None
    seed: int = 0
    head: str = "halves"
    epochs: int = 0

    @property
    def recipe(self) -> str:
        """Return a name for the recipe, by which records tell arms apart."""
        return "default" if self.epsilon is None else self.arm

    @property
    def key(self) -> str:
        """Return a name for the run's folder."""
        text = [self.start, self.arm, self.head, self.epsilon, self.epochs, f"seed{self.seed}"]
        return "-".join(str(part).replace(", ", "_").replace(" ", "_") for part in text if part)


def public_model(
    settings: Settings, private: cohorts.Cohort, public: cohorts.Cohort
) -> starts.Start:
    """Return the public model of a start, trained if it is not there."""
    made_from = PUBLIC[settings.start] | {
        "head": settings.head,
        "data": public.record["data_hash"],
    }
    fingerprint = fingerprints.fingerprint(made_from, pretraining.CODE)
    path = paths.results_dir() / f"start-{fingerprint[:16]}.safetensors"
    if not path.exists():
        session = pretraining.pretraining_session(
            f"start-{settings.start}-{settings.head}",
            public,
            channels=CHANNELS,
            width=WIDTH,
            head=settings.head,
            fingerprint=fingerprint,
            **PUBLIC[settings.start],
        )
        for _ in loop.epochs_left(session):
            loop.train_one_epoch(session)
        starts.standardise(session.model, public, CHANNELS)
        patients = register.Register().enrol(*public.training_patients())
        known = [public.canonical[finding] for finding in public.findings]
        weight_files.save_weights(
            session.model, path, known, [lineage.of_training(public.name, patients)]
        )
    patients = register.Register().enrol(*private.training_patients())
    trained_on = lineage.checked(weight_files.lineage_of(path), private.name, patients)
    return starts.Start(*weight_files.load_weights(path), trained_on)


def run(settings: Settings, private: cohorts.Cohort, public: cohorts.Cohort) -> dict:
    """Train and predict; return what was measured of training."""
    torch.set_num_threads(1)
    start = public_model(settings, private, public)
    model, _ = starts.starting_model(
        private,
        start.weights,
        start.known,
        channels=CHANNELS,
        width=WIDTH,
        seed=settings.seed,
        head=settings.head,
    )
    session, kept, ledger = None, {}, None
    if settings.arm == "no privacy":
        session = ordinary(settings, model, private)
    elif settings.arm != "zero-shot":
        session, kept = with_privacy(settings, model, private, start)
    for _ in loop.epochs_left(session):
        loop.train_one_epoch(session)
    if settings.epsilon and session.is_read:
        ledger = run_records.read_record(settings.key)["ledger"]
    elif settings.epsilon:
        session.save()
        ledger = session.arm.ledger()
    if ledger:
        kept |= {"epsilon_spent": ledger["epsilon_spent"]["PLD"], "guarantee": ledger["guarantee"]}
    finished_runs.finish(
        model,
        private,
        CHANNELS,
        run=settings.key,
        arm={"zero-shot": "zero_shot", "no privacy": "baseline"}.get(settings.arm, "dp"),
        seed=settings.seed,
        parameters=dataclasses.asdict(settings),
        seconds=session.seconds if session else 0.0,
        fingerprint=session.fingerprint if session else settings.key,
        ledger=ledger,
        recipe=settings.recipe,
        start=start.lineage,
        private_run=session.private if session else None,
        shifts=SHIFTS,
    )
    if session:
        kept |= {"train_seconds": round(session.seconds, 1), "steps": session.steps}
    return kept


def ordinary(
    settings: Settings, model: torch.nn.Module, private: cohorts.Cohort
) -> training_session.Session:
    """Begin ordinary training from the public model."""
    arm = ordinary_step.BaselineArm(
        training_set.TrainingSet.of(private, "image"),
        model,
        channels=CHANNELS,
        batch_size=64,
        seed=settings.seed,
    )
    return training_session.Session(
        settings.key,
        model,
        arm,
        epochs=settings.epochs,
        learning_rate=2e-3,
        averaging=0.99,
        fingerprint=fingerprints.fingerprint(
            dataclasses.asdict(settings) | {"data": private.record["data_hash"]}, pretraining.CODE
        ),
    )


def with_privacy(
    settings: Settings, model: torch.nn.Module, private: cohorts.Cohort, start: starts.Start
) -> tuple[training_session.Session, dict]:
    """Begin private training; return the session, and what was chosen for it."""
    is_paper = settings.arm not in OURS
    data = training_set.TrainingSet.of(private, "image" if is_paper else "patient")
    chosen = paper_recipe() if is_paper else ours(settings, len(data.units))
    networks.train_only(model, recipe_rule.part_of(chosen))
    most = data.most_images if is_paper else MOST_IMAGES
    clip_norm, batching, second = recipe_rule.batching_of(chosen, len(data.units), most)
    weight = image_loss.pos_weight(data.labels) if is_paper else None
    arm = private_step.PrivateArm(
        data,
        model,
        promise.PrivacyBudget(settings.epsilon, DELTA, clip_norm),
        batching,
        mode="private",
        seed=settings.seed,
        lineage=start.lineage,
        channels=CHANNELS,
        weighting=("private labels", weight) if is_paper else ("none", None),
        head=second,
    )
    session = training_session.Session(
        settings.key,
        model,
        arm,
        epochs=batching.epochs,
        learning_rate=chosen.get("LEARNING_RATE", 0.0),
        head_learning_rate=chosen.get("HEAD_LEARNING_RATE", 0.0),
        schedule="constant" if is_paper else "cosine",
        averaging=0.0 if is_paper else 0.97,
        parameters=dataclasses.asdict(settings) | chosen,
        spend_again=True,  # where the rule is another one by now; the register keeps both
    )
    return session, chosen | {"unit": data.unit, "units": len(data.units)}


def ours(settings: Settings, n_units: int) -> dict:
    """Return our recipe by its rule, with the trained part of the arm."""
    return recipe_rule.settle(
        settings.epsilon, n_units, KIND[settings.start], TRAINED=OURS[settings.arm]
    )[0]


def is_by_rule(settings: Settings, row: dict) -> bool:
    """Return whether a row of the results was made by the rule as it is now."""
    if settings.arm not in OURS:
        return True
    return all(
        row.get(name, value) == value for name, value in ours(settings, row["units"]).items()
    )


def paper_recipe() -> dict:
    """Return the paper's recipe as published."""
    return {
        "TRAINED": "all",
        "EXPECTED_BATCH_SIZE": 128,
        "EPOCHS": 4,
        "LEARNING_RATE": 5e-4,
        "CLIP_NORM": 1.5,
    }
