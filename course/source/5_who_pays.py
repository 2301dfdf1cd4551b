# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Lesson 5: Who pays for privacy?
#
# A private model is a little worse on average. Is it a little worse for everybody, or much worse
# for a few?
#
# **You will learn**
#
# * to read a signed contrast between two groups, and how privacy *changes* it;
# * why a largest-minus-smallest gap cannot be tested against 0;
# * to tell a gap of a group from a gap of the scanners its patients happen to be on (Simpson's
#   paradox);
# * to find the cause of a harm before blaming privacy for it;
# * why intervals must resample patients, not images.
#
# **Before you start**: lessons 1 and 2, and the results of the demo (`make demo`), whose private runs have several budgets. The
# lesson reads them from `results/`, or from the folder that `RESULTS_DIR` names. Words are explained in the
# [glossary](../../docs/glossary.md).
#
# | part | minutes |
# | --- | --- |
# | 1 Contrasts, and gaps that cannot be tested | 14 |
# | 2 Simpson's table | 12 |
# | 3 The scanner that pays | 9 |
# | 4 Images are not patients | 10 |
#
# Exercises 5.2 and 5.5 are for those who have more time; a first reader took about 70 minutes with them.
#
# **Reads** the cohorts and three runs of the demo. **Writes** nothing there: what it trains goes
# to a temporary folder.
#
# The films are *drawn* chest phantoms: no patient is in them, and we know which harms were
# planted. The private runs are made in *demo mode*, whose noise follows from a seed: they show
# what the method does and guarantee nobody anything.

# %%
import dataclasses
import os
import tempfile
from unittest import mock

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jupyterquiz import display_quiz
from scipy import stats

from helpers.analysis import (
    confidence_intervals,
    estimate_tables,
    group_contrasts,
    influence_table,
    metrics,
    strata,
    study_arms,
    study_results,
)
from helpers.data import cohorts, groups
from helpers.figures import group_figures, house_style
from helpers.training import loop, prediction, pretraining, starts

# %%
COHORT, PUBLIC = "synthetic_cxr_private", "synthetic_cxr_public"
EPSILON = 0.29  # the private run that is looked at, per patient
FINDING = "cardiomegaly"  # the one that is worked by hand
MANY_FILMS = 6  # films from which a patient has "many"
N_SHUFFLES = 200  # of the patients' ages
N_RESAMPLES = 500  # of a bootstrap
PUBLIC_PATIENTS, PUBLIC_PASSES = 300, 5  # of the small public models trained in part 3
SEED = 0  # names all random streams
plt.style.use(house_style.STYLE)

# %% [markdown]
# ## 1 Contrasts, and gaps that cannot be tested
#
# Three runs, tested on the same patients: the public model as it is (*zero-shot*), the same
# network trained on the private patients without privacy, and one trained with DP-SGD at a small
# budget.

# %%
runs = {
    "zero-shot": f"{COHORT}-zero_shot",
    "no privacy": f"{COHORT}-baseline-seed0",
    "private": f"{COHORT}-dp-eps{EPSILON:g}-seed0",
}
table, record, records, predictions = study_results.opened(COHORT, list(runs.values()), [], "")
findings = record["findings"]
films_of = table.groupby("patient_id")["image_id"].transform("size")
table["films"] = np.where(films_of >= MANY_FILMS, "many", "few")
table = groups.add_groups(table, ["sex", "age", "scanner", "admission", "films"])
test = table[table["split"] == "test"]
print(
    f"{len(test):,} test films of {test['patient_id'].nunique()} patients, {len(findings)} findings"
)

# %% [markdown]
# One long table: a row is one finding of one test film in one run, with the label, the score, and
# who the patient is.

# %%
rows = pd.concat([predictions[run].assign(arm=arm) for arm, run in runs.items()])
who = ["image_id", "sex", "group_age", "scanner", "admission", "films"]
rows = rows[rows["split"] == "test"].merge(test[who], on="image_id")
rows.sample(4, random_state=SEED)[
    ["patient_id", "sex", "scanner", "arm", "finding", "label", "score"]
]

# %% [markdown]
# ### Exercise 5.1: a contrast, and its change
#
# A **contrast** is the AUROC of a group minus that of those it is compared with: women minus men.
# Its sign says who is behind. What privacy does to it is the **change**: the contrast of the
# private arm minus that of the arm without privacy. Below 0: women lose more to privacy than men.
#
# Take means over the eight findings. `auroc` gives the AUROC of any part of `rows`.


# %%
def auroc(part: pd.DataFrame) -> float:
    """Return the AUROC of some rows of one finding."""
    return metrics.auroc(part["label"].to_numpy(), part["score"].to_numpy())


