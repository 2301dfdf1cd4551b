"""Images: every encoding gives the same grey square; what cannot be used says why."""

import functools
import io
import zlib

import numpy as np
import pytest
from PIL import Image

from helpers.data.images import decode_film

# grey values 20..146, rising to the right
RAMP = np.tile(np.arange(64, dtype=np.uint8) * 2 + 20, (64, 1))
SPREAD_OUT = np.rint((RAMP - 20) / 126 * 255).astype(np.uint8)  # minimum to 0, maximum to 255


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def grey(array: np.ndarray) -> bytes:
    return encoded(Image.fromarray(array))


@pytest.mark.parametrize(
    "mode, kind",
    [
        ("L", "PNG"),
        ("L", "TIFF"),
        ("L", "BMP"),
        ("RGB", "PNG"),
        ("RGBA", "PNG"),
        ("LA", "PNG"),
        ("P", "PNG"),
        ("P", "GIF"),
        ("CMYK", "TIFF"),
    ],
)
def test_decode_gives_the_same_square_for_every_encoding(mode, kind):
    image = (
        Image.fromarray(RAMP).convert("RGB").convert(mode)
        if mode == "CMYK"
        else Image.fromarray(RAMP).convert(mode)
    )
    assert np.abs(decode_film.decode(encoded(image, kind), 64).astype(int) - SPREAD_OUT).max() <= 1


def test_decode_keeps_sixteen_bits_until_the_contrast_is_spread():
    deep = RAMP.astype(np.uint16) + 40000  # in 8 bits this ramp would be one grey value
    assert np.array_equal(decode_film.decode(grey(deep), 64), SPREAD_OUT)


def test_decode_accepts_jpeg_and_inverts_on_request():
    upright = decode_film.decode(encoded(Image.fromarray(RAMP), "JPEG", quality=95), 64)
    assert np.abs(upright.astype(int) - SPREAD_OUT).max() <= 6
    assert np.array_equal(decode_film.decode(grey(RAMP), 64, inverted=True), 255 - SPREAD_OUT)


def test_decode_pads_to_keep_proportions_and_stretches_on_request():
    tall = np.tile(np.linspace(50, 200, 20, dtype=np.uint8), (40, 1))  # 40 high, 20 wide
    padded, stretched = (
        decode_film.decode(grey(tall), 40),
        decode_film.decode(grey(tall), 40, aspect="stretch"),
    )
    assert not padded[:, :10].any() and not padded[:, 30:].any() and padded[:, 10:30].any()
    assert (
        stretched.shape == (40, 40) and stretched[:, -1].min() > 240 and stretched[:, 5].max() > 0
    )


def test_spread_on_four_pixels_worked_by_hand():
    # values 10, 10, 20, 30: pixels up to each value 2, 2, 3, 4; lowest 2; (count - 2) / (4 - 2) *
    # 255
    assert decode_film.spread(np.array([[10, 10], [20, 30]], np.uint8)).tolist() == [
        [0, 0],
        [128, 255],
    ]
    flat = np.full((2, 2), 7, np.uint8)
    assert np.array_equal(decode_film.spread(flat), flat)


def test_equalised_image_has_every_grey_value_equally_often():
    rng = np.random.default_rng(7)
    image = (255 * rng.random((64, 64)) ** 1.8).astype(np.uint8)
    assert (
        abs(np.median(decode_film.decode(grey(image), 64, equalise=True)) - 128)
        < 12
        < abs(np.median(image) - 128)
    )


