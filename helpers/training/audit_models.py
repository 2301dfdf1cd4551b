"""Models of an audit: many of one recipe, each trained on a random half of the same patients, and
what each says of all of them.

In: a cohort, the study's network and start, how many patients and models. Out: members and
log-likelihoods, as `membership_attacks.Signals` takes them. Raises `InputError` for too few
patients, and for patients whose budget such models would spend unasked.

Models are trained by the loop and the arms of notebooks 02 and 03, on fewer patients, private ones
with the rule's recipe for so many. Each finished one is kept, so that an interrupted audit goes on
from there.
"""

import dataclasses
import functools
import shutil
from pathlib import Path

import numpy as np

from helpers.core import errors, fingerprints, locks, paths, progress, random_streams
from helpers.data import cohorts
from helpers.privacy import composition, promise, register
from helpers.training import (
    audit_canaries,
    audit_plan,
    audit_signals,
    head_reading,
    learning_rate,
    loop,
    network_settings,
    ordinary_step,
    private_step,
    recipe_rule,
    starts,
    training_session,
    training_set,
    weight_files,
)
from helpers.training.audit_plan import AuditedArm

CODE = ["training.audit_models"]  # decides signals, besides data and parameters
N_POPULATION = 200  # patients in no model, to whom RMIA compares
BATCH_SIZE = 64  # images, of models without privacy


