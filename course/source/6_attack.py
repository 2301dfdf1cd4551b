# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Lesson 6: Was this patient among those the model was trained on?
#
# A hospital publishes a trained model. Somebody has the films of one patient, and asks the model
# whether that patient was in the training set. If the training set is "patients of the HIV
# clinic", the answer alone is harm. This is *membership inference*.
#
# **You will learn**
#
# * to attack a model by the loss of a patient, and why that naive attack looks harmless;
# * to build a stronger one (LiRA) in a few lines: compare the patient with *itself* in other
#   models;
# * what (epsilon, delta) allows any attack to reach, and how to derive it;
# * why an average over patients hides the exposed ones, and what an attack that fails does not
#   prove.
#
# **Before you start**: lessons 2 to 4, and a folder of results. If a cell below says that a file
# is not there, run `make demo` once, or notebooks 01 and 02, and restart this lesson. Words are
# explained in the [glossary](../../docs/glossary.md).
#
# | part | minutes |
# | --- | --- |
# | 1 The naive attack | 10 |
# | 2 Compare a patient with itself | 13 |
# | 3 The private model, beside its bound | 11 |
# | 4 The average, and one patient | 8 |
# | 5 An attack that fails | 3 |
#
# **Reads** the private cohort and the public model of the demo. **Writes** nothing there: the
# models it trains go to a temporary folder.
#
# All patients are *drawn*; nobody is attacked. Private models are trained in *demo mode*, whose
# noise follows from a seed: they show what the method does and guarantee nothing. On real patients
# each model of such an audit would be one more private run that spends of their budget, and the
# helpers refuse unless that is asked for (`SPEND_ON_AUDIT` of notebook 06).

# %%
import dataclasses
import os
import tempfile
from unittest import mock

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jupyterquiz import display_quiz

from helpers.analysis import attack_success, membership_attacks
from helpers.core import paths
from helpers.data import cohorts
from helpers.figures import audit_figures, house_style
from helpers.privacy import attack_bounds
from helpers.training import audit_models, audit_plan, network_settings, starts, weight_files

# %%
COHORT = "synthetic_cxr_private"
N_AUDITED = 60  # patients under attack, each in half of the models
N_MODELS = 16  # of each way of training
PASSES, LEARNING_RATE = 6, 3e-3  # of models without privacy: many passes over few patients
EPSILONS, DELTA = [1.06, 7.89], 1e-5  # of private models, per patient
MEASURES = {"AUROC": None, "TPR at 1.0% FPR": 0.01}  # of success, and their false-positive rates
SPEND_ON_AUDIT = False  # drawn patients have no budget; real ones are refused
SEED = 0  # names all random streams
plt.style.use(house_style.STYLE)

# %% [markdown]
# ## 1 The naive attack
#
# To see how well an attack works we must know who was a member. So we toss the coins ourselves:
# each of 60 patients is in a model's training set with probability one half, a new coin for each
# pair of models. The second model of a pair has exactly the others. Every patient is then in half
# of the models; how many patients a model has is chance.

# %%
cohort = cohorts.read(COHORT)
settings = network_settings.read(COHORT)
settings = dataclasses.replace(settings, score_shifts=1)  # a film is scored once, not five times
weights = paths.run_dir(f"{COHORT}-zero_shot") / "weights.safetensors"
start = starts.Start(*weight_files.load_weights(weights), weight_files.lineage_of(weights))
audit = audit_models.Audit.planned(
    cohort,
    settings,
    start,
    n_patients=N_AUDITED,
    n_models=N_MODELS,
    delta=DELTA,
    seed=SEED,
    is_spent=SPEND_ON_AUDIT,
)
audit = dataclasses.replace(audit, others=audit.others[:20])  # patients in no model, not used here
arms = {arm.label: arm for arm in audit_plan.arms(EPSILONS, PASSES, LEARNING_RATE)}
print(f"{len(audit.patients)} patients, {N_MODELS} models an arm; arms: {', '.join(arms)}")
print("Members of the first two models:", *audit.members[:2].sum(axis=1))