# %% tags=["gap"]
# 1. `of_finding`: the AUROC of each arm, sex and finding:
#    rows.groupby([...])[["label", "score"]].apply(auroc)
# 2. `mean_auroc`: its mean over findings, a row an arm, columns female and male.
# 3. `contrast`: a Series by arm, women minus men.
# 4. `change`: one number, the contrast of "private" minus that of "no privacy".
raise NotImplementedError("Exercise 5.1: replace this line by your code.")

# %% tags=["solution"]
of_finding = rows.groupby(["arm", "sex", "finding"])[["label", "score"]].apply(auroc)
mean_auroc = of_finding.groupby(["arm", "sex"]).mean().unstack("sex")
contrast = mean_auroc["female"] - mean_auroc["male"]
change = contrast["private"] - contrast["no privacy"]
mean_auroc.assign(contrast=contrast).round(3)

# %% [markdown]
# The helpers compute the same for every attribute, with 95 % confidence intervals over patients.
# They follow from the *influence* of each patient on each AUROC: by how much it moves if the patient counts more ([Fairness statistics](../../docs/fairness.md)).

# %%
attributes = ["sex", "age", "scanner", "admission"]
arms = study_arms.arm_table(records)
influences = group_contrasts.with_means(influence_table.of_auroc(predictions, table, attributes))
contrasts = estimate_tables.auroc_contrasts(influences, arms).merge(arms, on="run")
changed = estimate_tables.gap_changes(influences, arms, runs["no privacy"])
changes = confidence_intervals.of_changes(changed).merge(arms, on="run")
changes = changes[(changes["arm"] == "dp") & changes["estimate"].notna()]
changes.set_index("group")[["estimate", "low", "high"]].round(3)

# %%
by_helper = contrasts[contrasts["group"] == "female - male"].set_index("run")["estimate"]
for arm, run in runs.items():
    assert abs(contrast[arm] + by_helper[run]) > 1e-6, "female minus male, not the reverse"
    assert abs(contrast[arm] - by_helper[run]) < 1e-6, (
        f"{arm}: mean over findings first, then female minus male"
    )
of_sex = changes.set_index("group").loc["female - male"]
assert abs(change - of_sex["estimate"]) < 1e-6, "the private contrast minus that without privacy"
interval = f"[{of_sex['low']:+.3f}, {of_sex['high']:+.3f}]"
print(f"Exercise 5.1 is right. Privacy changes the contrast of women by {change:+.3f} {interval}.")

# %% [markdown]
# Compare your three contrasts: that of the private arm is nearly that of zero-shot. At so small a budget training hardly leaves
# the public model. The change says what training without privacy repaired and private training did not. Part 3 returns to it.
#
# Now all contrasts in both arms. Women and the old are behind in *both*: their findings were drawn
# fainter. That is unfair care, and yet no cost of privacy. The cost is the distance between the
# two points of a row.

# %%
shown = contrasts[
    contrasts["run"].isin([runs["no privacy"], runs["private"]]) & contrasts["estimate"].notna()
]
shown = shown.assign(label=shown["attribute"] + ": " + shown["group"])
ax = group_figures.plot_contrasts(
    shown, "AUROC contrast, mean over findings (95 % CI over patients)"
)
plt.show()

# %% [markdown]
# The distance itself, with its own interval. It is paired (both arms have the same patients), so
# it can be narrower than either contrast. An interval that holds 0 does not say "no change". It
# says that this test set cannot tell.

# %%
drawn = changes.assign(label=changes["attribute"] + ": " + changes["group"])
ax = group_figures.plot_contrasts(
    drawn, "change of the contrast by privacy (95 % CI over patients)"
)
plt.show()
verdicts = {row.group: "cannot tell" for row in changes.itertuples()}
verdicts |= {row.group: "loses more to privacy" for row in changes.itertuples() if row.high < 0}
verdicts |= {row.group: "loses less to privacy" for row in changes.itertuples() if row.low > 0}
pd.Series(verdicts, name="what the 95 % interval says").to_frame()

# %% [markdown]
# These are seven intervals, four of age bands, which depend on each other, and none is adjusted for there being seven: one that
# excludes 0 may do so by chance.
# So the words say what to look at next; they are no findings. Notebook 04 plans its comparisons and adjusts them (Holm).

