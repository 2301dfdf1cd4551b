"""Sampling and noise by their distributions.

The ledger, its words and the command line by what they must say.
"""

import json
import math
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import stats

from helpers.core import errors, paths, random_streams
from helpers.privacy import (
    __main__,
    accounting,
    attack_bounds,
    calibration,
    privacy_ledger,
    promise,
    sampling_and_noise,
    statement,
)

RUN = dict(
    unit="patient",
    n_units=2000,
    expected_batch_size=200,
    steps=20,
    steps_done=20,
    noise_multiplier=1.5,
    clip_norm=0.7,
    delta=1e-5,
    epsilon=2.0,
    max_images_per_unit=4,
    mode="private",
    lineage=[],
)


def test_check_delta_refuses_one_over_n_and_warns_above_a_tenth_of_it():
    with pytest.raises(errors.InputError, match="DELTA below 1 / 1,000 training patients"):
        promise.check_delta(1e-3, 1000, "patient")
    assert "weak promise" in promise.check_delta(5e-4, 1000, "patient")
    assert promise.check_delta(1e-5, 1000, "patient") == ""
    assert "weak promise" in promise.check_delta(1e-3, 1000, "patient", allow_weak=True)


def test_draw_units_is_poisson():
    source = sampling_and_noise.Randomness("private", 7, steps=1)
    draws = [source.draw_units(200, 0.1) for _ in range(2000)]
    sizes = np.array([len(d) for d in draws])
    # Binomial(200, 0.1): mean 20, variance 18. Fixed-size batches would have variance 0.
    assert sizes.mean() == pytest.approx(20, abs=5 * math.sqrt(18 / 2000))
    assert sizes.var() == pytest.approx(18, rel=0.2)
    entered = np.bincount(np.concatenate(draws), minlength=200)
    assert entered.min() > 0 and abs(entered - 200).max() < 6 * math.sqrt(180)  # every unit alike
    assert len(source.draw_units(50, 1e-9)) == 0


def noise_of(mode="demo", seed=7, step=3, deviation=0.6):
    shapes = [torch.zeros(300, 40), torch.zeros(8000)]
    source = sampling_and_noise.Randomness(mode, seed, steps=9)
    source.go_on_after(step)
    return source.noise(shapes, deviation)


@pytest.mark.parametrize("mode", ["demo", "private"])
def test_noise_has_the_scale_asked_for_and_not_two_thirds_or_three_halves_of_it(mode):
    flat = torch.cat([part.flatten() for part in noise_of(mode)]).numpy()
    assert stats.kstest(flat, stats.norm(0, 0.6).cdf).pvalue > 1e-6
    for wrong in (0.6 * 2 / 3, 0.6 * 3 / 2):
        assert stats.kstest(flat, stats.norm(0, wrong).cdf).pvalue < 1e-6


def test_noise_differs_between_parameters_and_steps_and_repeats_only_in_demo_mode():
    first, second = noise_of()
    assert abs(np.corrcoef(first.flatten()[:8000], second)[0, 1]) < 0.06
    assert abs(np.corrcoef(first.flatten(), noise_of(step=4)[0].flatten())[0, 1]) < 0.06
    assert torch.equal(first, noise_of()[0]) and not torch.equal(first, noise_of(seed=8)[0])
    assert not torch.equal(noise_of("private")[0], noise_of("private")[0])


def test_private_mode_ignores_every_global_seed():
    drawn = []
    for _ in range(2):
        torch.manual_seed(0)
        np.random.seed(0)
        drawn.append(sampling_and_noise.Randomness("private", 0, steps=1).draw_units(1000, 0.5))
    assert not np.array_equal(*drawn)


