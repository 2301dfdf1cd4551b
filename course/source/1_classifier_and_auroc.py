# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Lesson 1: What does a radiograph classifier learn, and how sure is its AUROC?
#
# **You will learn** to
#
# * say what a classifier gives out for a film, and what AUROC says about it, by counting pairs of films;
# * choose a threshold on validation patients and carry it to test patients;
# * give an AUROC a 95 % confidence interval that resamples *patients*;
# * compare two models on the same patients, which tells more than two separate intervals.
#
# **Before you start**: some Python, numpy and pandas; what sensitivity and specificity are. The results of the demo (`make demo`, or
# notebooks 01 to 03): the lesson reads them from `results/`, or from the folder that the environment variable `RESULTS_DIR`
# names, and writes nothing. All films are drawn by this package: no patient is in them.
#
# | part | minutes |
# |---|---|
# | Films, labels, scores | 5 |
# | AUROC by counting pairs (exercises 1.1, 1.2) | 10 |
# | A threshold (exercise 1.3) | 8 |
# | How sure? (exercise 1.4) | 10 |
# | Two models (exercise 1.5) | 7 |

# %%
from unittest import mock

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jupyterquiz import display_quiz

from helpers.analysis import auroc_intervals, metrics
from helpers.core import run_records
from helpers.data import cohorts
from helpers.figures import cohort_figures, house_style

plt.style.use(house_style.STYLE)

# %% [markdown]
# The settings of this lesson. `FINDING` is what we look at; try another one when you have gone through.

# %%
COHORT = "synthetic_cxr_private"  # the drawn private hospital
FINDING = "pneumonic_infiltrates_right"  # a column of the cohort's table
MOST_FALSE_POSITIVES = 0.2  # false-positive rate at the threshold, exercise 1.3
N_RESAMPLES = 200  # bootstrap resamples, exercises 1.4 and 1.5
SEED = 1

# %% [markdown]
# ## Films, labels, scores
#
# A row of the cohort's table is a film. A *label* says whether a finding is present (1) or absent (0). The classifier is a
# convolutional network with one output per finding; a logistic function turns an output into a *score* between 0 and 1.

# %%
cohort = cohorts.read(COHORT)
cohort.table[["image_id", "patient_id", "split", "sex", "age_years", FINDING]].head()

# %% [markdown]
# Two models, trained before: *zero-shot*, trained on another hospital's (public) films and never on these; *baseline*,
# the same network trained further on this hospital's training patients. Each gives scores to films of the validation and test
# patients, whom neither has seen.

# %%
runs = {
    "zero-shot": run_records.run_name(COHORT, "zero_shot"),
    "baseline": run_records.run_name(COHORT, "baseline", seed=0),
}
predictions = {arm: run_records.read_predictions(run) for arm, run in runs.items()}
of_finding = {arm: rows[rows["finding"] == FINDING] for arm, rows in predictions.items()}
test = {arm: rows[rows["split"] == "test"] for arm, rows in of_finding.items()}
test["baseline"].head()

# %% [markdown]
# The three test films with the highest score and the three with the lowest. Can you see the finding? The network
# reads films of this size, so what you cannot see it can hardly see either. Films of scanner B are inverted.

# %%
ordered = test["baseline"].sort_values("score", ascending=False)
shown = pd.concat([ordered.head(3), ordered.tail(3)])
row_of = pd.Series(np.arange(len(cohort.table)), index=cohort.table["image_id"])
films = [cohort.images[row_of[image]] for image in shown["image_id"]]
captions = [f"score {row.score:.2f}\nlabel {row.label:.0f}" for row in shown.itertuples()]
cohort_figures.plot_examples(films, captions)
plt.show()

# %% [markdown]
# The scores of all test films, by label. No threshold divides the two heaps without error.

# %%
scores, labels = (test["baseline"][column].to_numpy() for column in ("score", "label"))
ax = plt.figure(figsize=(5, 2.5)).add_subplot()
for label, name in [(0, "finding absent"), (1, "finding present")]:
    ax.hist(
        scores[labels == label], bins=np.linspace(0, 1, 31), density=True, alpha=0.6, label=name
    )
ax.set(xlabel="score of the baseline", ylabel="density")
ax.legend()
plt.show()

