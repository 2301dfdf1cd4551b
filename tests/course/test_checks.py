"""The checks of lessons 1 to 3 refuse answers that are nearly right, and accept the solution.

Not tried: 3.5, which runs the self-test for each answer. Lessons 1 and 3 read the folder that
RESULTS_DIR names (`make nbval`).
"""

import os

import make_notebooks
import matplotlib.pyplot as plt
import pytest

RESAMPLED = """
def resampled_auroc(rows, stream):
    {drawn}
    return metrics.auroc(rows["label"].to_numpy()[films], rows["score"].to_numpy()[films])
"""
PAIRED = """differences = [
    resampled_auroc(test[{first!r}], np.random.default_rng([SEED, draw]))
    - resampled_auroc(test[{second!r}], np.random.default_rng([{seed}, draw]))
    for draw in range(N_RESAMPLES)
]"""
THRESHOLD = """valid_score = valid["score"]
threshold = np.quantile(valid_score[valid["label"] == 0], {level}, method="higher")
sensitivity = np.mean(scores[labels == 1] >= threshold)
false_positive_rate = {rate}"""
CHANGED = """changed = dict.fromkeys(["squared", "rounded", "absent twice"], by_hand)
changed[{name!r}] {change}"""
NOISY = """generator = torch.Generator().manual_seed(SEED)
noise = sigma * CLIP_NORM * torch.randn(n_weights, generator=generator, dtype=torch.float64)
noisy_mean = {mean}"""
RATIO = """
def signal_to_noise(clip_norm, which):
    trained = gradients[:, which]
    factors = (clip_norm / {norms}).clamp(max=1)
    total = (trained * factors[:, None]).sum(0)
    return float(total.norm() / (sigma * clip_norm * {size} ** 0.5))
"""
FEW_RESAMPLES = 60  # instead of lesson 1's, to save time
MOVED = "\nmoved = clipped.norm(dim=1)"

WRONG = {
    "1.1": [
        "by_hand = np.mean(scores[labels == 1][:, None] < scores[labels == 0])",
        "by_hand = 0.5",
    ],
    "1.2": [
        CHANGED.format(name="rounded", change="+= 0"),
        CHANGED.format(name="squared", change="= metrics.auroc(labels, scores.round(1))"),
    ],
    "1.3": [
        THRESHOLD.format(level=0.7, rate="np.mean(scores[labels == 0] >= threshold)"),
        THRESHOLD.format(level=0.8, rate="np.mean(valid_score[valid['label'] == 0] >= threshold)"),
    ],
    "1.4": [
        RESAMPLED.format(drawn="films = stream.integers(len(rows), size=len(rows))"),
        RESAMPLED.format(
            drawn="""codes, patients = pd.factorize(rows["patient_id"])
    drawn = stream.integers(len(patients), size=len(patients))
    films = np.flatnonzero(np.isin(codes, drawn))"""
        ),
    ],
    "1.5": [
        PAIRED.format(first="baseline", second="zero-shot", seed="SEED + 1"),
        PAIRED.format(first="zero-shot", second="baseline", seed="SEED"),
    ],
    "2.1": [
        "epsilon, smokers = np.log(3 / 4), 2 * (says_yes.mean() - 1 / 4)",
        "epsilon, smokers = np.log(3), says_yes.mean()",
    ],
    "2.2": [
        """
def delta_of_sum(epsilon, sigma):
    t = sigma**2 * epsilon
    return stats.norm.sf(t, 1, sigma) - np.exp(epsilon) * stats.norm.sf(t, 0, sigma)
"""
    ],
    "2.3": [
        "published, delta = 50, 0.01",
        "published, delta = 1e-3, 1 - 0.99 ** (1 / 50_000)",
    ],
    "2.4": [
        """together = 4.0
with_sampling = accounting.epsilon_of_all([Run(of_each, 0.1, 20)], DELTA)""",
        """together = accounting.epsilon_of_all([Run(of_each, 1.0, 40)], DELTA)
with_sampling = accounting.epsilon_of_all([Run(of_each, 0.1, 2)], DELTA)""",
    ],
    "2.5": ["needed = 100_000", "needed = 150_000"],
    "3.1": [
        """
def gradient_of(patient):
    here = index == patient
    loss = image_loss.image_losses(model(images[here]), labels[here]).sum()
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, parameters)])
"""
    ],
    "3.2": [
        "clipped = gradients * (CLIP_NORM / norms)[:, None]" + MOVED,
        "clipped = gradients.roll(1, 1) * (CLIP_NORM / norms).clamp(max=1)[:, None]" + MOVED,
    ],
    "3.3": [
        NOISY.format(mean="(gradients.sum(0) + noise) / N_PATIENTS"),
        NOISY.format(mean="clipped.mean(0) + noise"),
    ],
    "3.4": [
        RATIO.format(norms="norms", size="trained.shape[1]"),
        RATIO.format(norms="trained.norm(dim=1)", size="n_weights"),
    ],
}
needs_results = pytest.mark.skipif(
    "RESULTS_DIR" not in os.environ, reason="needs RESULTS_DIR; `make nbval` sets it"
)


def steps_of(number):
    """Return the code of a lesson, cell by cell, and which exercise's solution it is, if any."""
    source = next((make_notebooks.HERE / "source").glob(f"{number}_*.py"))
    lesson = make_notebooks.notebook(source, "gap")
    code = [cell for cell in lesson.cells if cell.cell_type == "code"]
    code = [cell for cell in code if not cell.source.startswith("display_quiz(")]
    solutions = [cell.id for cell in code if "solution" in cell.metadata.get("tags", [])]
    exercise = {cell_id: f"{number}.{n}" for n, cell_id in enumerate(solutions, 1)}
    return [(cell.source, exercise.get(cell.id)) for cell in code]


@pytest.mark.parametrize(
    "number", [pytest.param(1, marks=needs_results), 2, pytest.param(3, marks=needs_results)]
)
def test_checks_refuse_wrong_answers_and_accept_the_solution(number):
    plt.switch_backend("Agg")
    names, steps, tried = {}, steps_of(number), []
    last = max(n for n, (_, exercise) in enumerate(steps) if exercise in WRONG)
    for n, (source, exercise) in enumerate(steps[: last + 2]):
        for wrong in WRONG.get(exercise, []):
            of_student = dict(names)
            exec(wrong, of_student)
            with pytest.raises(AssertionError):
                exec(steps[n + 1][0], of_student)
        tried += [exercise] if exercise else []
        exec(source, names)
        names["N_RESAMPLES"] = FEW_RESAMPLES
        plt.close("all")
    assert tried == [exercise for exercise in WRONG if exercise.startswith(f"{number}.")]
