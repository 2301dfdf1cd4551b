# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Lesson 2: What does differential privacy promise a patient?
#
# **You will learn** to
#
# * say what (epsilon, delta) promises, to whom, and against whom: one patient in, one patient out;
# * compute delta of a noisy sum by hand, and why delta must be far below 1 / number of patients;
# * compose releases: why two published models cost more than one, and less than twice;
# * plan a budget: patients, epsilon and passes give the noise.
#
# **Before you start**: lesson 1; normal distributions, logarithms. Nothing is read and nothing written.
#
# | part | minutes |
# |---|---|
# | A coin protects an answer (exercise 2.1) | 7 |
# | Noise protects a sum (exercise 2.2) | 10 |
# | Delta (exercise 2.3) | 5 |
# | Several releases (exercise 2.4) | 8 |
# | Plan a budget (exercise 2.5) | 10 |

# %%
import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jupyterquiz import display_quiz
from scipy import stats

from helpers.figures import house_style
from helpers.privacy import accounting, calibration
from helpers.privacy.accounting import Run

plt.style.use(house_style.STYLE)

# %% [markdown]
# ## The promise
#
# Let $D$ and $D'$ be two sets of patients that differ in one patient only: there in the one, absent from the other (in training:
# all images zeroed out). A method $M$ with random numbers is $(\varepsilon, \delta)$-differentially private if for each such
# pair and for every set $S$ of results
#
# $$\Pr[M(D) \in S] \le e^{\varepsilon} \Pr[M(D') \in S] + \delta .$$
#
# The chances are those of the method's own random numbers. The attacker may know everybody else's data, the method, and have
# any computer. The promise is about *one* patient's presence; it does not say that nothing about groups of patients is learnt,
# which is what research is for.
#
# ## A coin protects an answer
#
# Ask each patient "do you smoke?". Each throws two coins and tells nobody how they fell: if the first shows heads, the answer is true; if
# not, the second one answers. So a smoker says "yes" with probability 3/4, a non-smoker with 1/4.
#
# **Exercise 2.1.** Here $\delta = 0$. (a) What is the smallest `epsilon` for one answer? (b) Among the answers of 10,000 patients
# below, estimate `smokers`, the share of smokers.

# %%
stream = np.random.default_rng(7)
smokes = stream.random(10_000) < 0.23
is_true = stream.random(10_000) < 0.5
says_yes = np.where(is_true, smokes, stream.random(10_000) < 0.5)
print(f"{says_yes.mean():.1%} say yes.")

# %% tags=["gap"]
# epsilon = ...
# smokers = ...   of says_yes.mean(); the share who say yes is 1/4 + smokers / 2
raise NotImplementedError("Exercise 2.1: replace this line by epsilon and smokers.")

# %% tags=["solution"]
epsilon = np.log((3 / 4) / (1 / 4))
smokers = 2 * (says_yes.mean() - 1 / 4)

# %%
assert abs(epsilon - np.log(3)) < 1e-9, "the ratio of the two chances of 'yes', its logarithm"
assert abs(smokers - smokes.mean()) < 0.03, "solve yes = 1/4 + smokers / 2"
print(
    f"Exercise 2.1 is right: epsilon {epsilon:.3f}; {smokers:.1%} smoke, in truth {smokes.mean():.1%}."
)

# %% [markdown]
# One answer tells hardly anything, ten thousand tell the share. That is the idea of DP.
#
# ## Noise protects a sum
#
# In training nobody answers "yes" or "no": each patient contributes a gradient. Its norm is clipped to at most $C$, gradients
# are added up, and normal noise of standard deviation $\sigma C$ is added to the sum ($\sigma$ is the *noise multiplier*). In
# units of $C$ and along the patient's own direction, the sum without the patient is distributed as $\mathcal N(0, \sigma^2)$, with
# the patient as $\mathcal N(1, \sigma^2)$.

# %%
SIGMA = 1.5  # noise multiplier
x = np.linspace(-6, 7, 400)
ax = plt.figure(figsize=(5.5, 2.6)).add_subplot()
ax.plot(x, stats.norm.pdf(x, 0, SIGMA), label="without the patient")
ax.plot(x, stats.norm.pdf(x, 1, SIGMA), label="with the patient")
ax.set(xlabel="noisy sum, in clipping norms", ylabel="density")
ax.legend()
plt.show()