# %%
display_quiz(
    [
        {
            "question": "A contrast is -0.04 with privacy and without. What did privacy do?",
            "type": "multiple_choice",
            "answers": [
                {
                    "answer": "It cost the group 0.04.",
                    "correct": False,
                    "feedback": "It was behind before.",
                },
                {
                    "answer": "It took from the group as much as from the others.",
                    "correct": True,
                    "feedback": "Yes. Both may have lost, but alike.",
                },
                {
                    "answer": "Nothing: the group kept its AUROC.",
                    "correct": False,
                    "feedback": "Both sides may have fallen.",
                },
            ],
        },
        {
            "question": "A change is -0.02, 95 % interval -0.06 to +0.02. What follows?",
            "type": "multiple_choice",
            "answers": [
                {
                    "answer": "Privacy does not affect the group.",
                    "correct": False,
                    "feedback": "A change of -0.06 is not excluded either.",
                },
                {
                    "answer": "Nothing yet: neither a loss of 0.06 nor no change is excluded.",
                    "correct": True,
                    "feedback": "Yes. More test patients would narrow the interval.",
                },
                {
                    "answer": "Privacy harms the group.",
                    "correct": False,
                    "feedback": "No change is not excluded either.",
                },
            ],
        },
    ]
)

# %% [markdown]
# ### Largest minus smallest
#
# Papers often report one number instead: the largest AUROC over the groups minus the smallest.
# What is that number if age does not matter at all? We can make such a world: give every patient
# the age band of another patient, drawn at random. The patient's films, labels and scores stay as
# they are.

# %%
one = rows[(rows["finding"] == FINDING) & (rows["arm"] == "no privacy")].reset_index(drop=True)
ages = one.groupby("patient_id")["group_age"].first()
ages = ages[ages != "[0, 30)"]  # a dozen patients are too few
bands = sorted(ages.unique(), key=groups.sort_key)


def auroc_of_bands(ages: pd.Series) -> pd.Series:
    """Return the AUROC of `FINDING` in each band, for these ages of the patients."""
    band = one["patient_id"].map(ages)
    return pd.Series({name: auroc(one[band == name]) for name in bands})


auroc_of_bands(ages).to_frame("AUROC").round(3)

# %% [markdown]
# ### Exercise 5.2: first predict, then run
#
# In how many of the shuffled worlds is the largest-minus-smallest gap above 0? In how many is the
# signed contrast, oldest minus youngest band, above 0? Write your two guesses down, as shares
# between 0 and 1.

# %%
stream = np.random.default_rng(SEED)
shuffled = [pd.Series(stream.permutation(ages.to_numpy()), ages.index) for _ in range(N_SHUFFLES)]
worlds = pd.DataFrame([auroc_of_bands(world) for world in shuffled])
observed = auroc_of_bands(ages)
worlds.head(3).round(3)

# %% tags=["gap"]
# 1. `gaps`: of each world (row of `worlds`) the largest minus the smallest AUROC.
# 2. `signed`: of each world the last band minus the first one (`bands[-1]`, `bands[0]`).
# 3. `share_of_gaps`, `share_of_signed`: the share of worlds in which each is above 0.
# 4. `p`: the share of worlds whose gap is at least as large as that of `observed`.
raise NotImplementedError("Exercise 5.2: replace this line by your code.")

# %% tags=["solution"]
gaps = worlds.max(axis=1) - worlds.min(axis=1)
signed = worlds[bands[-1]] - worlds[bands[0]]
share_of_gaps, share_of_signed = (gaps > 0).mean(), (signed > 0).mean()
p = (gaps >= observed.max() - observed.min()).mean()
print(f"Above 0: {share_of_gaps:.0%} of the gaps, {share_of_signed:.0%} of the signed contrasts.")

# %%
assert len(gaps) == N_SHUFFLES, "one gap a world: largest and smallest along axis=1"
assert np.allclose(signed, worlds[bands[-1]] - worlds[bands[0]]), "last band minus first band"
assert share_of_gaps == 1, "a largest value is never below a smallest one"
assert 0.3 < share_of_signed < 0.7, "last band minus first band, in every world"
of_observed = observed.max() - observed.min()
as_large = np.ptp(worlds.to_numpy(), axis=1) >= of_observed
assert abs(p - as_large.mean()) < 0.01, "the share of worlds with a gap as large as `observed` has"
print(
    f"Exercise 5.2 is right. Where age does not matter, half of the gaps exceed {gaps.median():.3f}."
)
print(f"One as large as the true one ({of_observed:.3f}) comes up in {p:.1%}.")

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(8.5, 2.8), sharey=True)
left.hist(worlds.max(axis=1) - worlds.min(axis=1), bins=25, color="0.6")
right.hist(worlds[bands[-1]] - worlds[bands[0]], bins=25, color="0.6")
left.axvline(np.ptp(observed.to_numpy()), color="C1", label="the true ages")
right.axvline(observed[bands[-1]] - observed[bands[0]], color="C1")
for ax, name in (
    (left, "largest minus smallest AUROC"),
    (right, f"AUROC, {bands[-1]} minus {bands[0]}"),
):
    ax.axvline(0, color="black", linestyle="--", linewidth=1)
    ax.set(xlabel=name, xlim=(-0.12, 0.12))
