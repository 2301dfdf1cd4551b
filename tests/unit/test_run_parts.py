"""A run of two parts, all weights and then the head: composed against direct integration and a
second accountant, calibrated to one budget, listed in ledger, register and statement.
"""

import dataclasses
import json
import math

import numpy as np
import private_arms
import pytest
from dp_accounting import dp_event
from dp_accounting.pld import pld_privacy_accountant
from scipy import stats

from helpers.core import errors
from helpers.privacy import (
    accounting,
    attack_bounds,
    calibration,
    composition,
    privacy_ledger,
    private_run_files,
    promise,
    register,
    run_parts,
    spending,
    statement,
)

HEAD = promise.HeadSteps(steps=20, clip_norm=0.3, share=0.4)
BOTH = (accounting.Run(1.5, 1 / 16, 64), accounting.Run(13.0, 1.0, 20))
DELTA = 1e-5


def settle(**changes):
    settings = dict(
        unit="patient",
        n_units=2000,
        most_images=2,
        epsilon=1.06,
        delta=DELTA,
        clip_norm=0.7,
        epochs=4,
        expected_batch_size=125,
        max_images_per_patient=3,
        mode="private",
        head=HEAD,
    )
    return private_arms.settle(**settings | changes)


def spent(*runs):
    return accounting.epsilon_of_all(runs, DELTA)


# ---- composition


def gaussian_delta(epsilon, mu):
    """Balle and Wang (2018), for any real epsilon."""
    return stats.norm.cdf(mu / 2 - epsilon / mu) - np.exp(epsilon) * stats.norm.cdf(
        -mu / 2 - epsilon / mu
    )


def composed_delta(epsilon, sigma, rate, mu):
    """Delta of two steps sampled at `rate` and of full batches that are one Gaussian of
    sensitivity / standard deviation mu, by integration over what the two steps release.
    """
    x, dx = np.linspace(-9 * sigma, 9 * sigma + 1, 701, retstep=True)
    without = stats.norm.pdf(x, 0, sigma)
    present = (1 - rate) * without + rate * stats.norm.pdf(x, 1, sigma)
    loss = np.log(present / without)
    deltas = []
    for density, of_step in ((present, loss), (without, -loss)):
        weights = np.multiply.outer(density, density) * dx**2
        losses = np.add.outer(of_step, of_step)
        deltas.append((weights * gaussian_delta(epsilon - losses, mu)).sum())
    return max(deltas)


@pytest.mark.parametrize(
    "sigma, rate, of_head, steps", [(1.0, 0.2, 9.0, 20), (0.6, 0.05, 4.0, 7), (2.0, 0.9, 2.0, 1)]
)
def test_epsilon_of_both_parts_bounds_direct_integration_and_is_near_it(
    sigma, rate, of_head, steps
):
    both = spent(accounting.Run(sigma, rate, 2), accounting.Run(of_head, 1.0, steps))
    mu = math.sqrt(steps) / of_head
    assert composed_delta(both, sigma, rate, mu) <= DELTA * (1 + 1e-6)
    assert composed_delta(0.997 * both, sigma, rate, mu) > DELTA


def test_epsilon_of_both_parts_agrees_with_dp_accounting_and_with_prv_and_lies_below_rdp():
    steps = [
        dp_event.SelfComposedDpEvent(
            dp_event.PoissonSampledDpEvent(run.sample_rate, dp_event.GaussianDpEvent(run[0]))
            if run.sample_rate < 1
            else dp_event.GaussianDpEvent(run[0]),
            run.steps,
        )
        for run in BOTH
    ]
    accountant = pld_privacy_accountant.PLDAccountant()
    accountant.compose(dp_event.ComposedDpEvent(steps))
    pld, prv, rdp = (accounting.epsilon_of_all(BOTH, DELTA, name) for name in ("PLD", "PRV", "RDP"))
    assert pld == pytest.approx(accountant.get_epsilon(DELTA), rel=2e-3)
    assert pld == pytest.approx(prv, rel=5e-3) and pld < rdp < 1.3 * pld
    alone = [accounting.epsilon_of_all((run,), DELTA, "RDP") for run in BOTH]
    assert max(alone) < rdp < sum(alone)


