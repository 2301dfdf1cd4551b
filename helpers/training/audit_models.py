"""Models of an audit: many of one recipe, each trained on a random half of the same patients, and
what each says of all of them.

In: a cohort, the study's network and start, how many patients and models. Out: members and
log-likelihoods, as `membership_attacks.Signals` takes them. Raises `InputError` for too few
patients, and for patients whose budget such models would spend unasked.

The models are trained by the loop, arms and recipe of notebooks 02 and 03, on fewer patients. Each
finished one is kept, so that an interrupted audit goes on from there.
"""

import dataclasses
import functools
import math
import shutil
from pathlib import Path

import numpy as np

from helpers.core import errors, fingerprints, paths, progress, random_streams
from helpers.data import cohorts
from helpers.privacy import privacy_ledger, promise
from helpers.training import (
    audit_canaries,
    audit_signals,
    learning_rate,
    loop,
    network_settings,
    networks,
    ordinary_step,
    private_step,
    recipe_rule,
    starts,
    training_session,
    training_set,
    weight_files,
)

CODE = ["training.audit_models"]  # decides signals, besides data and parameters
FEWEST_PATIENTS, FEWEST_MODELS = 40, 6
N_POPULATION = 200  # patients in no model, to whom RMIA compares
BATCH_SIZE = 64  # images, of models without privacy