left.set(ylabel="shuffled worlds")
left.legend()
plt.show()

# %% [markdown]
# Left of the dashed line there is nothing to see: the gap is above 0 *by construction*, the more
# so the smaller the groups. So "its interval excludes 0" is no finding, and a private arm with
# noisier scores has a larger gap even if nobody pays more. A signed contrast named before looking
# has its middle at 0 when there is nothing, and can be tested. (A gap can be tested, but against
# shuffled worlds, as `p` does, not against 0. Shuffling makes findings equally common at all ages, too, which they are not: so
# this p is rough.) The contrast of this one finding need not have the sign of the mean over eight.

# %% [markdown]
# ## 2 Simpson's table
#
# Some patients have many films. Do *they* pay for privacy? Below the AUROC of one finding by
# number of films, in each arm.

# %%
of_finding_1 = rows[rows["finding"] == FINDING]
pooled = of_finding_1.groupby(["arm", "films"])[["label", "score"]].apply(auroc).unstack("films")
pooled.assign(contrast=pooled["many"] - pooled["few"]).loc[list(runs)].round(3)

# %% [markdown]
# Patients with many films are hardly behind without privacy, and far behind with it. (So they are by zero-shot: remember that
# until part 3.) A headline:
# "privacy harms the patients who are X-rayed most". Before printing it, look at who these patients
# are.

# %%
patients = test.drop_duplicates("patient_id")
pd.crosstab(patients["films"], patients["scanner"], margins=True)

# %% [markdown]
# ### Exercise 5.3: the table, by hand
#
# The patients with many films are on scanner B far more often. Build Simpson's table for the
# *private* arm:
#
# * **pooled**: all films together, as above;
# * **within each scanner**: only films of that scanner are compared with each other;
# * **at a common case mix**: the mean of the two contrasts within scanners, weighted by each
#   scanner's share of *all* test patients. Both groups then have the same mix of scanners.

# %% tags=["gap"]
# Start from `private = of_finding_1[of_finding_1["arm"] == "private"]`.
# 1. `within`: AUROC by scanner (rows) and films (columns few, many), and a column `contrast`,
#    many minus few.
# 2. `share`: share of the patients on each scanner (count patients, not films; they add up to 1).
# 3. `common`: the mean of `within["contrast"]`, weighted by `share`.
raise NotImplementedError("Exercise 5.3: replace this line by your code.")

# %% tags=["solution"]
private = of_finding_1[of_finding_1["arm"] == "private"]
within = private.groupby(["scanner", "films"])[["label", "score"]].apply(auroc).unstack("films")
within["contrast"] = within["many"] - within["few"]
share = private.groupby("scanner")["patient_id"].nunique() / private["patient_id"].nunique()
common = (within["contrast"] * share).sum()
within.assign(share=share).round(3)

# %% [markdown]
# The helpers' table (`strata.contrasts`) has intervals beside it.

# %%
of_films = influence_table.of_auroc(predictions, table, ["films"])
simpson = strata.contrasts(predictions, table, of_films, "scanner", arms, given=(FINDING,))
simpson = simpson[(simpson["run"] == runs["private"]) & (simpson["what"] == "contrast")].set_index(
    "stratum"
)
simpson[["group", "estimate", "low", "high", "share"]].round(3)

# %%
for name in ("A", "B"):
    assert abs(within.loc[name, "contrast"] - simpson.loc[name, "estimate"]) < 1e-6, (
        f"scanner {name}: many minus few"
    )
    assert abs(share[name] - simpson.loc[name, "share"]) < 1e-6, "shares of patients, not of films"
assert abs(common - simpson.loc["common case mix", "estimate"]) < 1e-6, (
    "the sum of contrast x share"
)
of_pool = simpson.loc["pooled", "estimate"]
print(f"Exercise 5.3 is right. Pooled {of_pool:+.3f}, at a common case mix {common:+.3f}.")