def test_prv_and_rdp_of_patients_with_several_images_are_not_numbers():
    runs = [run._replace(n_images=2) for run in BOTH]
    for name in ("PRV", "RDP"):
        assert math.isnan(accounting.epsilon_of_all(runs, DELTA, name))
        assert accounting.epsilon_of_all([runs[0]._replace(steps=0)], DELTA, name) == 0
        assert accounting.epsilon_of_all(
            [BOTH[0], BOTH[1]._replace(noise_multiplier=0)], DELTA
        ) == (math.inf)


@pytest.mark.parametrize("steps", [1, 20, 400])
@pytest.mark.parametrize("epsilon", [0.05, 0.29, 1.06, 7.89, 50])
def test_full_batches_alone_are_calibrated_to_the_closed_form(epsilon, steps):
    # T steps at noise multiplier s are one at s / sqrt(T); Balle and Wang (2018).
    sigma = calibration.noise_multiplier_for(epsilon, DELTA, 1.0, steps)
    mu = math.sqrt(steps) / sigma
    assert gaussian_delta(epsilon, mu) <= DELTA < gaussian_delta(0.99 * epsilon, mu)


# ---- calibration


@pytest.mark.parametrize("epsilon", [0.05, 0.29, 1.06, 7.89, 100])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_both_parts_together_keep_the_budget_and_use_it(epsilon, share):
    first, head = calibration.noise_multipliers_for(epsilon, DELTA, 1 / 16, 64, 20, share)
    runs = accounting.Run(first, 1 / 16, 64), accounting.Run(head, 1.0, 20)
    assert 0.98 * epsilon <= spent(*runs) <= epsilon
    assert 0.99 * share * epsilon <= spent(runs[1]) <= share * epsilon


def test_calibration_refuses_what_is_spent_besides_already():
    with pytest.raises(errors.InputError, match="Raise EPSILON"):
        calibration.noise_multiplier_for(0.5, DELTA, 0.1, 10, (accounting.Run(13.0, 1.0, 20),))


# ---- promise


def test_a_promise_of_two_parts_has_one_budget_and_lists_both():
    made = settle()
    first, head = made.parts
    assert head == promise.Part(2000, 20, 0.3, made.head.noise_multiplier)
    assert first == promise.Part(125, 64, 0.7, made.noise_multiplier)
    assert made.steps == 64 and made.total_steps == 84
    assert (first.sample_rate(2000), head.sample_rate(2000)) == (1 / 16, 1.0)
    assert made.runs() == (
        accounting.Run(made.noise_multiplier, 1 / 16, 64),
        accounting.Run(head.noise_multiplier, 1.0, 20),
    )
    assert 0.98 * 1.06 <= spent(*made.runs()) <= 1.06
    assert 0.99 * 0.4 * 1.06 <= spent(made.runs()[1]) <= 0.4 * 1.06
    assert made.noise_multiplier > settle(head=None).noise_multiplier


def test_steps_done_are_the_first_parts_first():
    made = settle()
    for done, each in ((0, (0, 0)), (5, (5, 0)), (64, (64, 0)), (65, (64, 1)), (84, (64, 20))):
        assert tuple(run.steps for run in made.runs(done)) == each
        assert tuple(run[:2] for run in made.runs(done)) == tuple(run[:2] for run in made.runs())
    for wrong in (-1, 85):
        with pytest.raises(errors.InputError, match=f"0 to 84 steps done, as planned; got {wrong}"):
            made.runs(wrong)


def test_a_promise_of_one_part_is_stored_as_in_version_0_3_0():
    stored = settle(head=None, epsilon=0.29, epochs=3).as_dict()
    assert json.dumps(stored) == (
        '{"unit": "patient", "n_units": 2000, "expected_batch_size": 125, "steps": 48, "clip_norm":'
        ' 0.7, "delta": 1e-05, "epsilon": 0.29, "mode": "private", "views_per_image": 1,'
        ' "pos_weight": "none", "max_images_per_unit": 3, "max_images_per_patient": 3,'
        ' "noise_multiplier": 5.29556}'
    )
    assert list(settle().as_dict().items())[-1] == ("head", dataclasses.asdict(settle().head))