@dataclasses.dataclass(eq=False)
class Audit:
    """An audit of a cohort: who is in which model, and how models are trained.

    Guarantees: private models of real patients are private runs like others: registered before
    their first step, within BUDGET, never trained twice. Patients whom a coin leaves out of a
    private model are zeroed out: their labels are unknown, so that their loss and gradient are 0,
    and the number of units, sampling rate and noise are the same in each model.

    Attributes:
        cohort: whose training patients are audited.
        settings, start: of the study, from notebook 02.
        delta: of private arms.
        patients: audited ones, in the order of all arrays.
        others: patients in no model, from `valid` and `test`.
        members: see `audit_plan.draw_members`.
        seed: names the random streams.
        start_is: what is known of the start, see `recipe_rule.start_of`.
        budget: BUDGET; None for no limit.
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
    budget: float | None = None

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
        budget: float | None = None,
    ) -> "Audit":
        """Return an audit; nothing is trained yet.

        Args:
            cohort, settings, start, delta, seed, budget: see `Audit`.
            n_patients: of the training split, drawn at random among those with a known label; 0 or
                more than there are: all.
            n_models: of each arm.
            is_spent: whether the budget of real patients may be spent on the audit's models.

        Raises:
            InputError: too few patients or models, nobody knows whose an image is, or real patients
                whose budget may not be spent.
        """
        cohorts.unit_fits(cohort.name, cohort.record, "patient")
        if not _is_drawn(cohort) and not is_spent:
            errors.refuse(
                f"SPEND_ON_AUDIT = True for real patients, of whom {cohort.name} is",
                "False",
                f"Each of {n_models + 1} models a budget is one more private run in the privacy"
                " register, and those without privacy have no bound at all: audit the recipe on a"
                " drawn cohort (docs/audit.md), or set it.",
            )
        eligible = audit_plan.eligible_patients(cohort.table, cohort.findings)
        known = cohort.table[cohort.findings].notna().any(axis=1)
        elsewhere = cohort.table["patient_id"][(cohort.table["split"] != "train") & known].unique()
        stream = random_streams.random_stream(seed, "audit patients")
        chosen = np.sort(stream.permutation(eligible)[: n_patients or None].astype(str))
        others = np.sort(stream.permutation(elsewhere)[:N_POPULATION].astype(str))
        start_is = recipe_rule.start_of(
            settings.pretrain, cohort.name, settings.head, settings.head, settings.network
        )
        members = audit_plan.draw_members(n_models, len(chosen), seed)
        return cls(cohort, settings, start, delta, chosen, others, members, seed, start_is, budget)

    @property
    def mode(self) -> str:
        """Return the mode of private arms: "demo" for drawn patients, else "private"."""
        return "demo" if _is_drawn(self.cohort) else "private"

    def check_budget(self, arms: list[AuditedArm]) -> str:
        """Accept an audit whose private models, with all others on the same patients, keep BUDGET;
        return in words what they spend.

        Args:
            arms: all that will be trained.

        Raises:
            InputError: they do not; nothing was trained.
        """
        if self.mode != "private":
            return "Not in private mode: nothing is spent."
        known = register.Register()
        key = known.enrol(*self._zeroed_out(self.patients).training_patients()).key
        lines, others = [], known.runs(known.sharing(key))
        for arm in arms:
            if arm.epsilon:
                promises = dict.fromkeys(self._names(arm), self.promise(arm))
                lines += audit_plan.lines_to_spend(promises, paths.results_dir() / "runs", known)
        composition.check_budget(self.budget, [*others, *lines])
        return (
            f"{len(lines)} private runs more; with the {len(others)} in the register, together"
            f" {composition.in_words([*others, *lines])}."
        )

    def signals(self, arm: AuditedArm) -> dict[str, np.ndarray]:
        """Return what the models of an arm say of each patient; trains those that are not there.

        Returns:
            is_member (models, patients); log_likelihood (models, patients), of a patient's labels,
            the mean over images of the mean over known findings; population (models, others), the
            same of patients in no model.
        """
        kept = audit_signals.Kept(self._path(arm), self._fingerprint(arm))
        bar = progress.progress(len(self.members), f"models, {arm.label}", kept.n_done)
        shared = None
        for number in range(kept.n_done, len(self.members)):
            if arm.label == "zero-shot":  # one model, whoever is a member
                shared = shared or self.reader.says(self.new_model())
                kept.add(shared)
            else:
                members = self.patients[self.members[number]]
                with self.trained(arm, number, members) as model:
                    kept.add(self.reader.says(model))
            bar.update(1)
        bar.close()
        return {"is_member": self.members, **kept.arrays}

    # ---- what is promised

    def recipe(self, arm: AuditedArm) -> audit_plan.PrivateRecipe:
        """Return the recipe of a private arm, by the rule for the audited patients."""
        return audit_plan.private_recipe(
            arm.epsilon,
            self.delta,
            len(self.patients),
            self._most_images,
            self.start_is,
            self.settings.physical_batch_size,
        )

    def promise(self, arm: AuditedArm) -> promise.Promise:
        """Return what each model of a private arm promises."""
        return self.recipe(arm).promise(len(self.patients), self._most_images, self.mode)

    def canaries_of(
        self, arm: AuditedArm, scores: np.ndarray, is_in: np.ndarray
    ) -> audit_canaries.Scores:
        """Return scores of canaries beside what the arm promises.

        Args:
            arm: non-private or private.
            scores, is_in: see `audit_canaries.Scores`.
        """
        runs = self.promise(arm).runs() if arm.epsilon else ()
        return audit_canaries.Scores.of(scores, is_in, runs, self.delta)

    @functools.cached_property
    def _most_images(self) -> int:
        """Return the images of the audited patient who has most."""
        ids = self.cohort.table["patient_id"].astype(str)
        return int(ids[ids.isin(self.patients)].value_counts().max())

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
        before = self.reader.says(self.new_model())["reversed_labels"]
        members = self.patients[~is_canary | is_in]
        with self.trained(arm, len(self.members), members, reversed_labels) as model:
            rise = self.reader.says(model)["reversed_labels"] - before
        return self.canaries_of(arm, rise[is_canary], is_in[is_canary])

    def dirac(self, arm: AuditedArm, n_canaries: int) -> dict[str, audit_canaries.Scores]:
        """Return scores of Dirac canaries for the recipe of a private arm, by their name; {} for
        one without privacy, and for a recipe of two parts, whose sums have noise of two sizes.

        Args:
            arm: whose recipe.
            n_canaries: see `audit_canaries.dirac`.
        """
        if not arm.epsilon or (recipe := self.recipe(arm)).head:
            return {}
        rate = recipe.batching.expected_batch_size / len(self.patients)
        passes = recipe.batching.epochs
        scores = audit_canaries.dirac(arm.epsilon, self.delta, passes, rate, n_canaries, self.seed)
        return {"Dirac": scores}

    # ---- one model

    def new_model(self) -> head_reading.Network:
        """Return the public model from which every model starts."""
        model, _ = starts.starting_model(
            self.cohort,
            self.start.weights,
            self.start.known,
            **self.settings.architecture,
            seed=0,
        )
        return model

    def trained(
        self,
        arm: AuditedArm,
        number: int,
        members: np.ndarray,
        cohort: cohorts.Cohort | None = None,
    ) -> "_Trained":
        """Return a context with a model of an arm trained; what it wrote is cleared afterwards, but
        for private runs of real patients.

        Args:
            arm: not zero-shot.
            number: of the model, which names its run and its random streams; one more than the
                last for that of mislabelled patients.
            members: ids of its patients.
            cohort: with other labels; None for the audit's own.
        """
        seed = self.seed * 100_003 + number
        if arm.epsilon:
            step, chosen = self._private_arm(arm, seed, self._zeroed_out(members, cohort))
        else:
            step, chosen = self._ordinary_arm(seed, self._left_out(members, cohort)), {}
        name = self._names(arm)[number]
        session = training_session.Session(
            name,
            getattr(step, "network", step.model),
            step,
            epochs=step.steps // step.steps_per_epoch if arm.epsilon else arm.epochs,
            learning_rate=chosen.get("LEARNING_RATE", arm.learning_rate),
            head_learning_rate=chosen.get("HEAD_LEARNING_RATE", 0.0),
            averaging=learning_rate.AVERAGING["cosine"],
            fingerprint=fingerprints.fingerprint({"arm": self._fingerprint(arm), "model": name}),
            parameters=chosen | {"AUDIT": name},
            budget=self.budget,
            is_quiet=True,
        )
        return _Trained(session, is_kept=bool(arm.epsilon) and self.mode == "private")

    def _zeroed_out(
        self, members: np.ndarray, cohort: cohorts.Cohort | None = None
    ) -> cohorts.Cohort:
        """Return a cohort with all audited patients in its training split; of those who are no
        members no label is known.
        """
        whole = self._left_out(self.patients, cohort)
        is_out = ~whole.table["patient_id"].astype(str).isin(members)
        table = whole.table.copy()
        table.loc[is_out, whole.findings] = np.nan
        return dataclasses.replace(whole, table=table)

    def _left_out(
        self, members: np.ndarray, cohort: cohorts.Cohort | None = None
    ) -> cohorts.Cohort:
        """Return a cohort with these patients, and nobody else, in its training split."""
        cohort = cohort or self.cohort
        is_chosen = cohort.table["patient_id"].astype(str).isin(members)
        split = np.where(is_chosen, "train", "held out")
        return dataclasses.replace(cohort, table=cohort.table.assign(split=split))

    def _ordinary_arm(self, seed: int, members: cohorts.Cohort) -> ordinary_step.BaselineArm:
        """Return the ordinary steps of a model without privacy."""
        return ordinary_step.BaselineArm(
            training_set.TrainingSet.of(members, "image"),
            self.new_model(),
            channels=self.settings.channels,
            batch_size=BATCH_SIZE,
            seed=seed,
            precision=self.settings.precision,
            physical_batch_size=self.settings.physical_batch_size,
        )

    def _private_arm(
        self, arm: AuditedArm, seed: int, patients: cohorts.Cohort
    ) -> tuple[private_step.PrivateArm, dict]:
        """Return the private steps of a model, by the rule, and the recipe."""
        recipe, model = self.recipe(arm), self.new_model()
        starts.train_part(model, recipe.chosen["TRAINED"], recipe_rule.part_of(recipe.chosen))
        return private_step.PrivateArm(
            training_set.TrainingSet.of(patients, "patient"),
            model,
            recipe.budget,
            recipe.batching,
            mode=self.mode,
            seed=seed,
            lineage=self.start.lineage,
            channels=self.settings.channels,
            precision=self.settings.precision,
            head=recipe.head,
        ), recipe.chosen

    @functools.cached_property
    def reader(self) -> audit_signals.PatientScores:
        """Return what reads a model's scores of the audited patients and the others."""
        return audit_signals.PatientScores(self.cohort, self.patients, self.others, self.settings)

    # ---- on disk

    def _names(self, arm: AuditedArm) -> list[str]:
        """Return the names of an arm's runs."""
        n_models, n_patients = self.members.shape
        return audit_plan.names_of_runs(
            self.cohort.name, arm, n_patients, n_models, self.seed, self.delta
        )

    def _path(self, arm: AuditedArm) -> Path:
        """Return where the signals of an arm are kept."""
        name = self._names(arm)[0].removesuffix("-m000")
        return paths.results_dir() / "audit" / f"{name}.npz"

    def _fingerprint(self, arm: AuditedArm) -> str:
        """Return the hash of all that decides the signals of an arm; code included."""
        return fingerprints.fingerprint(
            {
                "arm": dataclasses.asdict(arm),
                "data": self.cohort.record["data_hash"],
                "settings": dataclasses.asdict(self.settings),
                "start": weight_files.weights_hash(self.new_model().state_dict()),
                "patients": list(self.patients),
                "others": list(self.others),
                "members": self.members.astype(int).tolist(),
                "delta": self.delta,
                "seed": self.seed,
            },
            CODE,
        )


def _is_drawn(cohort: cohorts.Cohort) -> bool:
    """Return whether nobody's privacy is at stake: the patients of a cohort are drawn."""
    return cohort.record.get("access", "private") == "embedded"


class _Trained:
    """A model that is trained when the context is entered."""

    def __init__(self, session: training_session.Session, *, is_kept: bool) -> None:
        self.session, self.is_kept = session, is_kept

    def __enter__(self) -> head_reading.Network:
        try:
            for _ in loop.epochs_left(self.session):
                loop.train_one_epoch(self.session)
            if self.is_kept:  # a private run that is asked for again is taken up, not trained
                self.session.save()
        except BaseException:
            self._release()  # of many runs, each holds a lock
            raise
        self.session.model.eval()
        return self.session.model

    def __exit__(self, *error: object) -> None:
        if not self.is_kept and error[0] is None:
            shutil.rmtree(paths.run_dir(self.session.run), ignore_errors=True)
        self._release()

    def _release(self) -> None:
        """Let the run's lock go."""
        locks.release(paths.lock_path(self.session.run))
