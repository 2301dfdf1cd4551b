"""Hounsfield units are told by the bulk of a volume, whatever pads it."""

import numpy as np
import pytest

from helpers.data.images import hounsfield
from helpers.data.images.image_limits import UnusableImage

WINDOW = (-150, 250)


def scan(noise=15, seed=0):
    """An abdomen: air, fat, organs, a vessel with contrast, bone, lung bases."""
    rng = np.random.default_rng(seed)
    x, y, z = np.mgrid[-1:1:40j, -1:1:40j, 0:1:24j]
    volume = np.full(x.shape, -1000.0)
    volume[(x / 0.85) ** 2 + (y / 0.7) ** 2 < 1] = -100
    volume[(x / 0.75) ** 2 + (y / 0.6) ** 2 < 1] = 45
    volume[(abs(abs(x) - 0.4) < 0.2) & (abs(y) < 0.3) & (z > 0.8)] = -850
    volume[(x - 0.1) ** 2 + y**2 < 0.01] = 280
    volume[x**2 + (y + 0.4) ** 2 < 0.015] = 900
    return np.rint(np.clip(volume + rng.normal(0, noise, x.shape), -1024, 3071))


def outside(volume, value):
    """The volume with a padding outside its round field of view."""
    x, y, _ = np.mgrid[-1:1:40j, -1:1:40j, 0:1:24j]
    return np.where(x**2 + y**2 > 1.05, value, volume)


def crop(volume):
    """The middle of it, without air."""
    return volume[14:26, 14:26, 4:16]


METAL = scan()
METAL[18:22, 18:22, 5:9] = 3071
INSERT = np.random.default_rng(5).normal(50, 20, (20, 20, 20))  # of an organ alone
HEAD = np.where(np.indices((20, 20, 20))[0] < 5, 1100.0, 30.0)  # a quarter is bone
HEAD[:, :2] = -100  # fat
HEAD += np.random.default_rng(6).normal(0, 15, HEAD.shape)


@pytest.mark.parametrize(
    "values",
    [
        scan(),
        scan(noise=0),
        scan(noise=60),
        *(outside(scan(), padding) for padding in (-3024, -2000, -1024, -32768)),
        crop(scan()),
        crop(scan(noise=2)),
        METAL,
        INSERT,
        HEAD,
        np.rint(INSERT),
        scan()[:, :, -5:],  # lung bases
        np.where(scan() > -500, scan(), -1024),  # air set to one value
        np.clip(scan(), -150, 250),  # cut to the window that is asked for
        np.clip(scan(), -1000, 1000),
    ],
)
def test_hounsfield_units_are_accepted_also_without_air_with_metal_or_padded(values):
    assert hounsfield.doubt(values, WINDOW) is None


@pytest.mark.parametrize("padding", [None, -2000, -3024])
@pytest.mark.parametrize(
    "of, reason",
    [
        (lambda v: v + 1024, hounsfield.NO_INTERCEPT),
        (lambda v: np.clip(v + 1024, 0, None), hounsfield.NO_INTERCEPT),
        (lambda v: crop(v) + 1024, hounsfield.NO_INTERCEPT),
        (lambda v: v + 8192, hounsfield.NO_INTERCEPT),
        (lambda v: v - 1024, hounsfield.TWICE),
        (lambda v: (np.clip(v, -1024, 1100) + 1024) / 2124, hounsfield.TINY_UNIT),
        (lambda v: np.clip(v, -1000, 1000) / 1000, hounsfield.TINY_UNIT),
        (lambda v: (v - v.mean()) / v.std(), hounsfield.TINY_UNIT),
        (lambda v: (v + 1000) / 1000 * 0.19, hounsfield.TINY_UNIT),  # attenuation, 1/cm
        (lambda v: (v + 1000) * 0.19, hounsfield.NO_AIR),  # the same, 1/1000 cm
        (lambda v: np.rint((np.clip(v, -1000, 1000) + 1000) / 2000 * 255), hounsfield.NO_AIR),
        (lambda v: np.rint((np.clip(v, -150, 250) + 150) / 400 * 255), hounsfield.NO_AIR),
        (lambda v: np.rint((np.clip(v, -1024, 3071) + 1024) / 4095 * 255), hounsfield.NO_AIR),
        (lambda v: np.clip(v, 0, None), hounsfield.NO_AIR),
        (lambda v: np.rint((np.clip(crop(v), -200, 300) + 200) * 0.51), hounsfield.NO_AIR),
        (lambda v: np.clip(v, -160, 240), hounsfield.NARROW),
    ],
)
def test_other_units_are_refused_by_name_padded_or_not(of, reason, padding):
    values = of(scan())
    if padding is not None and values.shape == (40, 40, 24):
        values = outside(values, padding)
    assert hounsfield.doubt(values, (-1000, 400)) == reason


def test_a_small_body_in_a_large_field_does_not_hide_a_missing_intercept():
    stored = np.random.default_rng(2).normal(0, 12, (40, 40, 20))
    stored[16:26, 16:26] += 1064
    assert hounsfield.doubt(stored, WINDOW) == hounsfield.NO_INTERCEPT


