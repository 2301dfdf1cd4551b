"""The checks of the lessons refuse answers that are nearly right, and accept the solution.

Not tried: 3.5, which runs the self-test for each answer. All but lesson 2 read the folder that
RESULTS_DIR names (`make nbval`). Lessons 4 to 6, which train models, are slow.
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
UNITS = """
def clip(gradient):
    return gradient * min(1.0, CLIP_NORM / float(gradient.norm()))
by_image = {by_image}
by_patient = {by_patient}
"""
BY_IMAGE = "float(sum(clip(gradient) for gradient in gradients).norm())"
BY_PATIENT = "float(clip(gradients.mean(0)).norm())"
WORTH = """delta_of_group = {delta}
run = (per_image.noise_multiplier, per_image.sample_rate, per_image.steps, DELTA)
worth = {{k: {epsilon} for k in (1, 2, 4, 8)}}"""
BY_SEX = """mean_auroc = {means}.unstack("sex")
contrast = mean_auroc["female"] - mean_auroc["male"]
change = contrast["private"] - contrast["no privacy"]"""
WORLDS = """gaps = worlds.max(axis=1) - worlds.min(axis=1)
signed = {signed}
share_of_gaps, share_of_signed = (gaps > 0).mean(), (signed > 0).mean()
p = ({whose} >= observed.max() - observed.min()).mean()"""
LAST_MINUS_FIRST = "worlds[bands[-1]] - worlds[bands[0]]"
WITHIN = """private = of_finding_1[of_finding_1["arm"] == "private"]
within = private.groupby(["scanner", "films"])[["label", "score"]].apply(auroc).unstack("films")
within["contrast"] = within["many"] - within["few"]
share = private.groupby("scanner")["patient_id"].{count}
share = share / share.sum()
common = {common}"""
OF_PATIENTS = """
def resample_patients(stream):
    drawn = {drawn}
    return np.concatenate([films_of_patient[patient] for patient in drawn])
"""
MEANS = """
def means_by_patient(labels, stream):
    n = len(labels)
    times = stream.multinomial({size}, np.full(n, 1 / n), size=N_RESAMPLES)
    return times @ {of} / ({size} * {films})
"""
RATES = """thresholds = np.sort(loss.ravel())
tpr = [(loss[{members}] {below} t).mean() for t in thresholds]
fpr = [(loss[{others}] {below} t).mean() for t in thresholds]
auroc = np.trapezoid([0, *tpr], [0, *fpr])"""
OFFLINE = """
def lira_offline(target):
    references = [model for model in range(N_MODELS) if {others}]
    without = np.where(is_member[references], np.nan, values[references])
    centre, variance = np.nanmean(without, axis=0), np.nanvar(without, axis=0, ddof={ddof})
    return (values[target] - centre) / steadied(variance, {freedom})