# %% [markdown]
# For a given epsilon, the smallest delta is the largest excess over all sets S:
# $\delta(\varepsilon) = \max_S \Pr[\text{with}] - e^{\varepsilon} \Pr[\text{without}]$. The best $S$ is where the density *with*
# is more than $e^{\varepsilon}$ times that *without*: all $x$ above $t = \sigma^2 \varepsilon + 1/2$.
#
# **Exercise 2.2.** Write `delta_of_sum(epsilon, sigma)` with `stats.norm.sf(t, mean, sigma)`, the chance of a value above
# t.


# %% tags=["gap"]
def delta_of_sum(epsilon, sigma):
    raise NotImplementedError("Exercise 2.2: write this function.")


# %% tags=["solution"]
def delta_of_sum(epsilon, sigma):
    t = sigma**2 * epsilon + 0.5
    return stats.norm.sf(t, 1, sigma) - np.exp(epsilon) * stats.norm.sf(t, 0, sigma)


# %%
epsilons = np.linspace(0, 4, 41)
by_hand = np.array([delta_of_sum(e, SIGMA) for e in epsilons])
one_step = Run(noise_multiplier=SIGMA, sample_rate=1.0, steps=1)
by_accountant = np.array([accounting.delta_of((one_step,), e) for e in epsilons])
assert np.allclose(by_hand, by_accountant, rtol=0.01, atol=1e-6), (
    "see the formula above the exercise"
)
print(f"Exercise 2.2 is right: at epsilon 1 delta is {delta_of_sum(1.0, SIGMA):.4f}.")

# %% [markdown]
# So a mechanism has no single epsilon: it has a whole curve of pairs. One quotes the epsilon at a delta that is fixed
# before. All of the curve holds at once.

# %%
ax = plt.figure(figsize=(5, 2.8)).add_subplot()
for sigma in (1.0, 1.5, 3.0):
    ax.plot(
        epsilons,
        [accounting.delta_of((Run(sigma, 1.0, 1),), e) for e in epsilons],
        label=f"noise multiplier {sigma:g}",
    )
ax.set(yscale="log", ylim=(1e-8, 1), xlabel="epsilon", ylabel="delta (logarithmic)")
ax.legend()
plt.show()

# %% [markdown]
# ## Delta
#
# Delta is what may go wrong altogether. Consider a method that adds no noise: it throws, for each patient, a die that publishes the
# patient's films with probability $\delta$. It is $(0, \delta)$-DP: epsilon is 0!
#
# **Exercise 2.3.** A hospital has 50,000 patients. How many patients' films are published on average, `published`, at
# delta = 1e-3? And what is the largest `delta` for which the chance that anybody's are published is below 1 %?
# (Check yourself: $1 - (1 - \delta)^N$.)

# %% tags=["gap"]
# published = ...
# delta = ...
raise NotImplementedError("Exercise 2.3: replace this line by published and delta.")

# %% tags=["solution"]
published = 50_000 * 1e-3
delta = 1 - 0.99 ** (1 / 50_000)

# %%
assert abs(published - 50) < 1e-6, "number of patients times delta"
assert 1.9e-7 < delta <= 2.02e-7, "solve 1 - (1 - delta) ** N = 0.01; about 0.01 / N"
print(
    f"Exercise 2.3 is right: {published:.0f} patients; delta {delta:.2e}, about 1 / ({1 / delta / 50_000:.0f} N)."
)

# %% [markdown]
# This package refuses a delta at or above 1/N, and warns above 1/(10 N). With normal noise the failure is not that crude,
# but the definition alone does not say so.

# %%
display_quiz(
    [
        {
            "question": "A study trains with (1, 1e-6)-DP per patient and finds that smokers have more lung nodules. A smoker among its patients is charged more by an insurer, who read the study. Was the promise broken?",
            "type": "multiple_choice",
            "answers": [
                {
                    "answer": "Yes, the study harmed the patient.",
                    "correct": False,
                    "feedback": "Harmed, perhaps, but by what holds for smokers. The part of this patient's own data in it is bounded.",
                },
                {
                    "answer": "No: with this patient the result was at most e times as likely as without, plus 1e-6.",
                    "correct": True,
                    "feedback": "Yes. DP limits what a patient's own data add; it does not forbid knowledge about groups.",
                },
            ],
        },
        {
            "question": "Which of these does (epsilon, delta)-DP training of a model on the patients of the training split protect?",
            "type": "many_choice",
            "answers": [
                {
                    "answer": "Training patients, in the published weights",
                    "correct": True,
                    "feedback": "Yes.",
                },
                {
                    "answer": "Training patients, in the scores that the weights give to other people's films",
                    "correct": True,
                    "feedback": "Yes: what is computed from the weights alone is post-processing.",
                },
                {
                    "answer": "Test patients, in published tables about them",
                    "correct": False,
                    "feedback": "No: nothing about them was noised.",
                },
                {
                    "answer": "Public patients on whose films the network was pretrained",
                    "correct": False,
                    "feedback": "No: they were trained on without noise.",
                },
            ],
        },
    ]
)