# %% [markdown]
# The headline does not hold. Within scanner A, which has nearly all patients, the two groups are close,
# the interval holds 0, and nothing was planted there; within B the interval is wide. The pooled gap is made by the *mix*: in the
# group "many" a large part of the films are of scanner B, where the private model fails. The pool
# also compares films across scanners (one of A with one of B), which no stratum does. So the
# pooled contrast is no mean of the two strata, and can lie outside both, even with another sign.
#
# The same for every finding. Rows where the pooled contrast lies outside both strata are marked.
# Cells of scanner B are small, and no interval is shown: read this as a description.

# %%
both = rows[rows["arm"] == "private"]
pooled = both.groupby(["finding", "films"])[["label", "score"]].apply(auroc).unstack("films")
cells = (
    both.groupby(["finding", "scanner", "films"])[["label", "score"]].apply(auroc).unstack("films")
)
inside = (cells["many"] - cells["few"]).unstack("scanner")
every = pd.DataFrame(
    {"pooled": pooled["many"] - pooled["few"], "within A": inside["A"], "within B": inside["B"]}
)
weights = patients["scanner"].value_counts(normalize=True)
every["common case mix"] = inside["A"] * weights["A"] + inside["B"] * weights["B"]
is_outside = (every["pooled"] < inside.min(axis=1)) | (every["pooled"] > inside.max(axis=1))
every.round(3).assign(outside=is_outside.map({True: "outside both", False: ""}))

# %%
display_quiz(
    [
        {
            "question": "A gap is -0.10 pooled, 0 within each scanner. What to look at?",
            "type": "multiple_choice",
            "answers": [
                {
                    "answer": "How to train more on this group.",
                    "correct": False,
                    "feedback": "Within a scanner it is not behind.",
                },
                {
                    "answer": "The scanner that the group is on more often.",
                    "correct": True,
                    "feedback": "Yes: the gap is one of scanners.",
                },
                {
                    "answer": "Nothing: nobody is harmed.",
                    "correct": False,
                    "feedback": "Everybody on the bad scanner is.",
                },
            ],
        }
    ]
)

# %% [markdown]
# ## 3 The scanner that pays
#
# So it is scanner B. Mean AUROC by scanner in all three arms (over the findings that have enough
# patients on both).

# %%
levels = confidence_intervals.of_levels(group_contrasts.only_means(influences)).merge(
    arms, on="run"
)
levels = levels[(levels["attribute"] == "scanner") & levels["group"].isin(["A", "B"])]
ax = group_figures.plot_by_group(
    levels.assign(label="scanner " + levels["group"]), "mean AUROC (95 % CI over patients)"
)
ax.axvline(0.5, color="0.5", linestyle="--", zorder=0)
plt.show()

# %% [markdown]
# Without privacy scanner B is fine. With privacy its AUROC is about that of tossing a coin, the
# dashed line. It looks as if privacy had done that. But look at zero-shot: the public model,
# which no private patient has touched, fails there as well.
#
# A look at the films costs less than any training. Here are the first test films of each scanner
# with the finding.

# %%
cohort = cohorts.read(COHORT)
with_finding = cohort.table[(cohort.table["split"] == "test") & (cohort.table[FINDING] == 1)]
fig, axes = plt.subplots(1, 6, figsize=(8.5, 1.7))
for place, scanner in enumerate("AB"):
    of_scanner = with_finding[with_finding["scanner"] == scanner].drop_duplicates("patient_id")
    for ax, row in zip(axes[3 * place :], of_scanner.index[:3]):
        ax.imshow(cohort.images[row], cmap="gray", vmin=0, vmax=255)
        ax.set_title(f"scanner {scanner}", fontsize=9)
        ax.axis("off")
plt.show()

# %% [markdown]
# Scanner B's films are inverted: bright and dark have changed places, as happens when files of one
# photometric convention are read as the other (MONOCHROME1 as MONOCHROME2). No public film is
# inverted, so the public model ranks B the wrong way round. Training without privacy corrects that
# with the few private patients of scanner B. A private run has few, clipped and noisy steps, which
# leave too little of what they teach. (Scanner B's films are also less noisy than A's: once a model knows their grey values, they
# are the easier ones.)
#
# If this is right, the harm must vanish when the *public* model has seen inverted films. That can
# be tested. We train a small public model twice: on public films as they are, and with half of
# them shown inverted, drawn anew in each pass (notebook 02 calls it `PRETRAIN_INVERTED`). Nothing
# else differs. Both are tested on the private test patients, whose training films they never saw.
#
# **First predict**: what will the second model's AUROC be on scanner B? And on scanner A, of whose
# kind it now sees half as many?