def test_private_mode_has_128_bits_of_the_operating_system_for_each_stream():
    streams = [
        stream.bit_generator.seed_seq
        for _ in range(3)
        for stream in sampling_and_noise.Randomness("private", 0, steps=1)._fresh.values()
    ]
    entropies = [seed.entropy for seed in streams]
    assert len(set(entropies)) == len(entropies) == 3 * (4 + sampling_and_noise.CHUNKS)
    assert all(seed.pool_size * 32 >= 128 for seed in streams)
    # The chance that 36 numbers of 128 random bits all begin with 16 zeros is 2^-480.
    assert max(entropies).bit_length() > 112


@pytest.mark.parametrize("mode", ["demo", "private"])
def test_noise_chunks_differ_from_each_other_across_steps_and_from_the_other_streams(mode):
    source = sampling_and_noise.Randomness(mode, 7, steps=3)
    parameters = [torch.zeros(sampling_and_noise.CHUNKS, 2000)]
    chunks = [chunk for _ in range(3) for chunk in source.noise(parameters, 1.0)[0].numpy()]
    chunks += [
        source._stream(name).standard_normal(2000, dtype=np.float32)
        for name in ("sampling", "images")
    ]
    # few chance repeats in 32 bits
    assert len({value for chunk in chunks for value in chunk}) > 0.99 * 2000 * len(chunks)
    between = np.corrcoef(chunks) - np.eye(len(chunks))
    assert np.abs(between).max() < 6 / math.sqrt(2000)