# %% [markdown]
# ## Several releases
#
# Training is thousands of noisy sums, and a study may train several models on the same patients. If each release is
# $(\varepsilon_i, \delta_i)$-DP, all together are at most $(\sum \varepsilon_i, \sum \delta_i)$-DP. The truth is smaller: unlucky
# noise in one release tends to be made up by another. An accountant (PLD, privacy loss distribution) computes it.

# %%
DELTA = 1e-5
k = np.arange(1, 31)
one = accounting.epsilon_of_all([Run(4.0, 1.0, 1)], DELTA)
composed = [accounting.epsilon_of_all([Run(4.0, 1.0, int(n))], DELTA) for n in k]
ax = plt.figure(figsize=(5, 2.8)).add_subplot()
ax.plot(k, one * k, "--", label="sum of the epsilons")
ax.plot(k, composed, label="composed by PLD, same delta")
ax.set(xlabel="releases at noise multiplier 4", ylabel=f"epsilon at delta {DELTA:g}")
ax.legend()
plt.show()

# %% [markdown]
# **Exercise 2.4.** First predict: two models are trained on the same patients, each at epsilon 2 (full-batch, 20 steps each,
# noise multiplier `of_each`). Is epsilon of both below 2, between 2 and 4, or 4? Then compute `together` with
# `accounting.epsilon_of_all` of both `Run`s; and `with_sampling`, epsilon of one of these models if each step drew a patient with
# probability 0.1 only (the same noise multiplier and steps).

# %%
of_each = calibration.noise_multiplier_for(2.0, DELTA, 1.0, 20)
print(f"noise multiplier of each: {of_each:.2f}")

# %% tags=["gap"]
# together = ...
# with_sampling = ...
raise NotImplementedError("Exercise 2.4: replace this line by together and with_sampling.")

# %% tags=["solution"]
together = accounting.epsilon_of_all([Run(of_each, 1.0, 20), Run(of_each, 1.0, 20)], DELTA)
with_sampling = accounting.epsilon_of_all([Run(of_each, 0.1, 20)], DELTA)

# %%
of_both = accounting.epsilon_of_all([Run(of_each, 1.0, 40)], DELTA)
assert abs(together - of_both) < 0.01 * of_both, "both `Run`s in one list, sample_rate 1, steps 20"
by_accountant = accounting.epsilon_of_all([Run(of_each, 0.1, 20)], DELTA)
assert abs(with_sampling / by_accountant - 1) < 1e-3, "sample_rate 0.1, steps 20, one model"
print(
    f"Exercise 2.4 is right: together {together:.2f}, not 4; with sampling {with_sampling:.3f} instead of 2."
)

# %% [markdown]
# Nobody outside knows who was drawn in which step: that is why sampling helps. It must be done by chance, each patient by itself
# (Poisson sampling); shuffled batches of a fixed size are *not* covered by this number.
#
# Why does this package keep a *register* of private runs? Because of `together`: the patients' loss is that of all published
# models, whoever trained them.
#
# ## Plan a budget
#
# What is left to choose: epsilon, passes through the data, and which share of the patients enters a step (here one in 16). The
# noise multiplier $\sigma$ follows. What matters for learning is the noise of the *mean* gradient, $\sigma / (q N)$ clipping
# norms per coordinate: more patients make it smaller.


# %%
def plan(patients, epsilon, passes, sample_rate=1 / 16):
    steps = round(passes / sample_rate)
    sigma = calibration.noise_multiplier_for(epsilon, DELTA, sample_rate, steps)
    return {
        "patients": patients,
        "epsilon": epsilon,
        "passes": passes,
        "steps": steps,
        "noise_multiplier": sigma,
        "noise_of_mean": sigma / (sample_rate * patients),
    }