# %% [markdown]
# ## AUROC by counting pairs
#
# Take one film with the finding and one without, at random. AUROC is the chance that the first one has the higher score, a tie
# counting one half (Hanley and McNeil 1982). 0.5 is a coin, 1 is perfect order.
#
# **Exercise 1.1.** Compute `by_hand`, the AUROC of the baseline, from this definition, with `scores` and `labels` (1 or 0)
# of the cell above. A comparison of all pairs at once: `present[:, None] > absent[None, :]`.

# %% tags=["gap"]
present, absent = scores[labels == 1], scores[labels == 0]
# by_hand = ...  the share of all pairs that are in order; a tie counts one half
raise NotImplementedError("Exercise 1.1: replace this line by your computation of by_hand.")

# %% tags=["solution"]
present, absent = scores[labels == 1], scores[labels == 0]
in_order = present[:, None] > absent[None, :]
tied = present[:, None] == absent[None, :]
by_hand = np.mean(in_order + tied / 2)

# %%
expected = metrics.auroc(labels, scores)
assert abs(by_hand - expected) < 1e-9, f"by_hand is {by_hand:.4f}; count all pairs, and ties half"
print(
    f"Exercise 1.1 is right: of {len(present):,} x {len(absent):,} pairs {by_hand:.1%} are in order."
)

# %% [markdown]
# **Exercise 1.2.** First predict, then compute. What happens to the AUROC when (a) every score is squared, (b) every score is
# rounded to one digit, (c) the films without the finding are shown twice each? Fill `changed` with the three AUROCs.

# %% tags=["gap"]
# changed = {"squared": ..., "rounded": ..., "absent twice": ...}   with metrics.auroc(labels, scores)
raise NotImplementedError("Exercise 1.2: replace this line by the dictionary changed.")

# %% tags=["solution"]
twice = np.repeat(np.arange(len(labels)), np.where(labels == 0, 2, 1))
changed = {
    "squared": metrics.auroc(labels, scores**2),
    "rounded": metrics.auroc(labels, scores.round(1)),
    "absent twice": metrics.auroc(labels[twice], scores[twice]),
}

# %%
assert abs(changed["squared"] - expected) < 1e-9, "squaring keeps the order of scores in [0, 1]"
assert abs(changed["absent twice"] - expected) < 1e-9, "each pair is only counted twice as often"
assert np.isclose(changed["rounded"], metrics.auroc(labels, scores.round(1))), "rounding makes ties"
print(
    f"Exercise 1.2 is right: {expected:.4f} becomes", {k: round(v, 4) for k, v in changed.items()}
)

# %% [markdown] tags=["solution"]
# AUROC sees the order of the scores alone. So it does not change with prevalence (c), and it cannot tell whether a score of 0.8
# means 80 %: that is calibration (notebook 04).

# %%
display_quiz(
    [
        {
            "question": "A model's AUROC for a finding is 0.30 in the films of one scanner. What is the likeliest reading?",
            "type": "multiple_choice",
            "answers": [
                {
                    "answer": "It has learnt nothing about these films.",
                    "correct": False,
                    "feedback": "Then AUROC would be near 0.5.",
                },
                {
                    "answer": "It ranks these films the wrong way round.",
                    "correct": True,
                    "feedback": "Yes: as films whose grey values are inverted can be ranked. Lesson 5 returns to it.",
                },
                {
                    "answer": "The finding is rare there.",
                    "correct": False,
                    "feedback": "Prevalence does not move AUROC, only its uncertainty.",
                },
            ],
        }
    ]
)

# %% [markdown]
# ## A threshold
#
# To call a finding present, a threshold is needed. It is chosen on the *validation* patients and carried to the test
# patients: chosen on the test patients it would make every rate look better than it is.
#
# **Exercise 1.3.** On the validation films of the baseline find `threshold`, the smallest score at which the false-positive
# rate (share of films without the finding whose score is at least the threshold) is at most `MOST_FALSE_POSITIVES`. Then compute
# `sensitivity` and `false_positive_rate` on the test films.

# %%
valid = of_finding["baseline"].query("split == 'valid'")

# %% tags=["gap"]
# threshold = ...  of the scores in valid["score"]
# sensitivity, false_positive_rate = ...  of the test films, arrays `scores` and `labels`
raise NotImplementedError("Exercise 1.3: replace this line by the threshold and both rates.")

# %% tags=["solution"]
candidates = np.sort(valid["score"].unique())
without = np.sort(valid.query("label == 0")["score"])
rates = 1 - np.searchsorted(without, candidates, "left") / len(without)
threshold = candidates[rates <= MOST_FALSE_POSITIVES][0]
sensitivity = np.mean(scores[labels == 1] >= threshold)
false_positive_rate = np.mean(scores[labels == 0] >= threshold)