def test_slope_and_intercept_count_and_8_bits_without_them_do_not():
    stored = (scan() + 1024).astype(np.uint16)
    hounsfield.refuse_other_unit(stored, 1.0, -1024.0, WINDOW)
    with pytest.raises(UnusableImage, match="intercept missing"):
        hounsfield.refuse_other_unit(stored, 1.0, 0.0, WINDOW)
    eight_bit = np.rint((crop(scan()) + 150) / 2).clip(0, 255).astype(np.uint8)
    with pytest.raises(UnusableImage, match="background"):
        hounsfield.refuse_other_unit(eight_bit, 1.0, 0.0, WINDOW)


def test_a_large_volume_is_sampled_with_the_same_outcome(monkeypatch):
    monkeypatch.setattr(hounsfield, "SAMPLED_VOXELS", 2000)
    hounsfield.refuse_other_unit(scan(), 1.0, 0.0, WINDOW)
    with pytest.raises(UnusableImage, match="intercept missing"):
        hounsfield.refuse_other_unit(outside(scan() + 1024, -2000), 1.0, 0.0, WINDOW)


def test_padding_becomes_air_in_stored_values_whatever_their_scale():
    volume = outside(scan(), -3024.0)
    wanted = np.where(volume < -1100, -1000, volume)
    for slope, intercept in ((1, 0), (0.5, -1024), (-2, 100)):
        stored = (volume - intercept) / slope
        air = hounsfield.without_padding(stored, slope, intercept) * slope + intercept
        np.testing.assert_allclose(air, wanted)
    assert hounsfield.without_padding(wanted, 1, 0) is wanted


def test_not_a_number_is_air_outside_the_field_of_view_and_refused_inside():
    volume = outside(scan(), np.nan)
    np.testing.assert_array_equal(
        hounsfield.air_outside(volume, 0.5, -24), np.where(np.isnan(volume), -1952, volume)
    )
    holes = [np.s_[20, 20, 10], np.s_[:, :, 10], np.s_[20], np.s_[:, 20]]
    for hole in holes:
        damaged = volume.copy()
        damaged[hole] = np.nan
        with pytest.raises(UnusableImage, match="inside it that are not numbers"):
            hounsfield.air_outside(damaged, 1, 0)
    volume[20, 20, 10] = np.inf
    with pytest.raises(UnusableImage, match="infinite"):
        hounsfield.air_outside(volume, 1, 0)


@pytest.mark.parametrize("padding", [None, -2000, -3024])
@pytest.mark.parametrize(
    "of",
    [
        lambda v: v + 200,
        lambda v: v + 300,
        lambda v: v - 200,
        lambda v: v - 300,
        lambda v: v * 10,
        lambda v: v * 2,
        lambda v: v * 0.5,
        lambda v: (v - v.min()) / (v.max() - v.min()) * 1000,
        lambda v: (v - v.min()) / (v.max() - v.min()) * 255,
    ],
)
@pytest.mark.parametrize("noise", [10, 60])
def test_another_scale_or_a_shift_is_refused_where_there_is_air(noise, of, padding):
    values = of(scan(noise))
    if padding is not None:
        values = outside(values, padding)
    assert str(hounsfield.doubt(values, WINDOW)).startswith("volume not in Hounsfield units")


def test_a_shift_of_less_than_100_and_two_paddings_are_accepted():
    for values in (
        scan() + 80,
        scan() - 80,
        np.where(scan() < -1040, -1500, outside(scan(), -2e3)),
    ):
        assert hounsfield.doubt(values, WINDOW) is None


@pytest.mark.parametrize("padding", [3071, 4095, 32767])
@pytest.mark.parametrize("intercept", [0, -1024])
def test_high_padding_outside_is_air_and_metal_inside_stays(padding, intercept):
    metal = scan()
    metal[18:22, 18:22, 5:9] = padding
    stored = (outside(metal, padding) - intercept).astype(np.int32)
    is_padding = hounsfield.high_padding(stored, 1.0, intercept)
    np.testing.assert_array_equal(is_padding, outside(np.zeros(metal.shape), 1) == 1)
    hounsfield.refuse_other_unit(stored, 1.0, intercept, WINDOW, is_padding)
    shown = hounsfield.with_air(stored, is_padding, 1.0, intercept) + intercept
    np.testing.assert_array_equal(shown, outside(metal, -1000))
    assert hounsfield.high_padding(metal, 1.0, 0) is None
    # another unit is told in spite of it
    with pytest.raises(UnusableImage, match="air lies elsewhere"):
        hounsfield.refuse_other_unit(stored + 200, 1.0, intercept, WINDOW, is_padding)


def test_padding_of_0_in_all_corners_is_refused_and_0_elsewhere_is_not():
    with pytest.raises(UnusableImage, match="which is water"):
        hounsfield.refuse_other_unit(outside(scan(), 0), 1.0, 0.0, WINDOW)
    with pytest.raises(UnusableImage, match="which is water"):
        hounsfield.refuse_other_unit(outside(scan(), 0) + 1024, 1.0, -1024.0, WINDOW)
    partly = scan()
    partly[0] = 0
    hounsfield.refuse_other_unit(partly, 1.0, 0.0, WINDOW)