def draw_members(n_models: int, n_patients: int, seed: int) -> np.ndarray:
    """Return (n_models, n_patients) bool: who is in the training set of which model.

    Guarantees: a fair coin of its own for each patient and pair; models 2k and 2k + 1 have
    complementary members, so that each patient is in exactly half of the models.

    Args:
        n_models: even, >= 6.
        n_patients: >= 40.
        seed: names the random stream.

    Raises:
        InputError: an odd number, or too few.
    """
    errors.number("N_MODELS", n_models, FEWEST_MODELS, 1e5, integer=True)
    errors.number("the number of audited patients", n_patients, FEWEST_PATIENTS, 1e8, integer=True)
    if n_models % 2:
        errors.refuse("an even N_MODELS", n_models, "Each patient is in one model of every pair.")
    members = np.zeros((n_models, n_patients), dtype=bool)
    for pair in range(n_models // 2):
        coins = random_streams.random_stream(seed, "audit members", pair).random(n_patients)
        members[2 * pair], members[2 * pair + 1] = coins < 0.5, coins >= 0.5
    return members


@dataclasses.dataclass(frozen=True)
class AuditedArm:
    """A way of training that is audited.

    Attributes:
        label: "zero-shot", "non-private", or "epsilon 1.06".
        epsilon: of a private one; None for the others.
        epochs, learning_rate: of a non-private one; 0 for none. Private ones have the rule's.
    """

    label: str
    epsilon: float | None = None
    epochs: int = 0
    learning_rate: float = 0.0


def arms(epsilons: list[float], epochs: int, learning_rate: float) -> list[AuditedArm]:
    """Return the arms of an audit: the public model, ordinary training, DP at each budget.

    Args:
        epsilons: budgets, per patient.
        epochs, learning_rate: of ordinary training.
    """
    return [
        AuditedArm("zero-shot"),
        AuditedArm("non-private", epochs=epochs, learning_rate=learning_rate),
        *(AuditedArm(f"epsilon {epsilon:g}", float(epsilon)) for epsilon in sorted(epsilons)),
    ]


@dataclasses.dataclass(eq=False)
class Audit:
    """An audit of a cohort: who is in which model, and how models are trained.

    Attributes:
        cohort: whose training patients are audited.
        settings, start: of the study, from notebook 02.
        delta: of private arms.
        patients: audited ones, in the order of all arrays.
        others: patients in no model, from `valid` and `test`.
        members: see `draw_members`.
        seed: names the random streams.
        start_is: what is known of the start, see `recipe_rule.start_of`.
    """

    cohort: cohorts.Cohort
    settings: network_settings.NetworkSettings
    start: starts.Start
    delta: float
    patients: np.ndarray
    others: np.ndarray
    members: np.ndarray
    seed: int
    start_is: str

    @classmethod
    def planned(
        cls,
        cohort: cohorts.Cohort,
        settings: network_settings.NetworkSettings,
        start: starts.Start,
        *,
        n_patients: int,
        n_models: int,
        delta: float,
        seed: int,
        is_spent: bool = False,
    ) -> "Audit":
        """Return an audit; nothing is trained yet.

        Args:
            cohort, settings, start, delta, seed: see `Audit`.
            n_patients: of the training split, drawn at random among those with a known label; 0 or
                more than there are: all.
            n_models: of each arm.
            is_spent: whether the budget of real patients may be spent on the audit's models.

        Raises:
            InputError: too few patients or models, nobody knows whose an image is, or real patients
                whose budget may not be spent.
        """
        cohorts.unit_fits(cohort.name, cohort.record, "patient")
        if cohort.record.get("access", "private") != "embedded" and not is_spent:
            errors.refuse(
                f"SPEND_ON_AUDIT = True for real patients, of whom {cohort.name} is",
                "False",
                f"Each of {n_models} models a budget is one more private run in the privacy"
                " register, and those without privacy have no bound at all: audit the recipe on a"
                " drawn cohort, or set it.",
            )
        of_split, known = cohort.table["split"], cohort.table[cohort.findings].notna().any(axis=1)
        eligible = cohort.table["patient_id"][(of_split == "train") & known].unique()
        elsewhere = cohort.table["patient_id"][(of_split != "train") & known].unique()
        stream = random_streams.random_stream(seed, "audit patients")
        chosen = np.sort(stream.permutation(eligible)[: n_patients or None].astype(str))
        others = np.sort(stream.permutation(elsewhere)[:N_POPULATION].astype(str))
        return cls(
            cohort,
            settings,
            start,
            delta,
            chosen,
            others,
            draw_members(n_models, len(chosen), seed),
            seed,
            recipe_rule.start_of(settings.pretrain, cohort.name, settings.head, settings.head),
        )

    @property
    def mode(self) -> str:
        """Return the mode of private arms: "demo" for drawn patients, else "private"."""
        is_drawn = self.cohort.record.get("access", "private") == "embedded"
        return "demo" if is_drawn else "private"

    def signals(self, arm: AuditedArm) -> dict[str, np.ndarray]:
        """Return what the models of an arm say of each patient; trains those that are not there.

        Returns:
            is_member (models, patients); log_likelihood (models, patients), of a patient's labels,
            the mean over images of the mean over known findings; population (models, others), the
            same of patients in no model.
        """
        kept = audit_signals.Kept(self._path(arm), self._fingerprint(arm))
        bar = progress.progress(len(self.members), f"models, {arm.label}")
        bar.update(kept.n_done)
        shared = None
        for number in range(kept.n_done, len(self.members)):
            if arm.label == "zero-shot":  # one model, whoever is a member
                shared = shared or self.reader.says(self.new_model()[0])
                kept.add(shared)
            else:
                members = self.cohort_of(self.patients[self.members[number]])
                with self.trained(arm, f"m{number:03d}", number, members) as model:
                    kept.add(self.reader.says(model))
            bar.update(1)
        bar.close()
        return {"is_member": self.members, **kept.arrays}

    def ledger(self, arm: AuditedArm) -> dict:
        """Return the privacy ledger that each model of a private arm has; from the plan."""
        members = self.cohort_of(self.patients[self.members[0]])
        planned, _ = self.private_arm(arm, self.seed, members)
        return privacy_ledger.ledger(
            **planned.promise.as_dict(),
            steps_done=planned.promise.total_steps,
            lineage=self.start.lineage,
        )

    def canaries_of(
        self, arm: AuditedArm, scores: np.ndarray, is_in: np.ndarray
    ) -> audit_canaries.Scores:
        """Return scores of canaries beside what the arm promises.

        Args:
            arm: non-private or private.
            scores, is_in: see `audit_canaries.Scores`.
        """
        ledger = self.ledger(arm) if arm.epsilon else {}
        promised = ledger["epsilon_spent"]["PLD"] if ledger else math.inf
        runs = privacy_ledger.runs_of(ledger) if ledger else ()
        return audit_canaries.Scores(scores, is_in, promised, runs, is_gaussian=False)

    def recipe(self, arm: AuditedArm) -> dict:
        """Return the recipe of a private arm, by the rule for half of the patients."""
        return recipe_rule.settle(arm.epsilon, self.members.shape[1] // 2, self.start_is)[0]

    def new_model(self, trained: str = "all") -> tuple[networks.ResNet9, list[str]]:
        """Return the public model from which every model starts.

        Args:
            trained: the part that is not frozen.
        """
        return starts.starting_model(
            self.cohort,
            self.start.weights,
            self.start.known,
            **self.settings.architecture,
            seed=0,
            trained=trained,
        )

    # ---- canaries

    def mislabelled(self, arm: AuditedArm) -> audit_canaries.Scores:
        """Return scores of mislabelled patients after one run of an arm.

        A random half of the audited patients are canaries: all their labels are reversed, and each
        is in the training set by the toss of a coin. The others are in it as they are. The score is
        how much likelier the reversed labels have become since the public model.

        Args:
            arm: non-private or private.
        """
        stream = random_streams.random_stream(self.seed, "audit canaries")
        n_patients = len(self.patients)
        is_canary = stream.permutation(n_patients) < n_patients // 2
        is_in = stream.random(n_patients) < 0.5
        of_canary = self.cohort.table["patient_id"].astype(str).isin(self.patients[is_canary])
        table = self.cohort.table.copy()
        for finding in self.cohort.findings:
            table.loc[of_canary, finding] = 1 - table.loc[of_canary, finding]
        reversed_labels = dataclasses.replace(self.cohort, table=table)
        members = self.cohort_of(self.patients[~is_canary | is_in], reversed_labels)
        before = self.reader.says(self.new_model()[0])["reversed_labels"]
        with self.trained(arm, "canaries", 0, members) as model:
            rise = self.reader.says(model)["reversed_labels"] - before
        return self.canaries_of(arm, rise[is_canary], is_in[is_canary])

    def dirac(self, arm: AuditedArm, n_canaries: int) -> dict[str, audit_canaries.Scores]:
        """Return scores of Dirac canaries for the recipe of a private arm, by their name; {} for a
        recipe of two parts, whose sums have noise of two sizes.

        Args:
            arm: whose recipe; {} for one without privacy.
            n_canaries: see `audit_canaries.dirac`.
        """
        recipe = self.recipe(arm) if arm.epsilon else {"TRAINED": "without privacy"}
        if recipe["TRAINED"] in ("without privacy", "all_then_head"):
            return {}
        passes, rate = recipe.get("HEAD_STEPS"), 1.0
        if recipe["TRAINED"] != "head":
            rate = recipe["EXPECTED_BATCH_SIZE"] / (len(self.patients) // 2)
            passes = recipe["EPOCHS"]
        scores = audit_canaries.dirac(arm.epsilon, self.delta, passes, rate, n_canaries, self.seed)
        return {"Dirac": scores}

    # ---- one model

    def cohort_of(
        self, patients: np.ndarray, cohort: cohorts.Cohort | None = None
    ) -> cohorts.Cohort:
        """Return a cohort with these patients, and nobody else, in its training split.

        Args:
            patients: ids.
            cohort: with other labels; None for the audit's own.
        """
        cohort = cohort or self.cohort
        is_chosen = cohort.table["patient_id"].astype(str).isin(patients)
        split = np.where(is_chosen, "train", "held out")
        return dataclasses.replace(cohort, table=cohort.table.assign(split=split))

    def trained(
        self, arm: AuditedArm, name: str, number: int, members: cohorts.Cohort
    ) -> "_Trained":
        """Return a context with a model of an arm trained; what it wrote is cleared afterwards.

        Args:
            arm: not zero-shot.
            name: of the run, after the cohort's and the arm's.
            number: of its random streams.
            members: the cohort with the model's training patients.
        """
        seed = self.seed * 100_003 + number
        step, recipe = (
            self.private_arm(arm, seed, members)
            if arm.epsilon
            else (self._ordinary_arm(seed, members), {})
        )
        session = training_session.Session(
            f"{self.cohort.name}-audit-{arm.label.replace(' ', '')}-{name}",
            getattr(step, "network", step.model),
            step,
            epochs=step.steps // step.steps_per_epoch if arm.epsilon else arm.epochs,
            learning_rate=recipe.get("LEARNING_RATE", arm.learning_rate),
            head_learning_rate=recipe.get("HEAD_LEARNING_RATE", 0.0),
            averaging=learning_rate.AVERAGING["cosine"],
            fingerprint=fingerprints.fingerprint({"arm": self._fingerprint(arm), "model": name}),
            parameters=recipe | {"AUDIT": name},
            is_quiet=True,
        )
        return _Trained(session, is_kept=bool(arm.epsilon) and self.mode == "private")

    def _ordinary_arm(self, seed: int, members: cohorts.Cohort) -> ordinary_step.BaselineArm:
        """Return the ordinary steps of a model without privacy."""
        return ordinary_step.BaselineArm(
            training_set.TrainingSet.of(members, "image"),
            self.new_model()[0],
            channels=self.settings.channels,
            batch_size=BATCH_SIZE,
            seed=seed,
            precision=self.settings.precision,
            physical_batch_size=self.settings.physical_batch_size,
        )

    def private_arm(
        self, arm: AuditedArm, seed: int, members: cohorts.Cohort
    ) -> tuple[private_step.PrivateArm, dict]:
        """Return the private steps of a model, by the rule, and the recipe.

        Args:
            arm: private.
            seed: of its random streams, in demo mode.
            members: the cohort with the model's training patients.
        """
        data, recipe = training_set.TrainingSet.of(members, "patient"), self.recipe(arm)
        if "EXPECTED_BATCH_SIZE" in recipe:  # coins may give a few patients fewer than half
            recipe["EXPECTED_BATCH_SIZE"] = min(recipe["EXPECTED_BATCH_SIZE"], len(data.units))
        model, _ = self.new_model()
        starts.train_part(model, recipe["TRAINED"], recipe_rule.part_of(recipe))
        clip_norm, batching, head = recipe_rule.batching_of(
            recipe, len(data.units), data.most_images, self.settings.physical_batch_size
        )
        return private_step.PrivateArm(
            data,
            model,
            promise.PrivacyBudget(arm.epsilon, self.delta, clip_norm),
            batching,
            mode=self.mode,
            seed=seed,
            lineage=self.start.lineage,
            channels=self.settings.channels,
            precision=self.settings.precision,
            head=head,
        ), recipe

    @functools.cached_property
    def reader(self) -> audit_signals.PatientScores:
        """Return what reads a model's scores of the audited patients and the others."""
        return audit_signals.PatientScores(self.cohort, self.patients, self.others, self.settings)

    # ---- on disk

    def _path(self, arm: AuditedArm) -> Path:
        """Return where the signals of an arm are kept."""
        name = f"{self.cohort.name}-{arm.label.replace(' ', '')}.npz"
        return paths.results_dir() / "audit" / name

    def _fingerprint(self, arm: AuditedArm) -> str:
        """Return the hash of all that decides the signals of an arm; code included."""
        return fingerprints.fingerprint(
            {
                "arm": dataclasses.asdict(arm),
                "data": self.cohort.record["data_hash"],
                "settings": dataclasses.asdict(self.settings),
                "start": weight_files.weights_hash(self.new_model()[0].state_dict()),
                "patients": list(self.patients),
                "others": list(self.others),
                "members": self.members.astype(int).tolist(),
                "delta": self.delta,
                "seed": self.seed,
            },
            CODE,
        )


class _Trained:
    """A model that is trained when the context is entered."""

    def __init__(self, session: training_session.Session, *, is_kept: bool) -> None:
        self.session, self.is_kept = session, is_kept

    def __enter__(self) -> networks.ResNet9:
        for _ in loop.epochs_left(self.session):
            loop.train_one_epoch(self.session)
        if self.is_kept:  # a private run that is asked for again is read, not trained
            self.session.save()
        self.session.model.eval()
        return self.session.model

    def __exit__(self, *error: object) -> None:
        if not self.is_kept and error[0] is None:
            shutil.rmtree(paths.run_dir(self.session.run), ignore_errors=True)
