# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Lesson 4: Who is promised what, an image or a patient?
#
# **You will learn** to
#
# * tell the *privacy unit* of a promise, and why "epsilon = 8 per image" is less than "epsilon = 8 per patient";
# * compute what a promise per image is worth to a patient with several images;
# * train the same network under both promises, and say what each promises to the same patient;
# * read a privacy statement for its unit.
#
# **Before you start**: lessons 2 and 3. The results of notebooks 01 and 02 (`make demo`), from `results/` or the folder that
# `RESULTS_DIR` names. Nothing is written. Films are drawn; `demo` mode guarantees nothing.
#
# | part | minutes |
# |---|---|
# | Patients with several films (exercise 4.1) | 8 |
# | How far can one patient move the sum? (exercise 4.2) | 10 |
# | What is epsilon per image worth to a patient? (exercise 4.3) | 10 |
# | Train both (exercise 4.4) | 12 |

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from jupyterquiz import display_quiz

from helpers.analysis import metrics
from helpers.data import cohorts
from helpers.figures import house_style
from helpers.privacy import accounting, promise
from helpers.training import (
    image_loss,
    network_settings,
    prediction,
    private_step,
    recipe_rule,
    starts,
    training_set,
)

plt.style.use(house_style.STYLE)

# %%
COHORT = "synthetic_cxr_private"  # the drawn private hospital
EPSILON, DELTA = 7.89, 1e-5  # the paper's largest budget of radiographs, which is per image
CLIP_NORM = 0.1  # of a unit's gradient of the head
SEED = 0

# %% [markdown]
# ## Patients with several films
#
# People come back. Among the training patients of the drawn hospital:

# %%
private = cohorts.read(COHORT)
train = private.table[private.table["split"] == "train"]
films_of = train.groupby("patient_id").size()
by_number = (
    films_of.value_counts().sort_index().rename_axis("films").rename("patients").reset_index()
)
by_number

# %% [markdown]
# **Exercise 4.1.** Compute `several`, the share of training *patients* with more than one film, and `of_several`, the share of training
# *films* that belong to such patients. Which of the two is larger, and why?

# %% tags=["gap"]
# several = ...
# of_several = ...
raise NotImplementedError("Exercise 4.1: replace this line by several and of_several.")

# %% tags=["solution"]
several = (films_of > 1).mean()
of_several = films_of[films_of > 1].sum() / films_of.sum()

# %%
assert np.isclose(several, by_number.query("films > 1")["patients"].sum() / len(films_of)), (
    "a share of patients"
)
assert np.isclose(of_several, (train["patient_id"].map(films_of) > 1).mean()), "a share of films"
print(
    f"Exercise 4.1 is right: {several:.0%} of the patients have several films, {of_several:.0%} of the films are theirs."
)

# %% [markdown]
# ## How far can one patient move the sum?
#
# With the *image* as unit each film's gradient is clipped to $C$. With the *patient* as unit a patient's films are averaged first,
# and the mean is clipped. Look at the head of the network alone, at films of one patient who has many.

# %%
settings = network_settings.read(COHORT)
start = starts.weights_to_start_from(settings.pretrain, private)


def network():
    return starts.starting_model(
        private, start.weights, start.known, **settings.architecture, seed=SEED, trained="head"
    )[0]


model = network()
head = [p for p in model.parameters() if p.requires_grad]
data = training_set.TrainingSet.of(private, "patient")
patient = int(np.argmax([len(unit) for unit in data.units]))
positions = data.units[patient]
images, labels = data.batch(
    positions, np.zeros((len(positions), 2), int), settings.channels, torch.device("cpu")
)
losses = image_loss.image_losses(model(images), labels)
gradients = torch.stack(
    [
        torch.cat([part.flatten() for part in torch.autograd.grad(loss, head, retain_graph=True)])
        for loss in losses
    ]
)
print(
    f"{len(gradients)} films; norms of their gradients: {[round(float(g.norm()), 2) for g in gradients]}"
)

# %% [markdown]
# **Exercise 4.2.** Compute `by_image`, the L2 norm of what this patient adds to the sum if the unit is the image, and `by_patient`,
# if it is the patient. `gradients` has a row a film.

# %% tags=["gap"]
# by_image = ...     clip each film's gradient to CLIP_NORM, add up
# by_patient = ...   average, then clip
raise NotImplementedError("Exercise 4.2: replace this line by by_image and by_patient.")


# %% tags=["solution"]
def clip(gradient):
    return gradient * min(1.0, CLIP_NORM / float(gradient.norm()))


by_image = float(sum(clip(gradient) for gradient in gradients).norm())
by_patient = float(clip(gradients.mean(0)).norm())