# %%
public = cohorts.read(PUBLIC)
train_ids = public.table.loc[public.table["split"] == "train", "patient_id"].unique()[
    :PUBLIC_PATIENTS
]
split = np.where(public.table["patient_id"].isin(train_ids), "train", "left out")
few_public = dataclasses.replace(public, table=public.table.assign(split=split))
recipe = {"channels": 1, "width": 8, "epochs": PUBLIC_PASSES, "learning_rate": 5e-3}
recipe |= {"batch_size": 32, "augmentation": "shift"}


# %%
def predictions_of_public_model(share: float) -> pd.DataFrame:
    """Return predictions of private test films by a public model that saw this share inverted."""
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, RESULTS_DIR=folder):
        name = f"inverted-{share:g}"
        session = pretraining.pretraining_session(
            name, few_public, inverted=share, fingerprint=name, **recipe
        )
        session.is_quiet = True  # no progress bar
        for _ in loop.epochs_left(session):
            loop.train_one_epoch(session)
    known = [public.canonical[finding] for finding in public.findings]
    weights = session.model.state_dict()
    model, _ = starts.starting_model(cohort, weights, known, channels=1, width=8, seed=0)
    return prediction.predictions_of(model, cohort, 1, ("test",))


# %%
of_share = {
    "none inverted": predictions_of_public_model(0.0),
    "half inverted": predictions_of_public_model(0.5),
}
by_scanner = influence_table.of_auroc(of_share, table, ["scanner"])
by_scanner = group_contrasts.only_means(group_contrasts.with_means(by_scanner))
trained = confidence_intervals.of_levels(by_scanner)
trained = trained[trained["group"].isin(["A", "B"])].rename(columns={"run": "public films"})
trained.set_index(["public films", "group"])[["estimate", "low", "high"]].round(3)

# %%
shown = trained.assign(label="scanner " + trained["group"], arm_label=trained["public films"])
ax = group_figures.plot_by_group(
    shown, "mean AUROC of the small public model (95 % CI over patients)"
)
ax.axvline(0.5, color="0.5", linestyle="--", zorder=0)
plt.show()
estimate = trained.set_index(["group", "public films"])["estimate"].unstack()
for name, row in estimate.iterrows():
    print(f"Scanner {name}: {row['none inverted']:.3f} before, {row['half inverted']:.3f} after.")

# %% [markdown]
# The harm of scanner B is gone before any private training: no budget was spent, no private
# training patient was read. It was a gap of the *public* model that privacy preserved. At the
# notebooks' sizes the gap shrinks, too, also in a private head: that of a public model that saw a
# quarter of its films inverted
# ([Fairness statistics](../../docs/fairness.md), "A gap of the public model"). These small models are worse than the demo's,
# and each is one run with one seed: the intervals are over test patients only.
#
# The lesson for real data: look at the zero-shot arm by group first. It is free, and what is
# already there is no price of privacy.

# %% [markdown]
# ## 4 Images are not patients
#
# All intervals so far resample *patients*. Many papers resample *images*. Two films of one patient
# are alike, and so are the labels: the second one tells less than a film of somebody else.
# Resampling images pretends it tells as much.
#
# We take the difference in prevalence of the finding between women and men.

# %%
frame = test.reset_index(drop=True)
label, is_female = frame[FINDING].to_numpy(float), (frame["sex"] == "female").to_numpy()
of_patient = frame.groupby("patient_id").indices
films_of_patient = list(of_patient.values())  # of each patient the positions of the films


def difference(films: np.ndarray) -> float:
    """Return the prevalence among women minus that among men, of films at these positions."""
    return label[films][is_female[films]].mean() - label[films][~is_female[films]].mean()


def resample_images(stream: np.random.Generator) -> np.ndarray:
    """Return as many films as there are, drawn with replacement."""
    return stream.integers(len(label), size=len(label))


print(f"Prevalence among women minus men: {difference(np.arange(len(label))):+.3f}")

# %% [markdown]
# ### Exercise 5.4: resample patients
#
# Write the function that draws *patients* with replacement, as many as there are. Whoever is drawn
# brings all own films; whoever is drawn twice brings them twice. `films_of_patient` has the
# positions of each patient's films.


# %% tags=["gap"]
# Write a function `resample_patients(stream)` that returns an array of positions, as
# `resample_images` does, but of the films of resampled patients: draw numbers of patients, look up
# their films, join them (`np.concatenate`).
raise NotImplementedError("Exercise 5.4: replace this line by your code.")


# %% tags=["solution"]
def resample_patients(stream: np.random.Generator) -> np.ndarray:
    """Return the films of as many patients as there are, drawn with replacement."""
    drawn = stream.integers(len(films_of_patient), size=len(films_of_patient))
    return np.concatenate([films_of_patient[patient] for patient in drawn])


