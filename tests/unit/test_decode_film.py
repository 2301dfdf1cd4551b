"""Images: every encoding gives the same grey square; what cannot be used says why."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from helpers.data import decode_film

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