# %% [markdown]
# All models start from the public model of the demo. First those *without privacy*: all weights
# are trained, for many passes over some thirty patients. Of each model we keep what an attacker
# sees: the mean log-likelihood of a patient's labels, over the patient's films and findings. Its
# negative is the **loss**. Sixteen trainings take about a
# minute, and show no progress.


# %%
def signals_of(label: str) -> membership_attacks.Signals:
    """Return what the models of an arm say of each patient; what training writes is removed."""
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(os.environ, RESULTS_DIR=folder),
        mock.patch("helpers.core.progress.progress"),  # no progress bar
    ):
        return membership_attacks.Signals(**audit.signals(arms[label]))


free = signals_of("non-private")
is_member, loss = free.is_member, -free.log_likelihood  # (models, patients) each
of_members, of_others = loss[is_member].mean(), loss[~is_member].mean()
print(f"Mean loss of members {of_members:.3f}, of the others {of_others:.3f}")

# %% [markdown]
# Members have the lower loss: the models have *memorised*. The attack follows: call a patient a
# member if the loss is small.

# %%
fig, ax = plt.subplots(figsize=(6, 2.8))
bins = np.linspace(0, np.quantile(loss, 0.99), 40)
ax.hist(loss[is_member], bins, alpha=0.6, label="members")
ax.hist(loss[~is_member], bins, alpha=0.6, label="others")
ax.set(xlabel="loss of a patient in a model", ylabel="patients x models")
ax.legend()
plt.show()

# %% [markdown]
# ### Exercise 6.1: the ROC curve of a threshold
#
# For a threshold t the attack says "member" if the loss is at most t. Its **true-positive rate**
# is the share of members it calls so, its **false-positive rate** the share of others it calls so.
# Take all models together.

# %% tags=["gap"]
# 1. `thresholds`: all losses, from small to large.
# 2. `tpr`, `fpr`: for each threshold the two rates, as lists or arrays.
# 3. `auroc`: the area under tpr over fpr (`np.trapezoid(y, x)`; let both begin with 0).
raise NotImplementedError("Exercise 6.1: replace this line by your code.")

# %% tags=["solution"]
thresholds = np.sort(loss.ravel())
tpr = [(loss[is_member] <= t).mean() for t in thresholds]
fpr = [(loss[~is_member] <= t).mean() for t in thresholds]
auroc = np.trapezoid([0, *tpr], [0, *fpr])
print(f"AUROC {auroc:.3f}")

# %%
naive = attack_success.overall(
    membership_attacks.scores(free, "threshold"), is_member, SEED
).set_index("measure")
assert len(tpr) == len(fpr) == loss.size, "one value of each rate for each threshold"
assert np.all(np.diff(tpr) >= 0) and np.all(np.diff(fpr) >= 0), (
    "a larger threshold calls more patients members"
)
assert abs(auroc - naive.loc["AUROC", "estimate"]) < 1e-3, "the area under tpr (y) over fpr (x)"
low, high = naive.loc["AUROC", ["low", "high"]]
print(f"Exercise 6.1 is right. AUROC {auroc:.3f}, 95 % interval {low:.3f} to {high:.3f}.")

# %% [markdown]
# A little better than a coin. Many reports stop here and write "membership inference does not
# succeed".

# %%
display_quiz(
    [
        {
            "question": "An attack has AUROC 0.6. What does that mean?",
            "type": "multiple_choice",
            "answers": [
                {
                    "answer": "It finds 60 % of the members.",
                    "correct": False,
                    "feedback": "That depends on the threshold.",
                },
                {
                    "answer": "Of 100 pairs (a member, another) it gets 60 right.",
                    "correct": True,
                    "feedback": "Yes. It says nothing about any single patient.",
                },
                {
                    "answer": "60 % of the patients are exposed.",
                    "correct": False,
                    "feedback": "It is an average. Part 4 is about single patients.",
                },
            ],
        }
    ]
)

# %% [markdown]
# ## 2 Compare a patient with itself
#
# Why does the threshold fail? Below, each column is a patient, ordered by mean loss: a dot for
# each model that was trained with this patient, and for each that was not.