"""
ONLINE = """
def lira_online(target):
    references = [model for model in range(N_MODELS) if model // 2 != target // 2]
    without = np.where(is_member[references], np.nan, values[references])
    with_patient = np.where(is_member[references], values[references], np.nan)
    variance = (np.nanvar(without, axis=0, ddof=1) + np.nanvar(with_patient, axis=0, ddof=1)) / 2
    return (values[target] - {centre}) / steadied(variance, {freedom})
"""
MIDPOINT = "(np.nanmean(without, axis=0) + np.nanmean(with_patient, axis=0)) / 2"
FREEDOM = "N_MODELS // 2 - 2"
MOST_FOUND = """
def most_found(epsilon, delta, fpr):
    return min({bounds}, 1.0)
"""
FIRST = "np.exp(epsilon) * fpr + delta"
EXPOSED = """against = {against}
share_exposed = {share}"""
ALL_PAIRS = "(with_patient[:, None] > without_patient[None]).mean(axis=(0, 1))"

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
    "4.1": [
        "several, of_several = films_of[films_of > 1].sum() / len(train), (films_of > 1).mean()",
        "several = of_several = (films_of > 1).mean()",
    ],
    "4.2": [
        UNITS.format(
            by_image="sum(float(clip(gradient).norm()) for gradient in gradients)",
            by_patient=BY_PATIENT,
        ),
        UNITS.format(
            by_image=BY_IMAGE,
            by_patient="float(sum(map(clip, gradients)).norm()) / len(gradients)",
        ),
    ],
    "4.3": [
        WORTH.format(
            delta="3 * np.exp(2 * EPSILON) * DELTA",
            epsilon="k * accounting.epsilon_for_patient(*run, 1)",
        ),
        WORTH.format(delta="3 * DELTA", epsilon="accounting.epsilon_for_patient(*run, k)"),
    ],
    "4.4": [
        "epsilon_of_patient = k_most * EPSILON",
        """of_image = compared.loc["image", "promised"]
epsilon_of_patient = accounting.epsilon_for_patient(
    of_image.noise_multiplier, of_image.sample_rate, of_image.steps, DELTA, int(films_of.median())
)""",
    ],
    "5.1": [
        BY_SEX.format(means='rows.groupby(["arm", "sex"])[["label", "score"]].apply(auroc)'),
        BY_SEX.format(
            means='rows.groupby(["arm", "sex", "finding"])[["label", "score"]].apply(auroc)'
            '.groupby(["arm", "sex"]).mean()'
        ).replace('["female"] - mean_auroc["male"]', '["male"] - mean_auroc["female"]'),
    ],
    "5.2": [
        WORLDS.format(signed=LAST_MINUS_FIRST, whose="signed"),
        WORLDS.format(signed=f"-({LAST_MINUS_FIRST})", whose="gaps"),
        WORLDS.format(signed=f"({LAST_MINUS_FIRST}).abs()", whose="gaps"),
    ],
    "5.3": [
        WITHIN.format(count="size()", common='(within["contrast"] * share).sum()'),
        WITHIN.format(count="nunique()", common='within["contrast"].mean()'),
    ],
    "5.4": [
        OF_PATIENTS.format(drawn="stream.permutation(len(films_of_patient))"),
        OF_PATIENTS.format(
            drawn="stream.choice(len(films_of_patient), len(films_of_patient),"
            " p=np.array([len(films) for films in films_of_patient]) / len(label))"
        ),
        "resample_patients = resample_images",
    ],
    "5.5": [
        MEANS.format(size="n", of="labels[:, 0]", films="1"),
        MEANS.format(size="labels.size", of="labels.sum(axis=1)", films="labels.shape[1]"),
        MEANS.format(size="n", of="labels.max(axis=1)", films="1"),
    ],
    "6.1": [
        RATES.format(members="~is_member", others="is_member", below="<="),
        RATES.format(members="is_member", others="~is_member", below=">="),
    ],
    "6.2": [
        OFFLINE.format(others="model != target", ddof=1, freedom=FREEDOM),
        OFFLINE.format(others="model // 2 != target // 2", ddof=0, freedom=FREEDOM),
        OFFLINE.format(others="model // 2 != target // 2", ddof=1, freedom="N_MODELS - 2"),
    ],
    "6.3": [
        ONLINE.format(centre=MIDPOINT, freedom=FREEDOM),
        ONLINE.format(centre="np.nanmean(without, axis=0)", freedom=f"2 * ({FREEDOM})"),
    ],
    "6.4": [
        MOST_FOUND.format(bounds=FIRST),
        MOST_FOUND.format(bounds=f"{FIRST}, 1 - np.exp(-epsilon) * (1 - fpr)"),
    ],
    "6.5": [
        EXPOSED.format(
            against="(with_patient > without_patient).mean(axis=0)",
            share="(against >= 0.9).mean()",
        ),
        EXPOSED.format(against=ALL_PAIRS, share="(against >= 0.5).mean()"),
    ],
}
SAID = {  # to each of these, in this order
    "1.1": ["count all pairs", "count all pairs"],
    "1.2": ["rounding makes ties", "squaring keeps the order"],
    "1.3": ["are false positives", "without the finding"],
    "1.4": ["draw patients", "who is drawn twice counts twice"],
    "1.5": ["draw the same patients for both", "baseline minus zero-shot"],
    "2.1": ["the ratio of the two chances", "solve yes = 1/4"],
    "2.2": ["see the formula"],
    "2.3": ["solve 1 -", "number of patients times delta"],
    "2.4": ["both `Run`s in one list", "sample_rate 0.1, steps 20, one model"],
    "2.5": ["have more noise", "none of the slider's numbers"],
    "3.1": ["the mean over a patient's films"],
    "3.2": ["times the gradient", "keep the direction"],
    "3.3": ["the sum of .clipped. gradients", "noise of standard deviation"],
    "3.4": ["clip by the norm of the trained columns"] * 2,
    "4.1": ["a share of patients", "a share of films"],
    "4.2": ["take the norm of the sum", "average first"],
    "4.3": ["k = 2: the run per_image", "epsilon. delta"],
    "4.4": ["n_images is k_most"] * 2,
    "5.1": ["mean over findings first", "not the reverse"],
    "5.2": ["a gap as large as", "last band minus first band", "last band minus first band"],
    "5.3": ["shares of patients, not of films", "the sum of contrast x share"],
    "5.4": ["some patients come twice", "the same chance", "come equally often"],
    "5.5": ["all films of a patient count", "divided by 6 films", "all films of a patient count"],
    "6.1": ["the area under tpr", "calls more patients members"],
    "6.2": ["without the whole pair of the target; ddof=1"] * 3,
    "6.3": ["mean of both variances, twice the freedom"] * 2,
    "6.4": ["the exchanged sentence is the smaller", "delta belongs to the exchanged"],
    "6.5": ["over both axes of models", "the share of patients"],
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
    "number",
    [
        pytest.param(1, marks=needs_results),
        2,
        pytest.param(3, marks=needs_results),
        *(pytest.param(n, marks=[needs_results, pytest.mark.slow]) for n in (4, 5, 6)),
    ],
)
def test_checks_refuse_wrong_answers_and_accept_the_solution(number):
    plt.switch_backend("Agg")
    names, steps, tried = {}, steps_of(number), []
    checked = {  # the cell that says so comes last of those that check
        exercise: next(n for n, (code, _) in enumerate(steps) if f"{exercise} is right" in code)
        for exercise in WRONG
        if exercise.startswith(f"{number}.")
    }
    for n, (source, exercise) in enumerate(steps[: max(checked.values()) + 1]):
        for wrong, said in zip(WRONG.get(exercise, []), SAID.get(exercise, []), strict=True):
            of_student = dict(names)
            exec(wrong, of_student)
            with pytest.raises(AssertionError, match=said):
                for code, _ in steps[n + 1 : checked[exercise] + 1]:
                    exec(code, of_student)
        tried += [exercise] if exercise else []
        exec(source, names)
        if number == 1:
            names["N_RESAMPLES"] = FEW_RESAMPLES
        plt.close("all")
    assert tried == list(checked)