def test_decode_does_not_depend_on_other_images():
    first = decode_film.decode(grey(RAMP), 32, equalise=True)
    decode_film.decode(grey(RAMP[::-1] // 2), 32, equalise=True)
    assert np.array_equal(decode_film.decode(grey(RAMP), 32, equalise=True), first)


def header_of_a_bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
        )

    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", size + b"\x08\0\0\0\0")
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "content, reason",
    [
        (grey(RAMP)[:-60], "cannot be decoded"),
        (b"", "cannot be decoded"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "cannot be decoded"),
        (b"<svg/>", "cannot be decoded"),
        (header_of_a_bomb(9000, 9000), "too many pixels"),
        (header_of_a_bomb(100_000, 100_000), "too many pixels"),
        (grey(np.full((8, 8), 9, np.uint8)), "one grey value"),
        (
            encoded(Image.fromarray(np.where(RAMP == 20, np.float32(np.inf), RAMP)), "TIFF"),
            "infinite grey values",
        ),
        (
            encoded(Image.fromarray((RAMP - np.float32(80)) * np.float32(5e36)), "TIFF"),
            "infinite grey values",
        ),  # their difference would be
    ],
)
def test_decode_refuses_what_cannot_be_used_with_a_reason(content, reason):
    with pytest.raises(decode_film.UnusableImage, match=reason):
        decode_film.decode(content, 32)


@functools.cache
def chest(size: int = 256) -> np.ndarray:
    """12 bits that look like a film: dark lungs, a bright middle, noise."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    lungs = sum(np.exp(-(((x - side) / 0.3) ** 2) - (y / 0.6) ** 2) for side in (-0.5, 0.5))
    noise = np.random.default_rng(1).normal(0, 25, y.shape)
    return np.clip(3000 - 2300 * lungs + 500 * y + noise, 5, 4000).astype(np.uint16)


def with_outliers(film: np.ndarray, kind: str) -> np.ndarray:
    """A film with what scanners and archives leave in it."""
    spoilt = film.copy()
    if kind == "hot pixel":
        spoilt[0, 0] = 65535
    elif kind == "hot and dead pixels":
        spoilt[3:9, 3], spoilt[9:15, 3] = 61_000 + np.arange(6), 0
    elif kind == "burnt-in marker":  # 2 % of the film, with soft edges
        spoilt[20:56, 20:56], spoilt[19, 20:56] = 65535, 30_000
    elif kind == "dead line":
        spoilt[25] = 65535
    elif kind == "white border":
        spoilt[:, :40] = 65535
    elif kind == "black and white borders":
        spoilt[:, :40], spoilt[:30] = 0, 65535
    return spoilt


@pytest.mark.parametrize("equalise", [False, True])
@pytest.mark.parametrize("px", [256, 128])
@pytest.mark.parametrize(
    "kind",
    [
        "hot pixel",
        "hot and dead pixels",
        "burnt-in marker",
        "dead line",
        "white border",
        "black and white borders",
    ],
)
def test_outliers_do_not_squeeze_a_film_of_12_bits_into_few_grey_values(kind, px, equalise):
    film = chest()
    clean = decode_film.decode(grey(film), px, equalise=equalise)
    spoilt = decode_film.decode(grey(with_outliers(film, kind)), px, equalise=equalise)
    inside = np.s_[px // 4 :, px // 4 :]  # beside markers and borders
    if kind == "hot pixel":
        assert len(np.unique(spoilt)) >= 200
    assert len(np.unique(spoilt[inside])) >= 0.7 * len(np.unique(clean[inside]))
    assert np.corrcoef(spoilt[inside].ravel(), clean[inside].ravel())[0, 1] > 0.99


def test_a_deep_film_without_outliers_is_changed_little_by_its_range():
    film = chest()
    low, high = film.min(), film.max()
    plain = np.rint((film.astype(float) - low) / (int(high) - low) * 255)
    decoded = decode_film.decode(grey(film), 256).astype(int)
    assert np.abs(decoded - plain).max() <= 6
    spread = decode_film.spread(plain.astype(np.uint8)).astype(int)
    assert np.abs(decode_film.decode(grey(film), 256, equalise=True) - spread).mean() < 2


def test_a_deep_film_is_equalised_before_it_is_rounded_to_8_bits():
    """Nine tenths of the pixels in a hundredth of the range: they get nine tenths of the levels."""
    rng = np.random.default_rng(2)
    film = rng.integers(30_000, 30_600, (256, 256)).astype(np.uint16)
    film[:, :26] = rng.integers(0, 60_000, (256, 26))
    for content in (film, film.astype(np.float32) / 7):
        kind = "PNG" if content.dtype == np.uint16 else "TIFF"
        decoded = decode_film.decode(encoded(Image.fromarray(content), kind), 256, equalise=True)
        assert len(np.unique(decoded[:, 26:])) > 200


@pytest.mark.parametrize("equalise", [False, True])
@pytest.mark.parametrize("type_", [np.int32, np.float32])
def test_films_of_32_bits_are_cut_to_their_range_too(type_, equalise):
    film = chest().astype(type_) * (100 if type_ is np.int32 else np.float32(1e-3)) - type_(3)
    spoilt = film.copy()
    spoilt[0, 0], spoilt[0, 1] = 2e9, -1e9
    clean, decoded = (
        decode_film.decode(encoded(Image.fromarray(content), "TIFF"), 128, equalise=equalise)
        for content in (film, spoilt)
    )
    assert np.abs(clean[2:].astype(int) - decoded[2:]).max() <= 3


@pytest.mark.parametrize("equalise", [False, True])
@pytest.mark.parametrize("inverted", [False, True])
def test_a_film_of_8_bits_is_stretched_from_minimum_to_maximum_and_nothing_is_cut(
    equalise, inverted
):
    """The formula in full, on a film with one hot pixel; also where 16 bits hold it."""
    film = (chest() >> 5).astype(np.uint8)
    film[0, 0] = 255
    values = np.asarray(
        Image.fromarray(film).convert("F").resize((100, 100), Image.Resampling.BILINEAR)
    )
    low, high = values.min(), values.max()
    expected = np.rint((values - low) / (high - low) * 255).astype(np.uint8)
    expected = 255 - expected if inverted else expected
    expected = decode_film.spread(expected) if equalise else expected
    for content in (film, film.astype(np.uint16)):
        decoded = decode_film.decode(grey(content), 100, equalise=equalise, inverted=inverted)
        assert np.array_equal(decoded, expected)


def test_inversion_of_a_deep_film_turns_its_order_also_equalised():
    film = grey(chest())
    for equalise in (False, True):
        plain, inverted = (
            decode_film.decode(film, 64, equalise=equalise, inverted=turned).astype(int)
            for turned in (False, True)
        )
        assert np.corrcoef(plain.ravel(), inverted.ravel())[0, 1] < -0.99


def of_16_bit_colours(film: np.ndarray) -> bytes:
    """A PNG of three equal colours of 16 bits, which Pillow cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + kind + data + checksum

    rows = np.repeat(film[:, :, None], 3, 2).astype(">u2")
    content = b"".join(b"\0" + row.tobytes() for row in rows)
    size = film.shape[1].to_bytes(4, "big") + film.shape[0].to_bytes(4, "big")
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", size + b"\x10\x02\0\0\0")
        + chunk(b"IDAT", zlib.compress(content))
        + chunk(b"IEND", b"")
    )