# %%
stream = np.random.default_rng(SEED)
drawn = resample_patients(stream)
times = np.bincount(drawn, minlength=len(label))
assert all(len(set(times[films])) == 1 for films in films_of_patient), (
    "all films of a patient come equally often"
)
assert sum(times[films[0]] for films in films_of_patient) == len(films_of_patient), (
    "as many patients as there are"
)
assert not np.array_equal(drawn, resample_patients(stream)), (
    "use `stream`: each resample is another one"
)
assert times.max() > 1, "with replacement: some patients come twice"
often = np.mean(
    [np.bincount(resample_patients(stream), minlength=len(label)) for _ in range(200)], 0
)
by_films = [
    np.mean([often[f[0]] for f in films_of_patient if is_many(len(f))])
    for is_many in (lambda n: n < MANY_FILMS, lambda n: n >= MANY_FILMS)
]
assert np.allclose(by_films, 1, atol=0.1), (
    "each patient has the same chance, however many films there are"
)

# %%
values = {
    unit: np.array([difference(draw(stream)) for _ in range(N_RESAMPLES)])
    for unit, draw in {"images": resample_images, "patients": resample_patients}.items()
}
wider = values["patients"].std() / values["images"].std()
assert wider > 1.2, "patients give the wider interval"
print(f"Exercise 5.4 is right. Resampling patients widens the interval {wider:.2f} times.")
limits = {unit: np.quantile(value, [0.025, 0.975]) for unit, value in values.items()}
pd.DataFrame(limits, index=["low", "high"]).T.round(3)

# %% [markdown]
# Which of the two is right? One study cannot tell: nobody knows the truth there. So we draw
# cohorts from a model whose truth we know. Each has 100 patients with `k` films. A film shows the
# finding if a normal number, half of whose variance is the patient's and half the film's, lies
# above a cut. The cut is such that 30 % of all films show it. A 95 % interval is right if it
# covers these 30 % in 95 of 100 cohorts.

# %%
N_COHORTS, N_PATIENTS, PREVALENCE = 400, 100, 0.3
ALIKE = 0.5  # correlation of the normal numbers of two films of a patient
FILMS = [1, 2, 4, 8]  # a patient


def draw_labels(k: int, n_patients: int, stream: np.random.Generator) -> np.ndarray:
    """Return (patients, k) labels, 1 or 0."""
    lasting = stream.standard_normal((n_patients, 1))
    passing = stream.standard_normal((n_patients, k))
    liability = np.sqrt(ALIKE) * lasting + np.sqrt(1 - ALIKE) * passing
    return (liability > stats.norm.isf(PREVALENCE)).astype(float)


def means_by_image(labels: np.ndarray, stream: np.random.Generator) -> np.ndarray:
    """Return the prevalence in N_RESAMPLES resamples of images, each a number of positives."""
    return stream.binomial(labels.size, labels.mean(), size=N_RESAMPLES) / labels.size


# %% [markdown]
# ### Exercise 5.5: which interval covers?
#
# Write the other function. Drawing patients with replacement means that patient `i` comes a random
# number of times; the numbers of all patients are one multinomial draw (`stream.multinomial`,
# every patient with the same chance). A resample's prevalence is the sum of all labels, each
# patient's as often as the patient was drawn, divided by the number of films.
#
# **First predict**: in what share of cohorts does the interval over *images* cover the truth, with
# 8 films a patient?


# %% tags=["gap"]
# Write a function `means_by_patient(labels, stream)`: `labels` is (patients, k); it returns the
# prevalence in N_RESAMPLES resamples of patients, as `means_by_image` does for images.
raise NotImplementedError("Exercise 5.5: replace this line by your code.")


# %% tags=["solution"]
def means_by_patient(labels: np.ndarray, stream: np.random.Generator) -> np.ndarray:
    """Return the prevalence in N_RESAMPLES resamples of patients; labels is (patients, k)."""
    n_patients = len(labels)
    times = stream.multinomial(n_patients, np.full(n_patients, 1 / n_patients), size=N_RESAMPLES)
    return times @ labels.sum(axis=1) / labels.size


# %%
three = np.array([[1.0, 1.0], [0.0, 0.0], [0.0, 1.0]])  # three patients, two films each
tried = means_by_patient(three, np.random.default_rng(SEED))
assert np.shape(tried) == (N_RESAMPLES,), "one number for each of N_RESAMPLES resamples"
assert np.allclose(tried * 6, np.round(tried * 6)), "a number of positive films, divided by 6 films"
assert abs(np.mean(tried) - 0.5) < 0.05, (
    "all films of a patient count: here half of all are positive"
)
assert 0.2 < np.std(tried) < 0.28, "as many patients as there are, with replacement"


