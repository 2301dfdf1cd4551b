# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Lesson 3: How do clipping and noise protect one patient in a step of training?
#
# **You will learn** to
#
# * compute one step of DP-SGD by hand: per-patient gradients, clipping, noise, mean;
# * see how far one patient can move a step, with clipping and without;
# * say why the private step divides by the *expected* number of patients, and what the clipping norm trades off;
# * check an implementation: one backward pass against one patient at a time, and a self-test that names what is broken.
#
# **Before you start**: lesson 2; gradients, `torch` at sight. The results of notebooks 01 and 02 (`make demo`), from `results/`
# or the folder that `RESULTS_DIR` names. Nothing is written. Films are drawn, and `demo` mode guarantees nothing: its noise
# repeats from a seed.
#
# | part | minutes |
# |---|---|
# | Twenty patients, twenty gradients (exercise 3.1) | 10 |
# | Clip (exercise 3.2) | 8 |
# | Noise and mean (exercises 3.3, 3.4) | 12 |
# | The same in one backward pass | 3 |
# | Break it (exercise 3.5) | 10 |

# %%
from unittest import mock

import matplotlib.pyplot as plt
import numpy as np
import torch
from jupyterquiz import display_quiz

from helpers.core import errors
from helpers.data import cohorts
from helpers.figures import house_style
from helpers.privacy import calibration, clipping, promise, sampling_and_noise
from helpers.training import (
    image_loss,
    network_settings,
    networks,
    private_step,
    self_test,
    starts,
    training_set,
)

plt.style.use(house_style.STYLE)

# %%
COHORT = "synthetic_cxr_private"  # the drawn private hospital
N_PATIENTS = 20  # looked at by hand
EPSILON, DELTA = 1.06, 1e-5  # a budget per patient
PASSES, BATCH_SIZE = 10, 256  # expected passes through the patients, expected patients in a step
SEED = 0

# %% [markdown]
# ## Twenty patients, twenty gradients
#
# The network of notebook 02, as the public data left it; all its weights are to be trained. Of the training patients we take
# twenty. `index` says whose each film is.

# %%
private = cohorts.read(COHORT)
settings = network_settings.read(COHORT)
start = starts.weights_to_start_from(settings.pretrain, private)
model, _ = starts.starting_model(
    private, start.weights, start.known, **settings.architecture, seed=SEED
)
model = model.double()  # 64-bit numbers, so that two ways of adding can be compared
parameters = [p for p in model.parameters() if p.requires_grad]
n_weights = sum(p.numel() for p in parameters)

data = training_set.TrainingSet.of(private, "patient")
chosen = np.random.default_rng(SEED).choice(len(data.units), N_PATIENTS, replace=False)
sizes = [len(data.units[patient]) for patient in chosen]
positions = np.concatenate([data.units[patient] for patient in chosen])
images, labels = data.batch(
    positions, np.zeros((len(positions), 2), int), settings.channels, torch.device("cpu")
)
images, index = (
    images.double(),
    torch.repeat_interleave(torch.arange(N_PATIENTS), torch.tensor(sizes)),
)
print(f"{n_weights:,} weights; {len(positions)} films of {N_PATIENTS} patients: {sizes}")

# %% [markdown]
# The loss of a film is a mean over its findings. A patient's gradient $g_u$ is the gradient of the mean loss of the patient's
# films.
#
# **Exercise 3.1.** Write `gradient_of(patient)`: a vector of `n_weights` numbers, the gradient of the mean of
# `image_loss.image_losses(model(films), labels_of_them)` over the films of `patient` (0 to 19), by
# `torch.autograd.grad(loss, parameters)`.


# %% tags=["gap"]
def gradient_of(patient):
    here = index == patient
    raise NotImplementedError(
        "Exercise 3.1: write this function; flatten the parts and join them by torch.cat."
    )


# %% tags=["solution"]
def gradient_of(patient):
    here = index == patient
    loss = image_loss.image_losses(model(images[here]), labels[here]).mean()
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, parameters)])


