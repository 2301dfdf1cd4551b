"""What follows from a film's native pixels: its hash, the range that is shown, whether it shows
anything.
"""

import io

import numpy as np
import pytest
from PIL import Image

from helpers.data.images import decode_film, film_pixels

RNG = np.random.default_rng(3)
# darker than the middle on average, so that it is the one of the negative pair that is hashed
PICTURE = (RNG.random((20, 30)) ** 2 * 255).astype(np.uint8)
PICTURE[0, :2] = 0, 255


def content(array, kind="PNG", mode=None, **options) -> bytes:
    """A file of a picture."""
    stream, image = io.BytesIO(), Image.fromarray(array)
    (image.convert(mode) if mode else image).save(stream, kind, **options)
    return stream.getvalue()


def turned_by_exif(array) -> bytes:
    """A file whose picture is upright after the turn that its EXIF asks for."""
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    return content(np.rot90(array).copy(), "PNG", exif=exif)


def sha256(encoded: bytes, **named) -> str:
    return film_pixels.pixels_sha256(decode_film.read(encoded, **named))


@pytest.mark.parametrize(
    "encoded",
    [
        content(PICTURE, "BMP"),
        content(PICTURE, "TIFF"),
        content(PICTURE, "TIFF", compression="tiff_lzw"),
        content(PICTURE, "PNG", compress_level=1),
        content(PICTURE, "GIF"),
        content(PICTURE, mode="RGB"),
        content(PICTURE, mode="RGBA"),
        content(PICTURE, mode="LA"),
        content(PICTURE, mode="P"),
        content(PICTURE.astype(np.uint16)),
        content(PICTURE.astype(np.uint16) * 257),
        content(PICTURE.astype(np.uint16) * 16 + 1000),
        content(PICTURE.astype(np.int32) - 70_000, "TIFF"),
        content(PICTURE.astype(np.float32), "TIFF"),
        content(255 - PICTURE),
        turned_by_exif(PICTURE),
    ],
)
def test_one_picture_has_one_hash_in_whatever_file(encoded):
    assert sha256(encoded) == sha256(content(PICTURE))


def test_a_negative_read_with_or_without_its_inversion_is_the_same_picture():
    deep = RNG.integers(0, 4096, (16, 16)).astype(np.uint16)
    for picture in (PICTURE, deep):
        negative = content(picture.max() - picture)
        assert sha256(negative, inverted=True) == sha256(negative) == sha256(content(picture))


def test_other_pictures_have_other_hashes():
    one_off = PICTURE.copy()
    one_off[5, 5] ^= 1
    deep = PICTURE.astype(np.uint16) * 16
    deeper = deep + (np.arange(PICTURE.size).reshape(PICTURE.shape) % 16).astype(np.uint16)
    fractions = PICTURE.astype(np.float32) / 7
    hashes = [
        sha256(content(picture, "TIFF"))
        for picture in (
            PICTURE,
            one_off,
            np.ascontiguousarray(PICTURE[:, ::-1]),
            np.ascontiguousarray(PICTURE.T),
            PICTURE.reshape(30, 20),
            PICTURE[:-1],
            deeper,
            fractions,
            fractions + np.eye(20, 30, dtype=np.float32),
        )
    ]
    assert len(set(hashes)) == len(hashes)


def test_grey_range_on_a_histogram_worked_by_hand():
    """1,000 pixels: 0 and 60,000 do not count; 998 of 100 to 1,097, one each.

    Percentiles 0.5 and 99.5 of these: the 5th (104) and the 994th (1,093); a tenth of 989 beyond
    would reach 5.1 and 1,191.9.
    """
    grey = np.concatenate([[0], np.arange(100, 1098), [60_000]]).astype(np.uint16).reshape(40, 25)
    film = film_pixels.film_of(grey)
    assert film.is_deep
    np.testing.assert_allclose(film_pixels.grey_range(film), (104 - 98.9, 1093 + 98.9))
    halves = film_pixels.film_of(grey.astype(np.float32) + np.float32(0.5))
    np.testing.assert_allclose(film_pixels.grey_range(halves), (5.6, 1192.4), atol=2)
    without = film_pixels.film_of(grey[:, 1:-1])  # no outlier: nothing is cut
    assert film_pixels.grey_range(without) == (without.grey.min(), without.grey.max())


def test_films_of_few_or_extreme_values_have_a_range():
    for values in ([0, 65535], [7, 9, 65535], [0, 300, 300, 65535]):
        grey = np.array(values * 5, np.uint16).reshape(5, -1)
        low, high = film_pixels.grey_range(film_pixels.film_of(grey))
        assert min(values) <= low < high <= max(values)


def test_a_film_of_noise_is_nearly_uniform_and_an_underexposed_one_is_not():
    noise = RNG.integers(100, 104, (40, 40))
    noise[0, 0] = 250
    dark = np.tile(np.arange(40) // 2, (40, 1))
    for type_ in (np.uint8, np.uint16):
        assert film_pixels.is_nearly_uniform(film_pixels.film_of(noise.astype(type_)))
        assert not film_pixels.is_nearly_uniform(film_pixels.film_of(dark.astype(type_)))
    assert film_pixels.is_nearly_uniform(film_pixels.film_of(noise.astype(np.uint16) * 257))
    assert not film_pixels.is_nearly_uniform(film_pixels.film_of(dark.astype(np.float32) / 7))


def test_up_to_a_quarter_of_the_pixels_far_from_the_rest_decide_nothing_about_the_contrast():
    rng = np.random.default_rng(4)
    lungs = rng.integers(1000, 5000, (200, 200)).astype(np.uint16)
    marker, noisy, dark = lungs.copy(), lungs.copy(), lungs + np.uint16(30000)
    marker[:10, :100], marker[:10, 100:140] = 65535, 64000  # 3.5 %
    noisy[:40] = rng.integers(60000, 60400, (40, 200))  # 20 %
    dark[:, :40] = rng.integers(0, 300, (200, 40))
    for film, low, high in ((marker, 1000, 5000), (noisy, 1000, 5000), (dark, 31000, 35000)):
        for shown in (film, 65535 - film):
            ends = film_pixels.grey_range(film_pixels.film_of(shown))
            wanted = (low, high) if shown is film else (65535 - high, 65535 - low)
            np.testing.assert_allclose(ends, wanted, atol=450)
    # clean films keep their ends, skewed ones too
    skewed = np.rint(4000 * rng.random((200, 200)) ** 4).astype(np.uint16)
    for clean in (lungs, skewed):
        film = film_pixels.film_of(clean)
        assert film_pixels.grey_range(film)[0] == film.ends[0]
        assert film_pixels.grey_range(film)[1] == film.ends[1]