@pytest.mark.parametrize("threads", [1, 3, 16])
def test_noise_of_a_step_is_its_chunks_by_key_whatever_the_threads(threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    drawn = sampling_and_noise.Randomness("demo", 7, steps=1).noise(
        [torch.zeros(300, 500), torch.zeros(7)], 0.6
    )
    chunks = np.array_split(np.zeros(150_007), sampling_and_noise.CHUNKS)
    expected = [
        random_streams.random_stream(7, f"noise {k}", 0).standard_normal(
            len(chunk), dtype=np.float32
        )
        * np.float32(0.6)
        for k, chunk in enumerate(chunks)
    ]
    assert np.array_equal(torch.cat([part.flatten() for part in drawn]), np.concatenate(expected))


CPU = torch.device("cpu")  # where another generator stands for the GPU's, through the same lines


def test_noise_drawn_on_a_device_is_gaussian_and_of_128_bits_of_keys_for_each_step(monkeypatch):
    keys, seeds = np.random.default_rng(5), []
    manual_seed = torch.Generator.manual_seed

    class Generator(torch.Generator):
        def manual_seed(self, seed):
            seeds.append(seed)
            return manual_seed(self, seed)

    monkeypatch.setattr(torch, "Generator", Generator)
    drawn = [sampling_and_noise.of_device(keys, 200_000, 0.6, CPU).numpy() for _ in range(4)]
    assert len(set(seeds)) == 8 and 2**62 < max(seeds) < 2**64
    assert stats.kstest(drawn[0], stats.norm(0, 0.6).cdf).pvalue > 1e-6
    assert stats.kstest(drawn[0] ** 2, stats.gamma(0.5, scale=2 * 0.36).cdf).pvalue > 1e-6
    between = np.corrcoef(drawn) - np.eye(4)
    assert np.abs(between).max() < 6 / math.sqrt(200_000)
    assert abs(np.corrcoef(drawn[0][1:], drawn[0][:-1])[0, 1]) < 6 / math.sqrt(200_000)
    again = sampling_and_noise.of_device(np.random.default_rng(5), 200_000, 0.6, CPU).numpy()
    assert np.array_equal(again, drawn[0])  # demo mode resumes so


@pytest.mark.parametrize("mode", ["demo", "private"])
def test_off_the_cpu_noise_is_drawn_where_the_parameters_are(mode, monkeypatch):
    calls = []
    monkeypatch.setattr(
        sampling_and_noise,
        "of_device",
        lambda keys, n, deviation, device: (
            calls.append((keys.random(), n, deviation, device.type))
            or torch.zeros(n, device=device)
        ),
    )
    source = sampling_and_noise.Randomness(mode, 7, steps=2)
    parameters = [torch.zeros(3, 2, device="meta"), torch.zeros(5, device="meta")]
    for _ in range(2):
        assert [part.shape for part in source.noise(parameters, 0.6)] == [(3, 2), (5,)]
    assert [call[1:] for call in calls] == [(11, 0.6, "meta")] * 2
    assert calls[0][0] != calls[1][0] and source.released == 2


def test_noise_of_fewer_numbers_than_chunks_has_its_shapes():
    drawn = sampling_and_noise.Randomness("private", 0, steps=1).noise(
        [torch.zeros(1, 2), torch.zeros(())], 1.0
    )
    assert [part.shape for part in drawn] == [(1, 2), ()] and all(
        part.isfinite().all() for part in drawn
    )


def test_choose_images_takes_at_most_k_of_each_unit():
    units = [np.arange(5), np.array([9]), np.arange(20, 28)]
    chosen = sampling_and_noise.Randomness("demo", 1, steps=1).choose_images(units, 3)
    assert [len(c) for c in chosen] == [3, 1, 3]
    assert all(set(c) <= set(u) and len(set(c)) == len(c) for c, u in zip(chosen, units))


def test_streams_differ_by_seed_name_and_step():
    keys = [(0, "noise", 0), (1, "noise", 0), (0, "order", 0), (0, "noise", 1)]
    assert len({random_streams.random_stream(*key).integers(2**62) for key in keys}) == 4
    assert random_streams.random_stream(0, "noise", 5).integers(
        2**62
    ) == random_streams.random_stream(0, "noise", 5).integers(2**62)


# ---- ledger


def test_ledger_holds_what_was_spent_and_is_json():
    entries = privacy_ledger.ledger(**RUN | dict(steps_done=10))
    assert json.loads(json.dumps(entries, allow_nan=False)) == entries
    assert entries["epsilon_spent"]["PLD"] == accounting.epsilon_spent(1.5, 0.1, 10, 1e-5)
    assert entries["attack_bounds"] == attack_bounds.attack_bounds((accounting.Run(1.5, 0.1, 10),))
    assert (
        entries["adjacency"].startswith(
            "all images of one patient, present or zeroed out; the number of patients N is fixed"
            " and public"
        )
        and "epsilon_of_patient" not in entries
    )
    assert (
        "128 bits" in entries["generator"] and "Mironov" in entries["not_covered"]["floating point"]
    )
    assert "public" in entries["not_covered"]["number of units and expected batch"]


@pytest.mark.parametrize(
    "settings, guarantee",
    [
        ({}, "valid"),
        (dict(pos_weight="public"), "valid"),
        (dict(mode="demo"), "none: demo mode, "),
        (dict(noise_multiplier=0), "none: no noise"),
        (dict(noise_multiplier=1e-3), "none: no noise"),
        (
            dict(mode="demo", pos_weight="private labels"),
            "not valid (pos_weight from private labels)",
        ),
        (dict(delta=1 / 2000), "not valid (delta is 1 / number of units"),
        (dict(delta=0.99 / 2000), "valid"),
    ],
)
def test_ledger_says_when_there_is_no_guarantee(settings, guarantee):
    entries = privacy_ledger.ledger(**RUN | settings)
    assert entries["guarantee"].startswith(guarantee)
    json.dumps(entries, allow_nan=False)


def test_ledger_of_no_noise_has_no_epsilon_and_every_attack_succeeds():
    entries = privacy_ledger.ledger(**RUN | dict(noise_multiplier=0, epsilon=math.inf))
    assert (
        entries["epsilon_spent"] == {"PLD": None, "PRV": None, "RDP": None}
        and entries["epsilon_target"] is None
    )
    assert entries["attack_bounds"]["true_positive_rate"] == 1


def test_ledger_of_images_accounts_for_patients_with_several():
    entries = privacy_ledger.ledger(**RUN | dict(unit="image", max_images_per_patient=6))
    of_patient = entries["epsilon_of_patient"]
    assert list(of_patient) == ["2", "4", "6", "10"] and entries["adjacency"].startswith(
        "one image of those trained on, present or zeroed out"
    )
    assert of_patient["6"] == accounting.epsilon_for_patient(1.5, 0.1, 20, 1e-5, 6)
    assert (
        entries["epsilon_spent"]["PLD"]
        < of_patient["2"]
        < of_patient["4"]
        < of_patient["6"]
        < of_patient["10"]
    )


def test_ledger_has_a_line_about_weights_of_unknown_origin_and_about_no_others():
    """Also where the caller says what PRETRAIN was, as notebook 03 does."""
    said = {"pretraining data": "PRETRAIN = weights.safetensors"}
    for lineage, is_said in (
        (None, True),
        ([{}, {"cohort": "b", "patients": "k"}], True),
        ([], False),
        ([{"cohort": "b", "patients": "k"}], False),
    ):
        entries = privacy_ledger.ledger(**RUN | dict(lineage=lineage, handled=said))
        lines = statement.ledger_table(entries).set_index("entry")["value"]
        assert ("not covered: start of unknown origin" in lines) == is_said
        if is_said:
            assert (
                "nobody knows what these weights were trained on; if on these patients, the"
                in (lines["not covered: start of unknown origin"])
            )
            assert entries["guarantee"].startswith("valid only if the start never saw")


def test_ledger_takes_over_how_the_run_handled_what_is_not_covered():
    said = privacy_ledger.ledger(**RUN, pos_weight="public", handled={"thresholds": "none fitted"})[
        "not_covered"
    ]
    assert said["thresholds"] == "none fitted" and "public data" in said["class weights"]
    assert (
        set(privacy_ledger.NOT_COVERED) < set(said)
        and privacy_ledger.NOT_COVERED["thresholds"] != "none fitted"
    )


@pytest.mark.parametrize(
    "wrong", [dict(unit="hospital"), dict(mode="real"), dict(pos_weight="private")]
)
def test_ledger_refuses_unknown_settings(wrong):
    with pytest.raises(errors.InputError, match=f"got '{next(iter(wrong.values()))}'"):
        privacy_ledger.ledger(**RUN | wrong)


@pytest.mark.parametrize("steps_done", [21, -1])
def test_ledger_refuses_other_steps_than_planned(steps_done):
    with pytest.raises(
        errors.InputError, match=f"0 to 20 steps done, as planned; got {steps_done}"
    ):
        privacy_ledger.ledger(**RUN | dict(steps_done=steps_done))


# ---- words and table


def said_of(**settings):
    return statement.privacy_statement(privacy_ledger.ledger(**RUN | settings))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        dict(mode="demo"),
        dict(noise_multiplier=0),
        dict(pos_weight="private labels"),
        dict(unit="image", max_images_per_patient=7),
        dict(noise_multiplier=0.3),
    ],
)
def test_privacy_statement_is_three_sentences_with_unit_and_attack(settings):
    text, unit = said_of(**settings), settings.get("unit", "patient")
    assert len(re.findall(r"[.!?](?=\s|$)", text)) == 3
    bounds = attack_bounds.attack_bounds(
        (accounting.Run(settings.get("noise_multiplier", 1.5), 0.1, 20),)
    )
    shown = [float(number) for number in re.findall(r"at most ([\d.]+) %", text)]
    # Rounded up, never down, to a tenth of a percent.
    for percent, bound in zip(
        shown, (bounds["true_positive_rate"], bounds["posterior"]), strict=True
    ):
        assert 100 * bound - 1e-6 <= percent <= 100 * bound + 0.1
    assert f"accuses 1 % of the {unit}s" in text and f"sure of an accused {unit}" in text