# %%
called = valid["score"] >= threshold
on_valid = called[valid["label"] == 0].mean()
assert on_valid <= MOST_FALSE_POSITIVES, f"on valid {on_valid:.3f} are false positives"
assert on_valid > MOST_FALSE_POSITIVES - 0.02, (
    f"on valid only {on_valid:.3f}: a smaller score will do"
)
assert np.isclose(sensitivity, np.mean(scores[labels == 1] >= threshold)), (
    "the share called present, of the test films with the finding"
)
assert np.isclose(false_positive_rate, np.mean(scores[labels == 0] >= threshold)), (
    "the share called present, of the test films without the finding"
)
print(
    f"Exercise 1.3 is right: at {threshold:.3f} the test sensitivity is {sensitivity:.1%}, with "
    f"{false_positive_rate:.1%} false positives (on valid {on_valid:.1%})."
)

# %% [markdown]
# ## How sure?
#
# Other test patients would have given another AUROC. A *bootstrap* imitates that: draw as many patients as there are, with
# replacement, compute the AUROC, repeat. Patients are drawn, not films, because films of one patient resemble each other: they
# are fewer witnesses than they seem.

# %%
per_patient = test["baseline"].groupby("patient_id").size()
print(
    f"{len(test['baseline']):,} test films of {len(per_patient):,} patients, up to {per_patient.max()} each."
)

# %% [markdown]
# **Exercise 1.4.** Write `resampled_auroc(rows, stream)`: it draws patients of the table `rows` (columns patient_id, label,
# score) with replacement and returns the AUROC of *all* films of those drawn, a patient drawn twice counting twice.
# `stream` is a numpy generator. The check looks at what you give to `metrics.auroc(labels, scores)`, for three patients of three films.


# %% tags=["gap"]
def resampled_auroc(rows, stream):
    # 1. the films of each patient; 2. draw patients; 3. metrics.auroc of their films
    raise NotImplementedError("Exercise 1.4: write this function.")


# %% tags=["solution"]
def resampled_auroc(rows, stream):
    films_of = list(rows.groupby("patient_id").indices.values())
    drawn = stream.integers(len(films_of), size=len(films_of))
    films = np.concatenate([films_of[patient] for patient in drawn])
    return metrics.auroc(rows["label"].to_numpy()[films], rows["score"].to_numpy()[films])


# %%
three = pd.DataFrame({"patient_id": np.repeat(["a", "b", "c"], 3), "label": [0.0, 1.0, 1.0] * 3})
three["score"] = np.arange(9) / 10
given = []


def noted(labels, scores):
    given.append((labels, scores))
    return 0.5


stream = np.random.default_rng(SEED)
with mock.patch.object(metrics, "auroc", noted):
    for _ in range(20):
        resampled_auroc(three, stream)
assert len(given) == 20, "call metrics.auroc(labels, scores) once"
films_given = [np.searchsorted(three["score"], given_scores) for _, given_scores in given]
for films, (given_labels, _) in zip(films_given, given):
    assert np.array_equal(three["label"][films], given_labels), "each label beside its score"
    times = np.bincount(films, minlength=9).reshape(3, 3)  # a row a patient
    assert np.all(times == times[:, :1]), "draw patients: all films of one come equally often"
    assert times[:, 0].sum() == 3, "as many patients as there are; who is drawn twice counts twice"
assert len({tuple(np.sort(films)) for films in films_given}) > 1, "draw with replacement"
print("Exercise 1.4 is right: patients are drawn, each with all films.")

# %% [markdown]
# The resamples of the test patients, beside a standard error in closed form.

# %%
stream = np.random.default_rng(SEED)
resamples = [resampled_auroc(test["baseline"], stream) for _ in range(N_RESAMPLES)]
low, high = np.quantile(resamples, [0.025, 0.975])
codes = pd.factorize(test["baseline"]["patient_id"])[0]
estimate, influence = auroc_intervals.influences(labels, scores, codes, codes.max() + 1)
error = auroc_intervals.standard_error(influence)
assert 0.5 < np.std(resamples) / error < 2, "draw patients, and take all films of each"
print(
    f"AUROC {estimate:.3f}, 95 % CI [{low:.3f}, {high:.3f}]; "
    f"standard error {np.std(resamples):.4f}, in closed form {error:.4f}."
)