def test_a_declared_noise_multiplier_is_that_of_both_parts_and_must_keep_the_budget_with_both():
    made = settle(mode="demo", noise_multiplier=0.0)
    assert [part.noise_multiplier for part in made.parts] == [0, 0]
    alone = accounting.epsilon_spent(3.0, 1 / 16, 64, DELTA)
    kept = settle(head=None, noise_multiplier=3.0, epsilon=1.01 * alone)
    assert kept.noise_multiplier == 3.0
    with pytest.raises(errors.InputError, match="NOISE_MULTIPLIER that keeps EPSILON"):
        settle(noise_multiplier=3.0, epsilon=1.01 * alone)


@pytest.mark.parametrize(
    "wrong, name",
    [
        (dict(steps=0), "HEAD_STEPS"),
        (dict(steps=2.5), "HEAD_STEPS"),
        (dict(clip_norm=0), "HEAD_CLIP_NORM"),
        (dict(clip_norm=math.inf), "HEAD_CLIP_NORM"),
        (dict(share=0), "HEAD_SHARE"),
        (dict(share=1.0), "HEAD_SHARE"),
    ],
)
def test_steps_of_the_head_out_of_range_are_refused(wrong, name):
    with pytest.raises(errors.InputError, match=f"Expected {name} to be"):
        settle(head=dataclasses.replace(HEAD, **wrong))


def test_a_run_of_the_head_alone_is_one_part_of_full_batches():
    made = settle(head=None, expected_batch_size=2000, epochs=20)
    assert made.runs() == (accounting.Run(made.noise_multiplier, 1.0, 20),)
    mu = math.sqrt(20) / made.noise_multiplier
    assert gaussian_delta(1.06, mu) <= DELTA < gaussian_delta(0.99 * 1.06, mu)


def test_a_second_part_makes_another_run_whatever_version_began_it():
    one, two = (
        {"promise": settle(head=head, noise_multiplier=50.0).as_dict()} for head in (None, HEAD)
    )
    rest = {"parameters": {}, "data": "d", "start": "s"}
    for before, now in ((one, two), (two, one)):
        assert [
            words[:4] for words in private_run_files.differences(before | rest, now | rest)
        ] == ["head"]
    for same in (one, two):
        assert not list(private_run_files.differences(same | rest, same | rest))


# ---- ledger


def ledger_of(made, done=None, **changes):
    done = made.total_steps if done is None else done
    return privacy_ledger.ledger(**made.as_dict() | changes, steps_done=done, lineage=[])


@pytest.mark.parametrize("done", [0, 40, 64, 70, 84])
def test_the_ledger_lists_both_parts_and_their_sum(done):
    made = settle()
    entries, runs = ledger_of(made, done), made.runs(done)
    assert json.loads(json.dumps(entries, allow_nan=False)) == entries
    assert entries["steps_planned"] == 84 and entries["steps_done"] == done
    assert entries["epsilon_spent"] == {
        name: accounting.epsilon_of_all(runs, DELTA, name) for name in accounting.ACCOUNTANTS
    }
    assert entries["attack_bounds"] == attack_bounds.attack_bounds(runs)
    assert privacy_ledger.runs_of(entries) == runs
    assert entries["parts"] == [
        {
            "trained": trained,
            "sampler": sampler,
            "expected_batch_size": batch,
            "sample_rate": batch / 2000,
            "steps_planned": part.steps,
            "steps_done": run.steps,
            "noise_multiplier": part.noise_multiplier,
            "clip_norm": clip_norm,
            "epsilon_alone": spent(run),
        }
        for trained, sampler, batch, clip_norm, part, run in zip(
            ("all weights", "head"),
            (
                "Poisson over patients",
                "every patient in every step (no sampling, no amplification)",
            ),
            (125, 2000),
            (0.7, 0.3),
            made.parts,
            runs,
        )
    ]


