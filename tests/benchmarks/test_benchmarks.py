"""The benchmark times only right gradients, and its ratios, estimates and figures are what they
say.
"""

import json

import draw
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import private_step
import pytest
import variants

from helpers.core import errors

TINY = variants.Setting("tiny", 1, 48, 8, width=8)
MIB = 2.0**20
pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing")


@pytest.fixture(scope="module")
def rights():
    return {
        size: variants.right_gradient(TINY, size) for size in (0, 1, variants.IMAGES_PER_PATIENT)
    }


@pytest.mark.parametrize("name", variants.VARIANTS)
def test_every_variant_gives_the_gradient_of_one_unit_at_a_time(name, rights):
    kind = variants.VARIANTS[name]
    right, clip_norm = rights[kind.images_per_unit]
    for memory_format in kind.formats:
        assert variants.relative_error(kind(TINY, memory_format, False, clip_norm), right) < 1e-4
    if kind.images_per_unit:  # the check sees a clip norm that is too large
        assert (
            variants.relative_error(kind(TINY, "contiguous", False, 1.2 * clip_norm), right)
            > private_step.LARGEST_ERROR
        )


def test_opacus_hooks_are_wrong_in_channels_last(rights):
    right, clip_norm = rights[1]
    assert (
        variants.relative_error(
            variants.OpacusHooks(TINY, "channels_last", False, clip_norm), right
        )
        > 0.05
    )


def test_noise_is_added_and_a_step_moves_every_parameter(rights):
    for name in variants.PRIVATE:
        variant = variants.VARIANTS[name](TINY, "contiguous", False, rights[1][1])
        variant.set_gradients(0.0)
        quiet = [p.grad.clone() for p in variant.model.parameters()]
        variant.clear()
        variant.set_gradients(50.0)
        added = np.concatenate(
            [(p.grad - q).flatten().numpy() for p, q in zip(variant.model.parameters(), quiet)]
        )
        n_units = TINY.batch // variant.images_per_unit
        assert added.std() == pytest.approx(50.0 * variant.clip_norm / n_units, rel=0.05)
        variant.clear()
        before = [p.detach().clone() for p in variant.model.parameters()]
        variant.step()
        assert all((p != b).any() for p, b in zip(variant.model.parameters(), before))


def test_measure_gives_a_row_a_variant(monkeypatch):
    monkeypatch.setattr(private_step, "TURN_SECONDS", 1e-4)
    rows = private_step.measure(TINY, ["opacus hooks", "ours, image"], repeats=2, with_memory=False)
    assert [row["variant"] for row in rows] == [
        "non-private",
        "bare loop",
        "opacus hooks",
        "ours, image",
    ]
    assert (
        all(row["milliseconds"] > 0 and len(row["all_milliseconds"]) == 2 for row in rows)
        and len(rows[0]["tried"]) == 4
    )
    assert rows[0]["milliseconds"] == pytest.approx(min(rows[0]["tried"].values()), abs=0.01)


def test_candidates_leave_out_a_wrong_format_and_stop_where_none_is_right(
    monkeypatch, rights, capsys
):
    monkeypatch.setattr(variants.OpacusHooks, "formats", ("contiguous", "channels_last"))
    assert list(private_step.candidates("opacus hooks", TINY, rights, (False,))) == [
        "opacus hooks, contiguous, loop"
    ]
    assert "channels_last, loop is not timed" in capsys.readouterr().out
    monkeypatch.setattr(variants.OpacusHooks, "formats", ("channels_last",))
    with pytest.raises(SystemExit, match="Expected a right gradient from opacus hooks"):
        private_step.candidates("opacus hooks", TINY, rights, (False,))


def test_ratio_is_the_median_of_ratios_within_repetitions():
    class Stub:
        memory_format, foreach, error = "contiguous", False, 0.0

    # The machine is twice as slow in the second repetition: 1.5, 1.5 and 1.2, not 30 / 10.
    times = pd.DataFrame({"non-private": [10.0, 20.0, 10.0], "ours, image": [15.0, 30.0, 12.0]})
    row = private_step.row_of(times, "ours, image", Stub())
    assert (row["ratio"], row["milliseconds"], row["ratio_low"]) == pytest.approx((1.5, 15.0, 1.35))
    assert private_step.row_of(times, "ours, image", None) == {"remark": "out of memory"}