# %%
k = len(gradients)
each = gradients * (CLIP_NORM / gradients.norm(dim=1)).clamp(max=1)[:, None]
assert np.isclose(float(by_image), float(each.sum(0).norm()), rtol=1e-4), (
    "clip each film's gradient, add up, take the norm of the sum"
)
of_mean = min(CLIP_NORM, float(gradients.mean(0).norm()))
assert np.isclose(float(by_patient), of_mean, rtol=1e-4), "average first, clip the mean"
print(
    f"Exercise 4.2 is right: {by_image / CLIP_NORM:.2f} C with the image as unit (at most {k} C), {by_patient / CLIP_NORM:.2f} C with the patient."
)

# %% [markdown]
# The noise is the same in both cases. So with the image as unit, noise made for $C$ has to hide several $C$.

# %%
display_quiz(
    [
        {
            "question": "A hospital removes all but one film of each training patient. Then the image is the unit. What changes for a patient?",
            "type": "multiple_choice",
            "answers": [
                {
                    "answer": "Nothing is promised to patients, as the unit is the image.",
                    "correct": False,
                    "feedback": "With one film each, both units are the same.",
                },
                {
                    "answer": "The promise per image is a promise per patient.",
                    "correct": True,
                    "feedback": "Yes, at the price of the films left out. The choice of the film must depend on that patient alone.",
                },
            ],
        }
    ]
)

# %% [markdown]
# ## What is epsilon per image worth to a patient?
#
# If a promise per image has $(\varepsilon, \delta)$, a patient with $k$ images has at most
# $(k \varepsilon,\; k e^{(k - 1) \varepsilon} \delta)$ by the definition alone (*group privacy*).
#
# **Exercise 4.3.** (a) Compute `delta_of_group`, that delta for $k = 3$ at `EPSILON` and `DELTA`. Does it say anything? (b) For the
# run below, an accountant computes it from the mechanism itself: fill `worth`, a dictionary from k (1, 2, 4, 8) to epsilon at
# the same delta, by `accounting.epsilon_for_patient(noise_multiplier, sample_rate, steps, delta, n_images)`.

# %%
n_images = len(train)
chosen, _ = recipe_rule.settle(EPSILON, n_images, TRAINED="all")
budget = promise.PrivacyBudget(EPSILON, DELTA, chosen["CLIP_NORM"])
batching = promise.Batching(chosen["EXPECTED_BATCH_SIZE"], chosen["EPOCHS"], int(films_of.max()))
per_image = promise.settle(
    budget,
    batching,
    unit="image",
    n_units=n_images,
    most_images=int(films_of.max()),
    mode="demo",
    pos_weight="none",
)
pd.Series(
    {
        name: getattr(per_image, name)
        for name in ("unit", "n_units", "sample_rate", "steps", "noise_multiplier")
    }
)

# %% tags=["gap"]
# delta_of_group = ...
# worth = {k: ... for k in (1, 2, 4, 8)}
raise NotImplementedError("Exercise 4.3: replace this line by delta_of_group and worth.")

# %% tags=["solution"]
delta_of_group = 3 * np.exp(2 * EPSILON) * DELTA
worth = {
    k: accounting.epsilon_for_patient(
        per_image.noise_multiplier, per_image.sample_rate, per_image.steps, DELTA, k
    )
    for k in (1, 2, 4, 8)
}

# %%
assert np.isclose(delta_of_group / DELTA, 3 * np.exp(2 * EPSILON)), "k e^((k - 1) epsilon) delta"
run = (per_image.noise_multiplier, per_image.sample_rate, per_image.steps)
assert set(worth) == {1, 2, 4, 8}, "k is 1, 2, 4, 8"
for k, epsilon in worth.items():
    expected = accounting.epsilon_for_patient(*run, DELTA, k)
    assert np.isclose(epsilon, expected, rtol=1e-3), f"k = {k}: the run per_image, n_images is k"
print(
    f"Exercise 4.3 is right: delta of the group would be {delta_of_group:.0f}, which says nothing; by the accountant:"
)
pd.Series(worth, name="epsilon of a patient").rename_axis("images of the patient").round(
    2
).to_frame()

# %% [markdown]
# As a figure, beside the number that is quoted. A patient with several films has been promised much less than the headline says.

# %%
ax = plt.figure(figsize=(4.5, 2.8)).add_subplot()
ax.plot(list(worth), list(worth.values()), "o-", label="of a patient, by PLD")
ax.axhline(EPSILON, color="0.5", linestyle="--", label=f"quoted: {EPSILON} per image")
ax.set(
    xlabel="images of the patient in training", ylabel=f"epsilon at delta {DELTA:g}", ylim=(0, None)
)
ax.set_xticks(list(worth))
ax.legend()
plt.show()

# %% [markdown]
# ## Train both
#
# The head of the same public network, in demo mode, at the same number `EPSILON`: once per image, once per patient. The
# loop is the private step of notebook 03: draw, clip, add up, add noise, divide.