# %% [markdown]
# The closed form (Obuchowski 1997) is what notebook 04 uses: it needs no resamples, and is better in small groups. By how
# much does an interval shrink with more patients? Four times the patients, half the width.

# %%
patients = np.array(sorted(set(codes)))
rows = []
for n in (50, 100, 200, 400, 800):
    if n <= len(patients):
        kept = np.isin(codes, stream.choice(patients, n, replace=False))
        here, spread = auroc_intervals.influences(
            labels[kept], scores[kept], codes[kept], codes.max() + 1
        )
        rows.append({"patients": n, "auroc": here, "error": auroc_intervals.standard_error(spread)})
widths = pd.DataFrame(rows)
ax = plt.figure(figsize=(4.5, 2.8)).add_subplot()
ax.errorbar(widths["patients"], widths["auroc"], 1.96 * widths["error"], fmt="o", capsize=3)
ax.axhline(estimate, color="0.7", linestyle="--", label="all test patients")
ax.set(xscale="log", xlabel="test patients", ylabel="AUROC, 95 % CI")
ax.set_xticks(widths["patients"], widths["patients"])
ax.set_xticks([], minor=True)
ax.legend()
plt.show()

# %% [markdown]
# ## Two models
#
# Both models saw the same test patients. A patient whose films are hard is hard for both, so the *difference* of AUROCs
# varies less than two independent ones would: compare within patients.
#
# **Exercise 1.5.** Fill `differences` with `N_RESAMPLES` resampled differences, baseline minus zero-shot, of the *same*
# drawn patients. Hint: two generators with one seed draw the same, and both tables list the films in the same order.

# %% tags=["gap"]
# differences = [...]
raise NotImplementedError("Exercise 1.5: replace this line by the list of differences.")

# %% tags=["solution"]
differences = [
    resampled_auroc(test["baseline"], np.random.default_rng([SEED, draw]))
    - resampled_auroc(test["zero-shot"], np.random.default_rng([SEED, draw]))
    for draw in range(N_RESAMPLES)
]

# %%
of_zero_shot = [resampled_auroc(test["zero-shot"], stream) for _ in range(N_RESAMPLES)]
apart = np.hypot(np.std(resamples), np.std(of_zero_shot))
low, high = np.quantile(differences, [0.025, 0.975])
gain = expected - metrics.auroc(
    *(test["zero-shot"][name].to_numpy() for name in ("label", "score"))
)
assert len(differences) == N_RESAMPLES, "N_RESAMPLES differences"
assert np.std(differences) < 0.7 * apart, "draw the same patients for both"
assert abs(np.mean(differences) - gain) < 0.01, "baseline minus zero-shot"
print(
    f"Exercise 1.5 is right: the baseline gains {np.mean(differences):+.3f}, 95 % CI [{low:+.3f}, {high:+.3f}];"
)
print(
    f"standard error {np.std(differences):.4f} paired, {apart:.4f} if the models had seen different patients."
)

# %%
display_quiz(
    [
        {
            "question": "The 95 % intervals of two models overlap. May the paired difference still exclude 0?",
            "type": "multiple_choice",
            "answers": [
                {
                    "answer": "Yes",
                    "correct": True,
                    "feedback": "Yes: what both have in common cancels in the difference.",
                },
                {
                    "answer": "No",
                    "correct": False,
                    "feedback": "Overlap of separate intervals says little about a paired difference.",
                },
            ],
        },
        {
            "question": "A test set has 400 films of 100 patients, four of each, nearly alike. About how many independent films is it worth?",
            "type": "numeric",
            "answers": [
                {
                    "type": "range",
                    "range": [100, 160],
                    "correct": True,
                    "feedback": "Yes: nearly as many as patients.",
                },
                {"type": "default", "feedback": "If the four were identical, it would be 100."},
            ],
        },
    ]
)

# %% [markdown]
# ## What to take home
#
# * AUROC is the share of pairs in order. It knows nothing of thresholds, prevalence or calibration.
# * Thresholds come from validation patients, intervals from patients, comparisons from the same patients.
# * The baseline is better here because it saw films of this hospital. What training costs the patients who were in it is lesson 6.
#
# **Read on**: notebooks 01 and 02; [Fairness statistics](../../docs/fairness.md); Hanley and McNeil (1982), Radiology 143:29-36;
# Obuchowski (1997), Biometrics 53:567-578.