planned = pd.DataFrame(
    [
        plan(patients, epsilon, 10)
        for patients in (2_000, 20_000)
        for epsilon in (0.3, 1.0, 3.0, 8.0)
    ]
)
planned.round(4)

# %% [markdown]
# The same as a figure. If you read this page without a kernel, it is the planner below at two positions of its first slider.

# %%
ax = plt.figure(figsize=(5, 2.8)).add_subplot()
for patients, of_size in planned.groupby("patients"):
    ax.plot(of_size["epsilon"], of_size["noise_of_mean"], "o-", label=f"{patients:,} patients")
ax.set(xscale="log", yscale="log", xlabel="epsilon per patient (10 passes)")
ax.set_ylabel("noise of the mean\n(clipping norms)")
ax.set_xticks([0.3, 1, 3, 8], ["0.3", "1", "3", "8"])
ax.set_xticks([], minor=True)
ax.legend()
plt.show()

# %% [markdown]
# With a kernel, move the sliders. (Each position takes a moment: the accountant searches for the noise.)


# %%
choices = [1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000]  # of patients
settings = {
    "patients": (choices, 10_000),
    "epsilon": ([0.1, 0.3, 1.0, 3.0, 8.0, 20.0], 1.0),
    "passes": ([1, 3, 10, 30, 100], 10),
}
sliders = {
    name: widgets.SelectionSlider(
        options=options, value=value, description=name, continuous_update=False
    )
    for name, (options, value) in settings.items()
}
text = widgets.HTML()


def show_plan(change=None):
    planned = plan(**{name: slider.value for name, slider in sliders.items()})
    text.value = (
        f"{planned['steps']:,} steps, noise multiplier {planned['noise_multiplier']:.2f}; noise "
        f"of the mean gradient {planned['noise_of_mean']:.2g} clipping norms per coordinate"
    )


for slider in sliders.values():
    slider.observe(show_plan, "value")
show_plan()
widgets.VBox([*sliders.values(), text])

# %% [markdown]
# **Exercise 2.5.** A colleague wants epsilon 0.3 and no more noise of the mean gradient than 20,000 patients have at epsilon 3 (10
# passes). With `plan` or the sliders, find `needed`, the smallest of the slider's numbers of patients that will do.

# %% tags=["gap"]
# needed = ...
raise NotImplementedError("Exercise 2.5: replace this line by the number of patients needed.")

# %% tags=["solution"]
most = plan(20_000, 3.0, 10)["noise_of_mean"]
needed = next(n for n in choices if plan(n, 0.3, 10)["noise_of_mean"] <= most)

# %%
assert needed in choices, f"{needed!r} is none of the slider's numbers, {choices}"
most = plan(20_000, 3.0, 10)["noise_of_mean"]
assert plan(needed, 0.3, 10)["noise_of_mean"] <= most, f"{needed:,} patients have more noise"
smaller = choices[choices.index(needed) - 1]
assert plan(smaller, 0.3, 10)["noise_of_mean"] > most, f"{smaller:,} will do"
print(f"Exercise 2.5 is right: {needed:,} patients.")

# %%
display_quiz(
    [
        {
            "question": "Two hospitals each train on patients of their own, nobody is in both, each at epsilon 2 per patient. Both models are published. What is epsilon for a patient?",
            "type": "multiple_choice",
            "answers": [
                {
                    "answer": "2",
                    "correct": True,
                    "feedback": "Yes: a patient's data are in one of the releases only (parallel composition).",
                },
                {
                    "answer": "between 2 and 4",
                    "correct": False,
                    "feedback": "That is for two models on the same patients.",
                },
                {
                    "answer": "4",
                    "correct": False,
                    "feedback": "That is the sum, for the same patients, and not even tight there.",
                },
            ],
        }
    ]
)

# %% [markdown]
# ## What to take home
#
# * DP compares two worlds, with and without one patient; epsilon and delta bound how far they can be told apart, by anybody.
# * Fix delta far below 1/N before looking; compose all releases on the same patients.
# * Noise is set by the budget; what helps learning is more patients, fewer steps, and smaller models to be noised.
#
# **Read on**: notebook 03; [Privacy](../../docs/privacy.md); Dwork and Roth (2014), The Algorithmic Foundations of Differential
# Privacy, chapters 2 and 3; Ponomareva et al. (2023), How to DP-fy ML, JAIR 77:1113-1201.