@pytest.mark.parametrize(
    "noise_multiplier, found_percent, words",
    [
        (6.0, (1, 3), "a strong promise"),
        (1.4, (3, 10), "a moderate promise"),
        (0.8, (10, 90), "a weak promise: "),
        (0.3, (90, 100), "hardly a promise"),
    ],
)
def test_privacy_statement_calls_a_weak_promise_weak(noise_multiplier, found_percent, words):
    low, high = found_percent
    assert (
        low
        < 100
        * attack_bounds.attack_bounds((accounting.Run(noise_multiplier, 0.1, 100),))[
            "true_positive_rate"
        ]
        < high
    )
    assert f"This is {words}" in said_of(
        noise_multiplier=noise_multiplier, steps=100, steps_done=100
    )


@pytest.mark.parametrize(
    "settings, why",
    [
        (dict(mode="demo"), "its noise can be recomputed"),
        (dict(noise_multiplier=0), "no noise"),
        (dict(mode="demo", pos_weight="private labels"), "private labels"),
        (dict(delta=1e-3), "publishing one patient whole"),
    ],
)
def test_privacy_statement_says_when_there_is_no_guarantee(settings, why):
    text = said_of(**settings)
    assert (
        text.startswith("There is no privacy guarantee")
        and why in text.split(". ")[0]
        and "This is a " not in text
    )
    assert "no privacy guarantee" not in said_of()