def test_12_bits_in_colours_of_16_are_refused_since_16_levels_would_be_left():
    with pytest.raises(decode_film.UnusableImage, match="colour image of 16 bits"):
        decode_film.decode(of_16_bit_colours(chest()), 64)
    full = chest() * 16
    decoded = decode_film.decode(of_16_bit_colours(full), 64).astype(int)
    assert np.abs(decoded - decode_film.decode(grey(full), 64)).max() <= 8


def test_values_that_are_not_numbers_say_so():
    film = chest().astype(np.float32)
    film[0] = np.nan
    with pytest.raises(decode_film.UnusableImage, match="not numbers"):
        decode_film.decode(encoded(Image.fromarray(film), "TIFF"), 32)


@pytest.mark.parametrize(
    "kind, name", [("WEBP", "WebP"), ("JPEG2000", "JPEG 2000"), ("AVIF", "HEIF or AVIF")]
)
def test_the_reason_of_a_format_that_is_not_read_names_it_and_those_that_are(kind, name):
    image, stream = Image.new("L", (32, 32), 40), io.BytesIO()
    if kind == "AVIF":
        stream.write(b"\0\0\0\x20ftypavif")
    else:
        image.save(stream, kind)
    reason = f"^{name} image; read are PNG, JPEG, TIFF, BMP, GIF and DICOM$"
    with pytest.raises(decode_film.UnusableImage, match=reason):
        decode_film.read(stream.getvalue())