def test_too_slow_looks_at_the_image_level_in_64_and_224_px():
    timings = [
        ("64px_1ch", "ours, image", 1.39),
        ("224px_1ch", "ours, image", 1.41),
        ("demo", "ours, image", 2.0),
        ("64px_1ch", "opacus hooks", 4.0),
    ]
    rows = [dict(zip(("setting", "variant", "ratio"), row)) for row in timings]
    rows += [{"setting": "224px_3ch", "variant": "ours, image", "remark": "out of memory"}]
    assert private_step.too_slow(rows, 1.4) == ["224px_1ch: 1.41", "224px_3ch: inf"]
    # nothing looked at is no pass
    assert private_step.too_slow(rows[2:4], 1.4) == ["no 64 or 224 px setting: inf"]


def test_settings_measured_before_are_kept_from_the_same_machine_only(tmp_path):
    out, about = tmp_path / "a.json", private_step.about()
    rows = [{"setting": "64px_1ch", "ratio": 1.0}, {"setting": "demo", "ratio": 2.0}]
    out.write_text(json.dumps(about | {"rows": rows}))
    assert [row["setting"] for row in private_step.kept(out, ["64px_1ch"])] == ["demo"]
    assert private_step.kept(out, ["64px_1ch"])[0]["commit"] == about["commit"]
    out.write_text(json.dumps(about | {"rows": rows, "hardware": {}}))
    assert (
        private_step.kept(out, ["64px_1ch"]) == [] == private_step.kept(tmp_path / "none.json", [])
    )


def test_extrapolated_by_hand():
    assert private_step.extrapolated([(2.0, 10.0)], 4.0) == 20.0  # proportional
    # line through the last two
    assert private_step.extrapolated([(1.0, 9.0), (2.0, 10.0), (3.0, 12.0)], 5.0) == 16.0


def test_grow_stops_before_memory_or_patience_ends(monkeypatch):
    used = {16: 100 * MIB, 32: 200 * MIB}
    monkeypatch.setattr(
        private_step.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 350 * MIB})
    )
    monkeypatch.setattr(
        private_step,
        "in_child",
        lambda _, setting, *__, **___: {"milliseconds": 5.0, "peak_bytes": used[setting.batch]},
    )
    rows = private_step.grow("batch", "opacus hooks")
    assert [row.get("remark") for row in rows] == [None, None, "skipped: memory"] and rows[2][
        "estimated_bytes"
    ] == 400 * MIB
    monkeypatch.setattr(
        private_step, "in_child", lambda *_, **__: {"milliseconds": 15_000.0, "peak_bytes": 0}
    )
    rows = private_step.grow("batch", "opacus hooks")
    assert [row.get("remark") for row in rows] == [None, "skipped: time"] and rows[1][
        "estimated_seconds"
    ] == 30.0


@pytest.mark.slow  # imports torch and opacus once more
def test_a_child_reports_its_own_peak_memory():
    child_report = private_step.in_child("ours, image", TINY, "contiguous", False)
    assert child_report["milliseconds"] > 0 and 0 < child_report["peak_bytes"] < 1000 * MIB


def test_chosen_settings_refuse_an_unknown_name():
    assert [setting.name for setting in variants.chosen_settings(["64px", "demo"])] == [
        "64px_1ch",
        "64px_3ch",
        "demo",
    ]
    with pytest.raises(errors.InputError, match="100px"):
        variants.chosen_settings(["100px"])


def test_plot_ratios_draws_every_ratio_and_says_where_memory_ended():
    table = pd.DataFrame(
        {
            "setting": ["64px_1ch"] * 3,
            "variant": ["ours, image", "opacus hooks", "opacus ghost"],
            "ratio": [1.3, 4.0, np.nan],
            "ratio_low": [1.2, 3.9, np.nan],
            "ratio_high": [1.4, 4.2, np.nan],
        }
    )
    ax = draw.plot_ratios(table)
    heights = [
        bar.get_height()
        for bars in ax.containers
        if hasattr(bars, "patches")
        for bar in bars.patches
    ]
    assert sorted(height for height in heights if np.isfinite(height)) == [1.3, 4.0]
    assert {text.get_text() for text in ax.texts} == {"1.30", "4.00", "no memory"}
    plt.close("all")


def test_plot_growth_marks_where_a_variant_ends():
    table = pd.DataFrame(
        {
            "value": [16, 32, 16, 32],
            "variant": ["ours, image"] * 2 + ["opacus hooks"] * 2,
            "milliseconds": [100.0, 200.0, 400.0, np.nan],
            "remark": [None, None, None, "skipped: memory"],
        }
    )
    ax = draw.plot_growth(table, "images a batch")
    drawn = {line.get_label(): line for line in ax.lines}
    assert list(drawn["ours, image"].get_ydata()) == [10.0, 5.0]
    (end,) = [line for line in ax.lines if line.get_marker() == "x"]
    assert list(end.get_xdata()) == [16, 32] and list(end.get_ydata()) == [2.5, 2.5]
    plt.close("all")