# %%
gradients = torch.stack([gradient_of(patient) for patient in range(N_PATIENTS)])
norms = gradients.norm(dim=1)
assert gradients.shape == (N_PATIENTS, n_weights)
every = torch.cat(
    [
        image_loss.image_losses(model(images[index == p]), labels[index == p]).mean()[None]
        for p in range(N_PATIENTS)
    ]
)
of_sum = torch.cat([part.flatten() for part in torch.autograd.grad(every.sum(), parameters)])
assert torch.allclose(gradients.sum(0), of_sum, atol=1e-8), (
    "the mean over a patient's films, all weights"
)
print(f"Exercise 3.1 is right: norms from {norms.min():.2f} to {norms.max():.2f}.")

# %% [markdown]
# Patients differ. Whoever has the largest gradient has the most to say, and is the easiest to find in the sum.

# %%
ax = plt.figure(figsize=(5.5, 2.6)).add_subplot()
ax.bar(range(N_PATIENTS), sorted(norms.tolist()))
ax.axhline(float(norms.median()), color="0.4", linestyle="--", label="median, our clipping norm C")
ax.set(xlabel="patient, in order", ylabel="L2 norm of the gradient", xticks=[])
ax.legend()
plt.show()

# %% [markdown]
# ## Clip
#
# Each gradient that is longer than $C$ is shortened to $C$: ${\bar g}_u = g_u \min(1, C / \lVert g_u \rVert)$. Its direction stays.
#
# **Exercise 3.2.** (a) Compute `clipped`, (20, n_weights). (b) Compute `moved`, for each patient by how much (L2 norm) the sum of
# clipped gradients changes when this patient is zeroed out.

# %%
CLIP_NORM = float(norms.median())

# %% tags=["gap"]
# clipped = ...
# moved = ...   twenty numbers
raise NotImplementedError("Exercise 3.2: replace this line by clipped and moved.")

# %% tags=["solution"]
clipped = gradients * (CLIP_NORM / norms).clamp(max=1)[:, None]
moved = torch.stack(
    [
        (clipped.sum(0) - clipped[torch.arange(N_PATIENTS) != p].sum(0)).norm()
        for p in range(N_PATIENTS)
    ]
)

# %%
assert torch.allclose(clipped.norm(dim=1), norms.clamp(max=CLIP_NORM)), (
    "min(1, C / norm) times the gradient"
)
assert torch.allclose(clipped, gradients * (CLIP_NORM / norms).clamp(max=1)[:, None]), (
    "keep the direction of each gradient"
)
assert torch.allclose(torch.as_tensor(moved), clipped.norm(dim=1)), (
    "the sum with everybody minus that without the patient"
)
print(
    f"Exercise 3.2 is right: without clipping a patient moves the sum by up to {norms.max():.2f},"
)
print(f"with clipping by at most C = {CLIP_NORM:.2f}, whoever the patient is.")

# %% [markdown]
# That bound is what the whole guarantee rests on: it holds for any patient whatever, also for one nobody has thought of, with
# broken films or wrong labels.
#
# ## Noise and mean
#
# Normal noise with standard deviation $\sigma C$ is added to every number of the sum, and the result is divided by the number of
# patients *expected* in a step, $q N$.

# %%
n_patients = len(data.units)
sample_rate = BATCH_SIZE / n_patients
steps = round(PASSES / sample_rate)
sigma = calibration.noise_multiplier_for(EPSILON, DELTA, sample_rate, steps)
print(
    f"{n_patients:,} patients, {steps} steps of about {BATCH_SIZE}: noise multiplier {sigma:.3f} for epsilon {EPSILON}."
)

# %% [markdown]
# **Exercise 3.3.** Compute `noisy_mean`, the gradient that the optimizer gets, from `clipped` as if these twenty had been drawn in
# a step of expected size 20. Draw the noise with `torch.randn(n_weights, generator=generator, dtype=torch.float64)`.

# %%
generator = torch.Generator().manual_seed(
    SEED
)  # a demo: whoever knows the seed can subtract the noise

# %% tags=["gap"]
# noisy_mean = ...
raise NotImplementedError("Exercise 3.3: replace this line by noisy_mean.")

# %% tags=["solution"]
noise = sigma * CLIP_NORM * torch.randn(n_weights, generator=generator, dtype=torch.float64)
noisy_mean = (clipped.sum(0) + noise) / N_PATIENTS