# %%
def trained_with(unit, epsilon):
    fresh = network()
    data = training_set.TrainingSet.of(private, unit)
    chosen, _ = recipe_rule.settle(epsilon, len(data.units), TRAINED="head")
    clip_norm, batching, _ = recipe_rule.batching_of(chosen, len(data.units), int(films_of.max()))
    budget = promise.PrivacyBudget(epsilon, DELTA, clip_norm)
    arm = private_step.PrivateArm(
        data,
        fresh,
        budget,
        batching,
        mode="demo",
        seed=SEED,
        lineage=start.lineage,
        channels=settings.channels,
    )
    optimizer = torch.optim.SGD(arm.trained, lr=chosen["HEAD_LEARNING_RATE"], momentum=0.9)
    for _ in range(arm.steps):
        arm.set_gradients()
        optimizer.step()
    return fresh, arm.promise


def valid_auroc(model):
    return metrics.macro_auroc(
        *prediction.labels_and_scores(model, private, "valid", settings.channels)
    )


# %%
rows = []
for unit in ("image", "patient"):
    model, promised = trained_with(unit, EPSILON)
    rows.append(
        {"unit": unit, "epsilon": EPSILON, "auroc": valid_auroc(model), "promised": promised}
    )
compared = pd.DataFrame(rows).set_index("unit")
print(f"AUROC on valid before: {valid_auroc(network()):.3f}")
compared.drop(columns="promised").round(3)

# %% [markdown]
# Is the promise per patient dearer? These two rows cannot say: the same number is not the same promise to the same person.
#
# **Exercise 4.4.** For the patient with the most films, `k_most`, compute `epsilon_of_patient` under the run *per image*
# (`accounting.epsilon_for_patient` of `compared.loc["image", "promised"]`). First predict: twice as much, five times, more?

# %%
k_most = int(films_of.max())

# %% tags=["gap"]
# epsilon_of_patient = ...
raise NotImplementedError("Exercise 4.4: replace this line by epsilon_of_patient.")

# %% tags=["solution"]
of_image = compared.loc["image", "promised"]
epsilon_of_patient = accounting.epsilon_for_patient(
    of_image.noise_multiplier, of_image.sample_rate, of_image.steps, DELTA, k_most
)

# %%
promised = compared.loc["image", "promised"]
run = (promised.noise_multiplier, promised.sample_rate, promised.steps)
expected = accounting.epsilon_for_patient(*run, DELTA, k_most)
assert np.isclose(epsilon_of_patient, expected, rtol=1e-3), "n_images is k_most"
print(
    f"Exercise 4.4 is right: a patient with {k_most} films has epsilon {epsilon_of_patient:.1f} in the run per image,"
)
print(
    f"and {EPSILON} in the run per patient. AUROC: {compared.loc['image', 'auroc']:.3f} and {compared.loc['patient', 'auroc']:.3f}."
)

# %%
display_quiz(
    [
        {
            "question": "A paper reports 'epsilon = 1.5' for a model of 200,000 radiographs of 60,000 patients, and does not say of what. What do you ask first?",
            "type": "multiple_choice",
            "answers": [
                {
                    "answer": "Which optimizer was used",
                    "correct": False,
                    "feedback": "It does not matter to the promise.",
                },
                {
                    "answer": "The privacy unit, delta, and how neighbouring data sets are defined",
                    "correct": True,
                    "feedback": "Yes; and then what is not covered: pretraining, choice of parameters, other releases.",
                },
                {
                    "answer": "The AUROC",
                    "correct": False,
                    "feedback": "Interesting, but it says nothing about the promise.",
                },
            ],
        },
        {
            "question": "The unit is the patient. At most K images of a patient enter a step (MAX_IMAGES_PER_PATIENT), and K is raised from 4 to 8. What happens to epsilon?",
            "type": "multiple_choice",
            "answers": [
                {
                    "answer": "It doubles.",
                    "correct": False,
                    "feedback": "The mean over the images is clipped, however many there are.",
                },
                {
                    "answer": "It stays.",
                    "correct": True,
                    "feedback": "Yes: a patient's contribution is at most C for any number of images.",
                },
            ],
        },
    ]
)

# %% [markdown]
# ## What to take home
#
# * An epsilon without its unit says nothing. Per image is weaker than per patient, by much for those who come often.
# * A patient's images are averaged, then clipped: then the number of images does not matter to the promise.
# * Who has many images is often who is ill: a promise per image protects them least.
#
# **Read on**: notebook 03, *Who is protected*; [Privacy](../../docs/privacy.md); Tayebi Arasteh et al. (2024), Methods, whose
# epsilons are per image; Xu et al. (2023), Learning to Generate Image Embeddings with User-level Differential Privacy, CVPR.