def test_attack_bounds_and_the_curve_are_those_of_both_parts():
    # (64 steps at sampling rate 1 and noise 16, 20 at noise 13) are one Gaussian.
    runs = (accounting.Run(16.0, 1.0, 64), accounting.Run(13.0, 1.0, 20))
    mu = math.sqrt(64 / 16**2 + 20 / 13**2)
    exact = stats.norm.cdf(stats.norm.ppf(0.01) + mu)
    assert exact <= attack_bounds.attack_bounds(runs)["true_positive_rate"] <= 1.002 * exact
    curve = attack_bounds.delta_curve(runs)
    deltas = gaussian_delta(curve["epsilon"], mu)
    assert (curve["delta"] >= deltas).all() and np.allclose(curve["delta"], deltas, rtol=0.02)


def test_a_ledger_of_one_part_has_no_parts_and_is_read_as_one_run():
    made = settle(head=None)
    entries = ledger_of(made, 10)
    assert "parts" not in entries and "head" not in entries
    assert privacy_ledger.runs_of(entries) == made.runs(10)
    assert entries["sampler"] == "Poisson over patients"
    full = ledger_of(settle(head=None, expected_batch_size=2000, epochs=20))
    assert full["sampler"] == "every patient in every step (no sampling, no amplification)"


def test_a_ledger_has_no_guarantee_where_one_part_has_no_noise():
    made = settle()
    silent = dataclasses.asdict(made.head) | {"noise_multiplier": 0.0}
    for changes in (dict(head=silent), dict(noise_multiplier=0.0)):
        entries = ledger_of(made, **changes)
        assert entries["guarantee"] == "none: no noise"
        assert entries["epsilon_spent"]["PLD"] is None
    assert ledger_of(made, head=silent)["parts"][1]["epsilon_alone"] is None
    assert ledger_of(made)["guarantee"] == "valid"


def test_a_ledger_of_images_counts_both_parts_for_a_patient_with_several():
    made = settle(unit="image")
    of_patient = ledger_of(made)["epsilon_of_patient"]
    runs = [run._replace(n_images=4) for run in made.runs()]
    assert of_patient["4"] == spent(*runs) > max(spent(run) for run in runs)


# ---- register


def line_of(made, steps=None, **more):
    return composition.line_of(made.as_dict(), steps) | {"is_ended": False, "why": ""} | more


def test_a_line_of_two_parts_composes_both_with_all_other_runs():
    made, other = settle(), settle(head=None, epsilon=0.5)
    line = line_of(made)
    assert line["steps_planned"] == line["steps"] == 84 and line["head"] == {
        "noise_multiplier": made.head.noise_multiplier,
        "sample_rate": 1.0,
        "steps_planned": 20,
    }
    assert composition.epsilon_together([line])[0] == spent(*made.runs())
    both = composition.epsilon_together([line, line_of(other)])[0]
    assert both == spent(*made.runs(), *other.runs()) > 1.06
    assert line_of(other).keys().isdisjoint({"first", "head"})


@pytest.mark.parametrize("steps", [1, 64, 70, 84])
@pytest.mark.parametrize("epsilon", [0.3, 8.0])
def test_a_reader_of_one_part_counts_at_least_what_two_parts_spend(epsilon, steps):
    # version 0.3 knows noise_multiplier, sample_rate and steps only
    made = settle(epsilon=epsilon)
    line = line_of(made, steps)
    known = (line[name] for name in ("noise_multiplier", "sample_rate", "steps", "delta"))
    assert accounting.epsilon_spent(*known) >= spent(*made.runs(steps)) > 0
    assert line["sample_rate"] == made.head.expected_batch_size / made.n_units == 1
    assert line["noise_multiplier"] == min(part.noise_multiplier for part in made.parts)


def test_a_reader_of_one_part_finds_no_bound_where_a_part_has_no_noise():
    stored = settle().as_dict()
    for silent in (
        {"noise_multiplier": 0.0},
        {"head": stored["head"] | {"noise_multiplier": 0.0}},
    ):
        line = composition.line_of(stored | silent)
        assert line["noise_multiplier"] == 0
        assert composition.epsilon_together([line])[0] == math.inf