# %%
added = N_PATIENTS * noisy_mean - clipped.sum(0)
assert abs(added.std() / (sigma * CLIP_NORM) - 1) < 0.02, (
    "noise of standard deviation sigma * C, once"
)
again = torch.Generator().manual_seed(SEED)
noise = sigma * CLIP_NORM * torch.randn(n_weights, generator=again, dtype=torch.float64)
assert torch.allclose(added, noise), (
    "the sum of *clipped* gradients plus noise, divided by 20; run from the cell of the generator on"
)
print(
    f"Exercise 3.3 is right: norm of the clipped sum {clipped.sum(0).norm():.1f}, of the noise {added.norm():.1f}."
)

# %%
display_quiz(
    [
        {
            "question": "Why is the sum divided by the expected number of patients, and not by the number drawn in this step?",
            "type": "multiple_choice",
            "answers": [
                {"answer": "It is faster.", "correct": False, "feedback": "No: counting is cheap."},
                {
                    "answer": "The number drawn moves together with whether the patient was drawn. The accountant covers the noisy sum divided by a constant, and nothing else.",
                    "correct": True,
                    "feedback": "Yes. With the divisor fixed, a patient moves the mean by at most C / (q N), and only the noisy sum is seen.",
                },
                {
                    "answer": "The number drawn can be 0.",
                    "correct": False,
                    "feedback": "It can, and the step still adds noise then; but that is not the reason.",
                },
            ],
        },
        {
            "question": "In a step nobody was drawn. What must happen?",
            "type": "multiple_choice",
            "answers": [
                {
                    "answer": "The step is left out.",
                    "correct": False,
                    "feedback": "Then the missing step would tell that nobody was drawn.",
                },
                {
                    "answer": "Noise alone is released, and the step is counted.",
                    "correct": True,
                    "feedback": "Yes.",
                },
            ],
        },
    ]
)

# %% [markdown]
# The noise of a single step drowns the signal: twenty patients are few, and the weights many. Noise has norm
# $\sigma C \sqrt{d}$ for $d$ weights, the clipped sum of $n$ patients at most $n C$.
#
# **Exercise 3.4.** First predict: does a larger clipping norm help? Write `signal_to_noise(clip_norm, which)`: norm of the
# clipped sum of the twenty gradients, divided by $\sigma C \sqrt{d}$, with only the columns `which` of `gradients` trained
# (a slice; d is their number). The clipping then sees these columns only.


# %% tags=["gap"]
def signal_to_noise(clip_norm, which):
    trained = gradients[:, which]
    raise NotImplementedError("Exercise 3.4: write this function.")


# %% tags=["solution"]
def signal_to_noise(clip_norm, which):
    trained = gradients[:, which]
    factors = (clip_norm / trained.norm(dim=1)).clamp(max=1)
    total = (trained * factors[:, None]).sum(0)
    return float(total.norm() / (sigma * clip_norm * trained.shape[1] ** 0.5))


# %%
names = [name for name, p in model.named_parameters() if p.requires_grad]
in_head = np.cumsum([0] + [p.numel() for p in parameters])[
    names.index(next(n for n in names if n.startswith("head")))
]
parts = {"all weights": slice(0, None), "the head alone": slice(int(in_head), None)}
of_all = clipped.sum(0).norm() / (sigma * CLIP_NORM * n_weights**0.5)
assert np.isclose(signal_to_noise(CLIP_NORM, parts["all weights"]), float(of_all)), (
    "norm of the clipped sum over sigma * C * sqrt(d)"
)
of_head = gradients[:, parts["the head alone"]]
of_head = of_head * (CLIP_NORM / of_head.norm(dim=1)).clamp(max=1)[:, None]
ratio = of_head.sum(0).norm() / (sigma * CLIP_NORM * of_head.shape[1] ** 0.5)
assert np.isclose(signal_to_noise(CLIP_NORM, parts["the head alone"]), float(ratio)), (
    "clip by the norm of the trained columns, and d is their number"
)
print(
    f"Exercise 3.4 is right: at C {of_all:.4f} with all weights, {ratio:.4f} with the head alone."
)

# %% [markdown]
# Both over a range of clipping norms.

# %%
grid = np.geomspace(0.01, 10, 25) * CLIP_NORM
ax = plt.figure(figsize=(5, 2.8)).add_subplot()
for name, which in parts.items():
    ax.plot(
        grid,
        [signal_to_noise(c, which) for c in grid],
        label=f"{name} ({gradients[0, which].numel():,})",
    )