def test_privacy_statement_of_a_run_without_noise_says_that_there_is_no_guarantee():
    said = statement.privacy_statement(None)
    assert said.startswith("There is no privacy guarantee for this model: it was trained without n")
    assert "Do not pass on" in said


def test_privacy_statement_of_images_names_the_weaker_promise_to_patients():
    spent = accounting.epsilon_for_patient(1.5, 0.1, 20, 1e-5, 4)
    text = said_of(unit="image", max_images_per_patient=4)
    assert (
        "a patient with several is protected less" in text and f"{spent:.4g} for 4 images" in text
    )


def test_ledger_table_shows_every_entry_as_text():
    entries = privacy_ledger.ledger(**RUN | dict(unit="image", max_images_per_patient=4))
    table = statement.ledger_table(json.loads(json.dumps(entries))).set_index("entry")["value"]
    assert (
        table["guarantee"] == "valid" and table["delta"] == "1e-05" and table["steps done"] == "20"
    )
    assert float(table["epsilon spent, PLD"]) == pytest.approx(
        entries["epsilon_spent"]["PLD"], rel=1e-3
    )
    assert float(table["epsilon of a patient with 4 images"]) == pytest.approx(
        entries["epsilon_of_patient"]["4"], rel=1e-3
    )
    assert all(f"not covered: {name}" in table.index for name in privacy_ledger.NOT_COVERED)
    assert table.map(type).eq(str).all() and table.index.is_unique


# ---- command line


def test_command_line_prints_each_accountant(capsys):
    arguments = (
        "--sample-rate 1/10 --noise-multiplier 1.5 --steps 20 --delta 1e-5 --images-per-patient 4"
    )
    assert __main__.main(arguments.split()) == 0
    printed = capsys.readouterr().out
    for name, epsilon in (
        ("PLD", accounting.epsilon_spent(1.5, 0.1, 20, 1e-5)),
        ("RDP", accounting.epsilon_spent(1.5, 0.1, 20, 1e-5, "RDP")),
        ("PLD, patient with 4 images", accounting.epsilon_for_patient(1.5, 0.1, 20, 1e-5, 4)),
    ):
        assert re.search(rf"{name} +{epsilon:.4g}$", printed, re.MULTILINE)