# %%
order = np.argsort(loss.mean(axis=0))
columns = np.broadcast_to(np.arange(N_AUDITED), loss.shape)
sorted_loss, sorted_member = loss[:, order], is_member[:, order]
fig, ax = plt.subplots(figsize=(8.5, 3.2))
for member, color, name in (
    (True, "C1", "models with the patient"),
    (False, "0.5", "models without"),
):
    ax.plot(
        columns[sorted_member == member],
        sorted_loss[sorted_member == member],
        ".",
        color=color,
        markersize=4,
        label=name,
    )
ax.set(xlabel="patients, by mean loss", ylabel="loss")
ax.legend()
plt.show()

# %%
inside, outside = free.with_and_without(loss)  # (pairs, patients) each
shift, between = (outside - inside).mean(), loss.mean(axis=0).std()
within = outside.std(axis=0, ddof=1).mean()
print(f"Training on a patient lowers the loss by {shift:.3f} on average.")
print(f"Patients differ from each other by {between:.3f} (SD of their mean losses).")
print(f"One patient's loss differs between models without the patient by {within:.3f} (SD).")

# %% [markdown]
# Patients differ much more from each other than membership changes most of them. An **easy**
# patient, a clear film without findings, has a small loss whether or not the model has seen it,
# and is called a member by nearly any threshold. A **hard** one hardly ever is. One threshold for
# everybody mostly sorts easy from hard.
#
# But within a column most orange dots lie below the grey ones. So compare a patient with *itself*:
# how unusual is this loss, among the losses that models *without* the patient give? The attacker
# can train such **reference models** on data of a similar kind. This is LiRA, the likelihood-ratio
# attack (Carlini et al. 2022); its *offline* form needs models without the patient only.
#
# With seven references a patient's own standard deviation is known badly. So it is moved towards
# that of all patients:


# %%
values = free.log_likelihood  # (models, patients), larger for members


def steadied(variance: np.ndarray, freedom: int) -> np.ndarray:
    """Return (patients,) standard deviations, moved towards that of all patients."""
    prior = membership_attacks.PRIOR_MODELS
    return np.sqrt((freedom * variance + prior * variance.mean()) / (freedom + prior))


# %% [markdown]
# ### Exercise 6.2: LiRA, offline
#
# Write the attack on one model, `target`. Its references are all other models, but for the second
# one of its pair (models 2k and 2k + 1): that one's members are exactly the target's others, and
# would give them away. Take, for each patient, only the references *without* the patient. The
# score is (value - their mean) / their steadied standard deviation.


# %% tags=["gap"]
# Write a function `lira_offline(target)` that returns (patients,) scores.
# 1. `references`: the numbers of the models with `model // 2 != target // 2`.
# 2. `without`: `values[references]`, with NaN where the patient is a member (`np.where`).
# 3. `np.nanmean` and `np.nanvar(..., ddof=1)` over models; freedom: number of references without
#    a patient (N_MODELS // 2 - 1), less 1.
raise NotImplementedError("Exercise 6.2: replace this line by your code.")