ax.set(xscale="log", yscale="log", xlabel="clipping norm C", ylabel="signal to noise, 20 patients")
ax.legend()
plt.show()

# %% [markdown]
# A clipping norm that is too large adds noise for nothing; a small one costs little but changes whose gradient counts. The head
# alone has few weights and so less noise: that is why this package trains the head alone at small budgets ([Recipe](../../docs/recipe.md)).
#
# ## The same in one backward pass
#
# A backward pass for each patient is slow. `helpers/privacy/clipping.py` gets the same clipped sum in one pass for all, from layer
# inputs and output gradients (how fast: [Results](../../docs/results.md)).

# %%
engine = clipping.ClippedSum(model, CLIP_NORM, networks.rows_per_image(model), max(sizes))
engine.add(image_loss.image_losses(engine.logits(images), labels), index, N_PATIENTS)
in_one_pass = torch.cat([part.flatten() for part in engine.take()])
difference = float((in_one_pass - clipped.sum(0)).norm() / clipped.sum(0).norm())
assert difference < 1e-5
print(f"Relative difference {difference:.1e}.")

# %% [markdown]
# ## Break it
#
# Code that looks right can be wrong without anybody noticing: the model still learns, even better. So the package tries
# each promise on the user's own network before it trains (notebook 03). `arm` is a private training, not yet begun.


# %%
def new_arm():
    fresh, _ = starts.starting_model(
        private, start.weights, start.known, **settings.architecture, seed=SEED, trained="head"
    )
    budget = promise.PrivacyBudget(EPSILON, DELTA, clip_norm=1.0)
    batching = promise.Batching(BATCH_SIZE, PASSES, max_images_per_patient=4)
    return private_step.PrivateArm(
        data, fresh, budget, batching, mode="demo", seed=SEED, lineage=start.lineage
    )


self_test.run(new_arm(), private)

# %% [markdown]
# Now without clipping: the arm's engine gets a clipping norm that no gradient reaches, while the promise stays.

# %%
arm = new_arm()
arm.clipped.clip_norm = 1e9
try:
    self_test.run(arm, private)
except errors.InputError as refused:
    print(refused)

# %% [markdown]
# **Exercise 3.5.** Plant another fault and see whether the self-test names it. Write `half_noise`, to take the place of the method
# `Randomness.noise(self, parameters, standard_deviation)`: noise of half the standard deviation. The original is `right_noise`.

# %%
right_noise = sampling_and_noise.Randomness.noise


# %% tags=["gap"]
def half_noise(self, parameters, standard_deviation):
    raise NotImplementedError("Exercise 3.5: write this function; it calls right_noise.")


# %% tags=["solution"]
def half_noise(self, parameters, standard_deviation):
    return right_noise(self, parameters, standard_deviation / 2)


# %%
message = ""
with mock.patch.object(sampling_and_noise.Randomness, "noise", half_noise):
    try:
        self_test.run(new_arm(), private)
    except errors.InputError as refused:
        message = str(refused)
assert "noise has its scale" in message, f"got {message!r}"
print("Exercise 3.5 is right. The self-test says:", message, sep="\n")

# %%
display_quiz(
    [
        {
            "question": "An implementation clips the gradient of each mini-batch instead of each patient's. Training works well. What is promised to a patient?",
            "type": "multiple_choice",
            "answers": [
                {
                    "answer": "The same epsilon",
                    "correct": False,
                    "feedback": "The accountant would say so, as it only knows sigma, q and steps. It would be wrong.",
                },
                {
                    "answer": "Much less: two batches that differ in one patient can have means 2 C apart, and the whole batch's norm is what is bounded",
                    "correct": True,
                    "feedback": "Yes: a sum over patients of which each is bounded by C is needed, and noise for that.",
                },
            ],
        }
    ]
)

# %% [markdown]
# ## What to take home
#
# * Sample by chance, clip each patient's gradient, add noise once, divide by a constant: every part is needed.
# * The bound on one patient comes from clipping, the cover from noise; the accountant only multiplies what both promise.
# * Test the step, not the accuracy: a broken private step learns better.
#
# **Read on**: notebook 03; [Privacy](../../docs/privacy.md); `tests/privacy_faults.py`, all faults that are planted; Abadi et al.
# (2016), Deep Learning with Differential Privacy, CCS; Bu et al. (2023), Differentially Private Optimization on Large Model at Small
# Cost, ICML.