def test_command_line_prints_both_parts_together(capsys):
    arguments = (
        "--sample-rate 1/10 --noise-multiplier 1.5 --steps 20 --delta 1e-5 --head-steps 5"
        " --head-noise-multiplier 9 --images-per-patient 4"
    )
    assert __main__.main(arguments.split()) == 0
    printed = capsys.readouterr().out
    runs = [accounting.Run(1.5, 0.1, 20), accounting.Run(9.0, 1.0, 5)]
    of_four = [run._replace(n_images=4) for run in runs]
    for name, epsilon in (
        ("PLD", accounting.epsilon_of_all(runs, 1e-5)),
        ("PRV", accounting.epsilon_of_all(runs, 1e-5, "PRV")),
        ("PLD, patient with 4 images", accounting.epsilon_of_all(of_four, 1e-5)),
    ):
        assert re.search(rf"{name} +{epsilon:.4g}$", printed, re.MULTILINE)


def test_command_line_calibrates_both_parts_to_one_budget(capsys):
    arguments = (
        "--sample-rate 0.1 --target-epsilon 2 --steps 20 --delta 1e-5 --head-steps 5 --head-share"
        " 0.3"
    )
    assert __main__.main(arguments.split()) == 0
    first, head = calibration.noise_multipliers_for(2.0, 1e-5, 0.1, 20, 5, 0.3)
    assert capsys.readouterr().out.startswith(
        f"noise multiplier {first:.6g}, all weights\nnoise multiplier {head:.6g}, head\n"
    )


def test_command_line_calibrates(capsys):
    assert (
        __main__.main(
            [
                "--sample-rate",
                "0.1",
                "--target-epsilon",
                "2",
                "--steps",
                "20",
                "--delta",
                "1/100000",
            ]
        )
        == 0
    )
    assert (
        f"noise multiplier {calibration.noise_multiplier_for(2.0, 1e-5, 0.1, 20):.6g}"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    "arguments, said",
    [
        (
            "--sample-rate 1.5 --noise-multiplier 1 --steps 20 --delta 1e-5",
            "sample_rate to be a number in",
        ),
        ("--sample-rate 1/0 --noise-multiplier 1 --steps 20 --delta 1e-5", "such as 128/150188"),
        (
            "--sample-rate 0.1 --noise-multiplier 1 --target-epsilon 1 --steps 20 --delta 1e-5",
            "not allowed with",
        ),
        ("--sample-rate 0.1 --steps 20 --delta 1e-5", "required"),
        ("--sample-rate 0.1 --target-epsilon 1e-9 --steps 2000 --delta 1e-5", "Raise EPSILON"),
        (
            "--sample-rate 0.1 --target-epsilon 1 --steps 20 --delta 1e-5 --head-steps 5",
            "--head-steps goes with --head-share",
        ),
        (
            "--sample-rate 0.1 --noise-multiplier 1 --steps 20 --delta 1e-5 --head-share 0.3",
            "--head-steps goes with --head-share",
        ),
        (
            "--sample-rate 0.1 --target-epsilon 1 --steps 20 --delta 1e-5 --head-steps 5"
            " --head-share 1.5",
            "HEAD_SHARE to be a number in (0, 0.99]",
        ),
    ],
)
def test_command_line_refuses_in_one_paragraph(arguments, said, capsys):
    try:
        code = __main__.main(arguments.split())
    except SystemExit as left:  # argparse
        code = left.code
    printed = capsys.readouterr()
    assert (
        code == 2
        and printed.out == ""
        and said in printed.err
        and "\n\n" not in printed.err.strip()
    )


def test_command_line_runs_as_a_module_and_fails_without_a_traceback():
    arguments = "--sample-rate 2 --noise-multiplier 1 --steps 5 --delta 1e-5"
    done = subprocess.run(
        [sys.executable, "-m", "helpers.privacy", *arguments.split()],
        capture_output=True,
        text=True,
        cwd=paths.repository_root(),
    )
    assert done.returncode == 2 and done.stdout == "" and "Traceback" not in done.stderr
    assert done.stderr.startswith("python -m helpers.privacy: Expected sample_rate")