# %% tags=["solution"]
def lira_offline(target: int) -> np.ndarray:
    """Return (patients,) scores of the attack on one model."""
    references = [model for model in range(N_MODELS) if model // 2 != target // 2]
    without = np.where(is_member[references], np.nan, values[references])
    centre, variance = np.nanmean(without, axis=0), np.nanvar(without, axis=0, ddof=1)
    return (values[target] - centre) / steadied(variance, N_MODELS // 2 - 2)


# %%
by_helper = membership_attacks.scores(free, "lira_offline")
offline = attack_success.overall(by_helper, is_member, SEED).set_index("measure")["estimate"]
assert np.shape(lira_offline(0)) == (N_AUDITED,), "a score for each patient"
assert not np.isnan(lira_offline(0)).any(), "np.nanmean and np.nanvar leave NaN out"
assert np.allclose(lira_offline(5), by_helper[5]), (
    "references: without the whole pair of the target; ddof=1"
)
by_threshold = naive.loc["AUROC", "estimate"]
print(f"Exercise 6.2 is right. AUROC {offline['AUROC']:.3f}; by one threshold {by_threshold:.3f}.")

# %% [markdown]
# ### Exercise 6.3: LiRA, online
#
# The *online* attack also trains references *with* the patient. If both kinds are normal with the
# same variance, the ratio of their likelihoods rises with the distance of the value from the
# midpoint between the two means, in standard deviations. So: the centre is the mean of both means,
# the variance the mean of both variances, with twice the freedom.
#
# This puts the models in the same order as the ratio does, for one patient. It leaves out how far apart that patient's own two
# means are, so pooled over patients it is a simplification of the likelihood ratio.
#
# **First predict**: how much will the AUROC gain from that?


# %% tags=["gap"]
# Write a function `lira_online(target)` that returns (patients,) scores, after `lira_offline`.
raise NotImplementedError("Exercise 6.3: replace this line by your code.")


# %% tags=["solution"]
def lira_online(target: int) -> np.ndarray:
    """Return (patients,) scores of the attack on one model."""
    references = [model for model in range(N_MODELS) if model // 2 != target // 2]
    without = np.where(is_member[references], np.nan, values[references])
    with_patient = np.where(is_member[references], values[references], np.nan)
    centre = (np.nanmean(without, axis=0) + np.nanmean(with_patient, axis=0)) / 2
    variance = (np.nanvar(without, axis=0, ddof=1) + np.nanvar(with_patient, axis=0, ddof=1)) / 2
    return (values[target] - centre) / steadied(variance, 2 * (N_MODELS // 2 - 2))


# %%
by_helper = membership_attacks.scores(free, "lira_online")
assert np.allclose(lira_online(5), by_helper[5]), (
    "midpoint of both means, mean of both variances, twice the freedom"
)
online = attack_success.overall(by_helper, is_member, SEED).set_index("measure")["estimate"]
print(f"Exercise 6.3 is right. AUROC {online['AUROC']:.3f} online, {offline['AUROC']:.3f} offline.")

# %% [markdown]
# The three attacks on the same models. On logarithmic axes the left end shows: members found when
# hardly anybody is accused wrongly.

# %%
fig, ax = plt.subplots(figsize=(6, 3.6))
for attack, style in (("threshold", ":"), ("lira_offline", "--"), ("lira_online", "-")):
    curve = attack_success.roc(membership_attacks.scores(free, attack), is_member)
    ax.plot(
        curve["false_positive_rate"],
        curve["true_positive_rate"],
        style,
        color="C0",
        label=attack.replace("_", " "),
    )
ax.plot([1e-3, 1], [1e-3, 1], color="0.6", linewidth=1, label="by chance")
ax.set(xscale="log", yscale="log", xlim=(2e-3, 1), ylim=(2e-3, 1.05))
ax.set(
    xlabel="false-positive rate: others taken for members",
    ylabel="true-positive rate: members found",
)
ax.legend()
plt.show()

# %% [markdown]
# Same models, same patients, same films. Only the attacker has learnt something. A model's privacy
# is no property of one attack.
#
# ## 3 The private model, beside its bound
#
# Now the same patients, coins and attacks against models trained with DP-SGD, with the recipe that
# the rule gives for so few patients ([Recipe](../../docs/recipe.md)). Who is left out of a private model is
# *zeroed out*, as in the definition of DP, so that the number of patients gives nobody away.
#
# **First predict** the AUROC of LiRA online at epsilon 1.06 and at 7.89.

# %%
signals = {"non-private": free}
for label in arms:
    if label not in ("zero-shot", "non-private"):
        signals[label] = signals_of(label)
of_attack = {}
for label, of_arm in signals.items():
    scores = membership_attacks.scores(of_arm, "lira_online")
    measured = attack_success.overall(scores, of_arm.is_member, SEED).set_index("measure")
    of_attack[label] = measured.loc[list(MEASURES)]
success = pd.concat(of_attack, names=["arm_label"])
success.round(3)

# %% [markdown]
# ### Exercise 6.4: what does (epsilon, delta) allow?
#
# DP says: for two training sets that differ in one patient, and *any* set of outcomes S,
#
# P(S | with the patient) <= e^epsilon P(S | without) + delta, and the same with "with" and
# "without" exchanged.
#
# Choose S = "the attack says member". Then P(S | with) is the true-positive rate and P(S |
# without) the false-positive rate, whatever the attack does. (Means over patients keep the same
# bound, as it is linear.) Derive two bounds on the true-positive rate: one from the first sentence
# with this S, one from the exchanged sentence with S = "the attack says *no* member". The smaller
# one holds.

# %% tags=["gap"]
# Write a function `most_found(epsilon, delta, fpr)`: the largest true-positive rate that DP allows
# at a false-positive rate, never above 1.
raise NotImplementedError("Exercise 6.4: replace this line by your code.")

# %% [markdown] tags=["solution"]
# From the first: TPR <= e^epsilon FPR + delta. From the second, with S = "no member": 1 - FPR <=
# e^epsilon (1 - TPR) + delta, so that TPR <= 1 - e^-epsilon (1 - FPR - delta).


# %% tags=["solution"]
def most_found(epsilon: float, delta: float, fpr: float) -> float:
    """Return the largest true-positive rate that (epsilon, delta)-DP allows."""
    first = np.exp(epsilon) * fpr + delta
    second = 1 - np.exp(-epsilon) * (1 - fpr - delta)
    return min(first, second, 1.0)


# %%
assert abs(most_found(0, 0, 0.3) - 0.3) < 1e-12, "epsilon 0, delta 0: nothing but guessing is left"
assert abs(most_found(1, 0, 0.01) - 0.02718) < 1e-4, "few false alarms: e^epsilon FPR + delta"
assert abs(most_found(1, 0, 0.5) - (1 - 0.5 / np.e)) < 1e-9, (
    "many false alarms: the exchanged sentence is the smaller bound"
)
assert abs(most_found(1, 0.05, 0.01) - (0.01 * np.e + 0.05)) < 1e-9, "delta is added"
assert abs(most_found(1, 0.05, 0.5) - (1 - 0.45 / np.e)) < 1e-9, (
    "delta belongs to the exchanged sentence, too"
)
allowed = {
    label: most_found(arms[label].epsilon, DELTA, 0.01) for label in signals if arms[label].epsilon
}
print("Exercise 6.4 is right. Of members at 1 % false alarms DP allows to find at most:")
print("; ".join(f"{label}: {value:.1%}" for label, value in allowed.items()))

# %% [markdown]
# One pair (epsilon, delta) is a weak bound at a large epsilon: it allows nearly everything. But a
# run of DP-SGD keeps *many* pairs at once: a larger delta for each smaller epsilon. The helpers
# take the smallest bound over the whole curve.

# %%
runs = {label: audit.promise(arms[label]).runs() for label in signals if arms[label].epsilon}
bounds = attack_bounds.bounds_of_measures(runs, MEASURES)
beside = success.reset_index().merge(bounds, "left", on=["arm_label", "measure"])
beside.set_index(["arm_label", "measure"]).round(3)

# %%
curves = {
    label: attack_success.roc(membership_attacks.scores(of_arm, "lira_online"), of_arm.is_member)
    for label, of_arm in signals.items()
}
curves = pd.concat(curves, names=["arm_label"]).reset_index("arm_label")
of_bounds = {label: attack_bounds.roc_bound(run) for label, run in runs.items()}
audit_figures.plot_roc(curves, pd.concat(of_bounds, names=["arm_label"]).reset_index("arm_label"))
plt.show()

# %% [markdown]
# The dashed lines hold for *every* attack, also those nobody has thought of. There is none for the
# non-private models. An estimate above its line is no breach unless its whole 95 % interval is: at
# 1 % false alarms it rests on a handful of wrong accusations. How far the attack stays below its
# bound is no margin to be spent: a better attack may close it.

# %%
above = beside.dropna(subset="bound")
broken = above[above["low"] > above["bound"]]
over = above[(above["estimate"] > above["bound"]) & (above["low"] <= above["bound"])]
print(f"Estimates above the bound: {len(over) + len(broken)} of {len(above)}.")
print(f"Whole intervals above it: {len(broken)}.")

# %%
display_quiz(
    [
        {
            "question": "Epsilon 2, delta 0, 1 % false alarms: how many % of members at most?",
            "type": "numeric",
            "answers": [
                {
                    "type": "range",
                    "range": [7.3, 7.5],
                    "correct": True,
                    "feedback": "Yes: e^2 is about 7.4.",
                },
                {
                    "type": "default",
                    "feedback": "e^epsilon times the false-positive rate, in per cent.",
                },
            ],
        },
        {
            "question": "In demo mode, what does the bound in the table promise?",
            "type": "multiple_choice",
            "answers": [
                {
                    "answer": "What it says.",
                    "correct": False,
                    "feedback": "Who knows the seed can subtract the noise.",
                },
                {
                    "answer": "Nothing. With secret noise these steps would.",
                    "correct": True,
                    "feedback": "Yes: that is private mode.",
                },
            ],
        },
    ]
)

# %% [markdown]
# ## 4 The average, and one patient
#
# A patient does not ask how the average patient fares. Against *one* patient the attack has to
# tell models with the patient from models without: eight of each here.
#
# ### Exercise 6.5: the AUROC against each patient
#
# For each patient, the share of pairs (a model with, a model without) in which the model with the
# patient gives the larger value. A patient with 0.9 or more we call *exposed*. **First predict**: how
# many of the 60 patients are, without privacy?

# %%
with_patient, without_patient = free.with_and_without(free.log_likelihood)
print(with_patient.shape, "models with, and as many without; patients")

# %% tags=["gap"]
# 1. `against`: (patients,) the share of the 8 x 8 pairs with with_patient > without_patient
#    (`with_patient[:, None]` and `without_patient[None]` give all pairs).
# 2. `share_exposed`: the share of patients with 0.9 or more.
raise NotImplementedError("Exercise 6.5: replace this line by your code.")

# %% tags=["solution"]
against = (with_patient[:, None] > without_patient[None]).mean(axis=(0, 1))
share_exposed = (against >= 0.9).mean()
print(f"Mean {against.mean():.3f}, largest {against.max():.3f}")

# %%
by_helper = attack_success.placements(with_patient, without_patient)[0].mean(axis=0)
assert np.shape(against) == (N_AUDITED,), "a value for each patient"
assert np.allclose(against, by_helper, atol=0.01), "the mean over both axes of models"
assert abs(share_exposed - (by_helper >= 0.9).mean()) < 0.02, (
    "the share of patients with 0.9 or more"
)
by_threshold = naive.loc["AUROC", "estimate"]
n_exposed = round(share_exposed * N_AUDITED)
print(f"Exercise 6.5 is right. {n_exposed} of {N_AUDITED} patients are exposed.")
print(f"The naive attack on the same models had AUROC {by_threshold:.2f}.")

# %% [markdown]
# With eight models of each kind some patients look exposed by chance alone: the dotted line. The
# other lines are the share of patients with at least so large an AUROC against them.

# %%
of_each = {
    label: attack_success.placements(*of_arm.with_and_without(of_arm.log_likelihood))[0].mean(
        axis=0
    )
    for label, of_arm in signals.items()
}
survival = {label: attack_success.survival(aurocs) for label, aurocs in of_each.items()}
by_chance = attack_success.survival_by_chance(N_MODELS // 2, SEED)
audit_figures.plot_survival(
    pd.concat(survival, names=["arm_label"]).reset_index("arm_label"), by_chance
)
plt.show()

# %%
exposed = attack_success.exposed(of_each, by_chance)
exposed["most by DP"] = pd.Series(
    {label: attack_bounds.auroc_bound(run) for label, run in runs.items()}
)
exposed.round(3)

# %% [markdown]
# *Most by DP* bounds each patient's *true* AUROC. The largest of 60 estimates, each from eight
# models of a kind, can lie above it, and so can their mean, by chance. The mean is not the AUROC of
# part 3, for which values of *different* patients are compared, too.
#
# Who is exposed? With 60 patients this is a description, no test (notebook 06 tests groups, with
# intervals).

# %%
films = cohort.table[cohort.table["patient_id"].isin(audit.patients)]
who = films.groupby("patient_id").agg(
    films=("image_id", "size"), age=("age_years", "first"), scanner=("scanner", "first")
)
who["findings a film"] = films[cohort.findings].sum(axis=1).groupby(films["patient_id"]).mean()
who = who.loc[audit.patients].assign(
    exposed=np.where(of_each["non-private"] >= 0.9, "exposed", "others")
)
who["scanner B"] = who.pop("scanner") == "B"
who.groupby("exposed").mean().assign(patients=who["exposed"].value_counts()).round(2)

# %% [markdown]
# Compare the findings a film. A patient without any looks like many others, and little has to be
# memorised. Rare patients with several findings have to be remembered by a model that fits them, and
# so have those whose films are unlike the public ones: look at scanner B.
#
# ## 5 An attack that fails
#
# The same sixteen models without privacy, audited by three attackers. The first one would have
# passed them.

# %%
audits = {}
for attack in ("threshold", "lira_offline", "lira_online"):
    scores = membership_attacks.scores(free, attack)
    audits[attack] = attack_success.overall(scores, is_member, SEED).set_index("measure")[
        "estimate"
    ]
pd.DataFrame(audits).loc[list(MEASURES)].T.round(3)

# %% [markdown]
# And if an audit exposes *nobody*? Of n patients drawn at random none was exposed: then up to 1 -
# 0.05^(1/n) of *all* patients may still be (a 95 % limit), and that is about this attack only.

# %%
sizes = [N_AUDITED, 600, 6000]
limits = [1 - 0.05 ** (1 / n) for n in sizes]
pd.DataFrame({"none exposed of": sizes, "of all at most": [f"{limit:.2%}" for limit in limits]})

# %%
display_quiz(
    [
        {
            "question": "The best attack tried on a model without DP has AUROC 0.51. What follows?",
            "type": "multiple_choice",
            "answers": [
                {
                    "answer": "The model is private.",
                    "correct": False,
                    "feedback": "So it seemed before part 2.",
                },
                {
                    "answer": "What was tried fails on average; nothing bounds the next.",
                    "correct": True,
                    "feedback": "Yes, and single patients may be exposed.",
                },
                {
                    "answer": "Its epsilon is close to 0.",
                    "correct": False,
                    "feedback": "Attacks bound epsilon from below only.",
                },
            ],
        },
        {
            "question": "What can an attack prove about a run that promises epsilon 1?",
            "type": "multiple_choice",
            "answers": [
                {
                    "answer": "That it is broken, by success beyond the bound.",
                    "correct": True,
                    "feedback": "Yes, if it is more than chance. Audits look for that.",
                },
                {
                    "answer": "That it is kept, by failing.",
                    "correct": False,
                    "feedback": "It may have been a weak attack.",
                },
            ],
        },
    ]
)

# %% [markdown]
# ## What to take home
#
# * One threshold sorts easy patients from hard ones. Compared with themselves in other models,
#   patients of the same models are found.
# * DP bounds every attack, on every patient: TPR <= e^epsilon FPR + delta, and less by the whole
#   curve. Without DP there is no bound.
# * Report single patients beside the average. An attack that fails proves nothing; one that
#   succeeds beyond the bound proves a fault.
#
# ## Read on
#
# * [What an attacker finds](../../docs/audit.md) and notebook 06: more attacks, groups, canaries and a lower bound on epsilon.
# * Yeom et al. (2018), *Privacy risk in machine learning* (the threshold); Carlini et al. (2022),
#   *Membership inference attacks from first principles*, sections on LiRA (the attack, and why to
#   look at few false positives).
# * Dong, Roth and Su (2022), *Gaussian differential privacy*, section 2 (DP as a bound on tests);
#   Knolle et al. (2026), on single patients whom averages hide.