# %%
def coverage(means: callable, k: int) -> float:
    """Return the share of drawn cohorts whose 95 % interval holds the true prevalence."""
    stream, n_covered = np.random.default_rng([SEED, k]), 0
    for _ in range(N_COHORTS):
        low, high = np.quantile(means(draw_labels(k, N_PATIENTS, stream), stream), [0.025, 0.975])
        n_covered += low <= PREVALENCE <= high
    return n_covered / N_COHORTS


covered = pd.DataFrame(
    {
        "images": {k: coverage(means_by_image, k) for k in FILMS},
        "patients": {k: coverage(means_by_patient, k) for k in FILMS},
    }
)
assert covered["patients"].min() > 0.88, (
    "multinomial numbers times the sum of labels of each patient, over all films"
)
assert covered["patients"].max() < 0.985, (
    "too wide: draw as many patients as there are, and keep all films"
)
assert covered.loc[8, "images"] < 0.85, "leave `means_by_image` as it is"
images, by_patient = covered.loc[8, "images"], covered.loc[8, "patients"]
print(
    f"Exercise 5.5 is right. With 8 films a patient 95 % intervals over images cover in {images:.0%}"
)
print(f"of {N_COHORTS} cohorts, over patients in {by_patient:.0%}.")

# %% [markdown]
# The loss can be computed without any simulation. With a correlation rho between two labels of a
# patient, the variance of the prevalence is larger than that of as many independent films by the
# *design effect*, 1 + (k - 1) rho. An interval over images is too narrow by its square root.

# %%
pairs = draw_labels(2, 200_000, np.random.default_rng(SEED))
rho = np.corrcoef(pairs.T)[0, 1]
theory = {
    k: 2 * stats.norm.cdf(stats.norm.isf(0.025) / np.sqrt(1 + (k - 1) * rho)) - 1 for k in FILMS
}
ax = covered.plot(style=["o-", "s-"], figsize=(6, 3))
ax.plot(FILMS, [theory[k] for k in FILMS], ":", color="0.4", label="images, by the design effect")
ax.axhline(0.95, color="black", linestyle="--", linewidth=1)
ax.set(
    xlabel="films of a patient",
    ylabel="share of cohorts whose\n95 % interval covers",
    ylim=(0.5, 1),
)
ax.legend(title="resampled", fontsize=8)
plt.show()
print(f"Correlation of two labels of a patient: {rho:.2f} (of the numbers behind them {ALIKE})")

# %%
display_quiz(
    [
        {
            "question": "Correlation 0.5 of two labels of a patient, 5 films of each: how large is the design effect?",
            "type": "numeric",
            "answers": [
                {
                    "type": "value",
                    "value": 3,
                    "correct": True,
                    "feedback": "Yes: 1 + (5 - 1) x 0.5. Intervals are too narrow by its root.",
                },
                {"type": "default", "feedback": "1 + (k - 1) x rho, with k = 5 and rho = 0.5."},
            ],
        },
        {
            "question": "When do intervals over images and over patients agree?",
            "type": "multiple_choice",
            "answers": [
                {
                    "answer": "With many patients.",
                    "correct": False,
                    "feedback": "The design effect is the same.",
                },
                {
                    "answer": "With many images a patient.",
                    "correct": False,
                    "feedback": "Then they disagree most.",
                },
                {
                    "answer": "With one image a patient, or if a patient's images are not alike.",
                    "correct": True,
                    "feedback": "Yes: k = 1 or rho = 0.",
                },
            ],
        },
    ]
)

# %% [markdown]
# ## What to take home
#
# * The cost of privacy for a group is the *change* of a signed contrast, with an interval over
#   patients. A largest-minus-smallest gap is above 0 whatever happens.
# * Compare within strata before you blame a group, and look at the zero-shot arm before you blame
#   privacy: what is there already was not paid for privacy.
# * Resample the unit that was sampled. Intervals over images lie where patients have several.
#
# ## Read on
#
# * [Fairness statistics](../../docs/fairness.md): estimands, intervals, strata, verdicts, and how often planted harms are
#   found; notebook 04 does it all.
# * Tayebi Arasteh et al. (2024), *Private, fair and accurate* (arXiv:2302.01622), results on
#   fairness: the question of this lesson on 193,311 real radiographs.
# * Obuchowski (1997), Biometrics 53:567-578: the variance of AUROC with several images a patient;
#   Simpson (1951), Journal of the Royal Statistical Society B 13:238-241.