def test_the_line_of_one_part_is_that_of_version_0_3():
    made = settle(head=None)
    assert list(composition.line_of(made.as_dict(), 5).items()) == [
        ("unit", "patient"),
        ("noise_multiplier", made.noise_multiplier),
        ("sample_rate", made.sample_rate),
        ("steps_planned", made.steps),
        ("steps", 5),
        ("delta", made.delta),
        ("pos_weight", "none"),
        ("n_images", 1),
    ]


@pytest.mark.parametrize("steps, each", [(0, (0, 0)), (50, (50, 0)), (70, (64, 6)), (90, (64, 26))])
def test_steps_that_count_are_the_first_parts_first_and_none_is_lost(steps, each):
    # 90: more noted than planned, as a damaged register may say
    made = settle()
    runs = composition.runs_of(line_of(made, steps), 1)
    assert tuple(run.steps for run in runs) == each
    assert composition.epsilon_together([line_of(made, steps)])[0] == spent(*runs)


def test_the_register_keeps_both_parts_and_counts_a_run_without_an_end_as_planned(tmp_path):
    kept, made = register.Register(tmp_path), settle()
    kept.append("begin", "a", run="r", patients="k", **composition.line_of(made.as_dict()))
    kept.append("checkpoint", "a", steps=70)
    assert composition.epsilon_together(kept.runs())[0] == spent(*made.runs())
    kept.append("end", "a", steps=70, why="given up")
    assert composition.epsilon_together(kept.runs())[0] == spent(*made.runs(70))
    row = composition.table(kept.runs()).iloc[0]
    assert row["steps"] == 70 and row["epsilon"] == spent(*made.runs(70))


def test_a_run_of_images_with_two_parts_counts_a_patient_with_all_images():
    made = settle(unit="image")
    runs = [run._replace(n_images=3) for run in made.runs()]
    assert composition.epsilon_together([line_of(made)])[0] == spent(*runs)
    line = line_of(made, run="r", time="2026-11-28T10:00:00")
    assert composition.table([line])["epsilon"][0] == spent(*made.runs())


def test_a_record_that_no_register_knows_counts_with_both_parts(tmp_path, monkeypatch):
    monkeypatch.delenv("PRIVACY_REGISTER", raising=False)
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    made = settle()
    record = {
        "run": "r",
        "arm": "dp",
        "uuid": "a",
        "parameters": {"max_images_per_patient": 3},
        "ledger": ledger_of(made, 70),
    }
    table, words = spending.spent([record])
    assert table["epsilon"].tolist() == [spent(*made.runs(70))]
    assert f"together epsilon {spent(*made.runs(70)):.4g} per patient" in words


# ---- words and table


def test_the_statement_counts_the_steps_of_both_parts():
    entries = ledger_of(settle(), 70)
    text = statement.privacy_statement(entries)
    assert (
        f"(epsilon {entries['epsilon_spent']['PLD']:.4g} at delta 1e-05, per patient, for 64 steps"
        " of all weights and 6 of the head together)" in text
    )
    assert "steps" not in statement.privacy_statement(ledger_of(settle(head=None)))


def test_the_table_has_rows_for_each_part_and_no_list():
    made = settle()
    entries = json.loads(json.dumps(ledger_of(made)))
    table = statement.ledger_table(entries).set_index("entry")["value"]
    assert table["steps planned"] == table["steps done"] == "84"
    assert table["all weights: steps done"] == "64" and table["head: steps done"] == "20"
    assert table["head: sampler"].startswith("every patient in every step")
    assert float(table["head: noise multiplier"]) == made.head.noise_multiplier
    assert table["head: epsilon alone"] == (
        f"{spent(made.runs()[1]):.4g} (PLD, as if it were the only part)"
    )
    # what differs between the parts does not stand as if it were the run's
    for name in ("sampler", "sample rate", "noise multiplier", "clip norm", "parts"):
        assert name not in table.index
    assert table.map(type).eq(str).all() and table.index.is_unique
    assert not table.str.contains(r"[\[{]").any()


def test_parts_are_named_in_the_order_of_training():
    assert run_parts.TRAINED == ("all weights", "head")
