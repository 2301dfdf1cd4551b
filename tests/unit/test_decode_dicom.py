"""DICOM radiographs: every way to store one film gives one picture, bright = dense."""

import io

import numpy as np
import pytest
from dicom_phantoms import compressed, film, film_dataset, reread, saved
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_windowing
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from helpers.core import errors
from helpers.data.images import (
    decode_dicom,
    decode_film,
    dicom_library,
    dicom_volume,
    film_pixels,
    image_limits,
)
from helpers.data.tables import dicom_tags

# stored values 100..3943 of 12 bit, rising to the right
RAMP = np.tile(np.arange(64, dtype=np.uint16) * 61 + 100, (48, 1))
SHARE = (RAMP[0] - 100) / (RAMP[0, -1] - 100.0)  # what is wanted: 0 dark, 1 bright


def shares(encoded: bytes, **named: object) -> np.ndarray:
    """One row of the decoded film, from 0 to 1."""
    values = decode_dicom.grey(encoded, **named)
    assert values.dtype == np.float32
    row = values[values.shape[0] // 2]
    return (row - values.min()) / (values.max() - values.min())


@pytest.mark.parametrize(
    "stored, bits",
    [
        (RAMP, 12),
        (RAMP, 16),
        ((RAMP.astype(np.int16) - 2000), 12),
        ((RAMP >> 2).astype(np.uint16), 10),
        ((RAMP * 16).astype(np.uint16), 16),
        ((RAMP >> 4).astype(np.uint8), 8),
        (RAMP.astype(np.uint32) * 1000, 32),
    ],
)
@pytest.mark.parametrize("inverted", [False, True])
def test_grey_is_bright_for_dense_whatever_bits_sign_and_photometry(stored, bits, inverted):
    photometry = "MONOCHROME1" if inverted else "MONOCHROME2"
    row = shares(film(stored, bits, PhotometricInterpretation=photometry))
    np.testing.assert_allclose(row, 1 - SHARE if inverted else SHARE, atol=0.008)


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
)
def test_grey_reads_every_uncompressed_syntax(syntax):
    stored = RAMP.astype(">u2") if syntax == ExplicitVRBigEndian else RAMP
    np.testing.assert_allclose(shares(saved(film_dataset(stored, 12), syntax)), SHARE, atol=1e-6)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, RLELossless])
def test_grey_reads_compressed_films_bit_for_bit(syntax):
    encoded = saved(compressed(film_dataset(RAMP, 12), syntax))
    assert np.array_equal(decode_dicom.grey(encoded), RAMP)


def test_grey_reads_a_file_without_preamble_and_header():
    for syntax in (ImplicitVRLittleEndian, "1.2.840.10008.1.2.1"):
        dataset, stream = film_dataset(RAMP, 12), io.BytesIO()
        dataset.file_meta.clear()
        implicit = syntax == ImplicitVRLittleEndian
        dataset.save_as(stream, implicit_vr=implicit, little_endian=True)
        assert dicom_library.is_dicom(stream.getvalue()[:132])
        np.testing.assert_allclose(shares(stream.getvalue()), SHARE, atol=1e-6)


def test_grey_ignores_an_overlay_in_the_unused_high_bits():
    stored = RAMP.copy()
    stored[:, ::2] |= 1 << 13
    np.testing.assert_allclose(shares(film(stored, 12)), SHARE, atol=1e-6)
    signed = (RAMP.astype(np.int32) - 2000) & 0x0FFF  # without the sign in the upper bits
    row = shares(film(signed.astype(np.uint16).view(np.int16), 12))
    np.testing.assert_allclose(row, SHARE, atol=1e-6)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_grey_applies_rescale_and_the_first_window_as_pydicom_does(function):
    tags = dict(
        RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=[2500, 10], WindowWidth=[3000, 5]
    )
    encoded = film(RAMP, 12, VOILUTFunction=function, **tags)
    wanted = apply_windowing(RAMP.astype(float) * 2 - 1000, reread(encoded))
    low, high = -1000, 4095 * 2 - 1000  # of 12 bit, after the rescale
    np.testing.assert_allclose(decode_dicom.grey(encoded), (wanted - low) / (high - low), atol=2e-6)


@pytest.mark.parametrize(
    "centre, width",
    [(60000, 10), (2000, 0), ("", ""), (None, 100)],
)
def test_grey_ignores_a_window_that_leaves_one_value_or_none(centre, width):
    encoded = film(RAMP, 12, WindowCenter=centre, WindowWidth=width)
    np.testing.assert_allclose(shares(encoded), SHARE, atol=1e-6)


def look_up_table(entries: np.ndarray, first: int, bits: int, as_bytes: bool) -> Sequence:
    item = Dataset()
    item.LUTDescriptor, item.LUTExplanation = [len(entries), first, bits], "x"
    kind = "<u1" if bits == 8 else "<u2"
    item.LUTData = entries.astype(kind).tobytes() if as_bytes else entries.tolist()
    item["LUTDescriptor"].VR = "SS" if first < 0 else "US"
    item["LUTData"].VR = "OW" if as_bytes else "US"
    return Sequence([item])


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("as_bytes", [False, True])
def test_grey_applies_look_up_tables_also_of_8_bit_and_many_entries(bits, as_bytes):
    # 1,000 entries from stored value 1,000 on, falling: an S-shaped film, dark above
    entries = np.linspace(2**bits - 1, 0, 1000).round().astype(int)
    index = np.clip(RAMP[0].astype(int) - 1000, 0, 999)
    encoded = film(RAMP, 12, VOILUTSequence=look_up_table(entries, 1000, bits, as_bytes))
    assert np.array_equal(decode_dicom.grey(encoded)[3], entries[index])
    encoded = film(RAMP, 12, ModalityLUTSequence=look_up_table(entries, 1000, bits, as_bytes))
    assert np.array_equal(decode_dicom.grey(encoded)[3], entries[index])


def test_grey_looks_up_signed_values_from_a_negative_first_one():
    stored = RAMP.astype(np.int16) - 2000
    table = look_up_table(np.arange(1000), -500, 16, False)
    wanted = np.clip(stored[0].astype(int) + 500, 0, 999)
    assert np.array_equal(decode_dicom.grey(film(stored, 12, VOILUTSequence=table))[0], wanted)


@pytest.mark.parametrize("photometry", ["MONOCHROME1", "MONOCHROME2"])
def test_grey_turns_padding_black(photometry):
    stored = RAMP.astype(np.int16)
    stored[:10] = -2000
    encoded = film(stored, PixelPaddingValue=-2000, PhotometricInterpretation=photometry)
    values = decode_dicom.grey(encoded)
    assert (values[:10] == values[10:].min()).all()
    assert values.max() - values.min() == RAMP.max() - RAMP.min()


def test_monochrome1_is_inverted_once_also_where_the_manifest_says_inverted():
    one, two = (film(RAMP, 12, PhotometricInterpretation=f"MONOCHROME{n}") for n in (1, 2))
    falling = decode_film.decode(one, 64, "stretch")
    assert falling[32, 0] == 255 and falling[32, -1] == 0
    assert np.array_equal(decode_film.decode(one, 64, "stretch", inverted=True), falling)
    # a file whose tag is wrong, as a table says
    assert np.array_equal(decode_film.decode(two, 64, "stretch", inverted=True), falling)
    assert np.array_equal(255 - decode_film.decode(two, 64, "stretch"), falling)


def test_pictures_stored_in_colour_are_read_when_their_content_is_grey():
    grey = (RAMP >> 4).astype(np.uint8)
    colours = np.stack([grey] * 3, -1)
    colours[:2, :2] = [255, 0, 0]  # a mark
    np.testing.assert_allclose(shares(film(colours)), SHARE, atol=0.01)
    colours[:, :30] = [200, 0, 0]
    with pytest.raises(image_limits.UnusableImage, match="^colour image$"):
        decode_dicom.grey(film(colours))


def jpeg(mode: str, photometry: str, share: float = 1) -> bytes:
    """A film compressed by Pillow, of which a share of the stream is left."""
    picture, stream = Image.fromarray((RAMP >> 4).astype(np.uint8)).convert(mode), io.BytesIO()
    picture.save(stream, "JPEG", quality=95)
    dataset = film_dataset(np.asarray(picture), PhotometricInterpretation=photometry)
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.PixelData = encapsulate([stream.getvalue()[: int(share * stream.tell())]])
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    return saved(dataset)


@pytest.mark.parametrize("mode, photometry", [("L", "MONOCHROME2"), ("RGB", "YBR_FULL_422")])
def test_grey_reads_jpeg_and_refuses_half_of_it(mode, photometry):
    np.testing.assert_allclose(shares(jpeg(mode, photometry)), SHARE, atol=0.02)
    with pytest.raises(image_limits.UnusableImage, match="cannot be decoded"):
        decode_dicom.grey(jpeg(mode, photometry, 0.8))


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, RLELossless])
def test_a_file_cut_off_inside_its_pixels_is_damaged_not_without_an_image(syntax):
    encoded = saved(compressed(film_dataset(RAMP, 12), syntax))
    with pytest.raises(image_limits.UnusableImage, match="image cannot be decoded"):
        decode_dicom.grey(encoded[:-100])


@pytest.mark.parametrize("photometry", ["MONOCHROME1", "MONOCHROME2"])
def test_one_picture_as_dicom_and_as_png_has_one_hash_of_pixels(photometry):
    stored, stream = np.where(RAMP < 900, 100, RAMP).astype(np.uint16), io.BytesIO()
    Image.fromarray(stored).save(stream, "PNG")
    encodings = [
        stream.getvalue(),
        film(stored, 12, PhotometricInterpretation=photometry),
        film(stored, 12, PhotometricInterpretation=photometry, RescaleIntercept=-1024),
    ]
    hashes = {film_pixels.pixels_sha256(decode_film.read(encoded)) for encoded in encodings}
    assert len(hashes) == 1


def hash_of(encoded: bytes) -> str:
    return film_pixels.pixels_sha256(decode_film.read(encoded))


def test_a_window_and_padding_do_not_change_the_hash_of_the_picture():
    rng, stream = np.random.default_rng(3), io.BytesIO()
    stored = np.clip(RAMP + rng.integers(0, 50, RAMP.shape), 0, 4095).astype(np.uint16)
    stored[:4] = 0
    Image.fromarray(stored).save(stream, "PNG")
    look_up = (np.arange(4096) ** 2 / 4095).astype(np.uint16)
    encodings = [
        film(stored, 12),
        film(stored, 12, WindowCenter=2000, WindowWidth=1500),
        film(stored, 12, WindowCenter=2500, WindowWidth=3000, VOILUTFunction="SIGMOID"),
        film(stored, 12, VOILUTSequence=look_up_table(look_up, 0, 16, True)),
        film(stored, 12, PixelPaddingValue=0),
        film(stored, 12, RescaleSlope=0.25, RescaleIntercept=-7.5),
        film(stored, 12, PhotometricInterpretation="MONOCHROME1", PixelSpacing=[0.2, 0.1]),
    ]
    assert {hash_of(encoded) for encoded in encodings} == {hash_of(stream.getvalue())}
    other = stored.copy()
    other[10, 10] += 1  # outside the window that is shown
    assert hash_of(film(other, 12, WindowCenter=3500, WindowWidth=300)) != hash_of(encodings[0])


def reaching_to(high_bit: int, stored: np.ndarray) -> bytes:
    dataset = film_dataset(stored, 12)
    dataset.HighBit = high_bit
    return saved(dataset)


@pytest.mark.parametrize("is_signed", [False, True])
def test_values_in_the_upper_bits_are_read_from_there(is_signed):
    values = RAMP.astype(np.int16) - 2000 * is_signed
    stored = (values << 4) if is_signed else (RAMP << 4).astype(np.uint16)
    lower = values if is_signed else RAMP
    # the last one: a wrong HighBit of values in the lower bits
    films = [reaching_to(bit, words) for words, bit in ((lower, 11), (stored, 15), (lower, 15))]
    for encoded in films:
        np.testing.assert_array_equal(decode_dicom.grey(encoded), values)
    assert len({hash_of(encoded) for encoded in films}) == 1


@pytest.mark.parametrize("centre, width", [(100, 50), (3900, 100), (2000, 60)])
def test_a_window_that_leaves_hardly_a_level_is_ignored(centre, width):
    rng = np.random.default_rng(1)
    stored = np.clip(RAMP + rng.integers(0, 60, RAMP.shape), 0, 4095).astype(np.uint16)
    shown = decode_dicom.grey(film(stored, 12, WindowCenter=centre, WindowWidth=width))
    np.testing.assert_array_equal(shown, stored)


@pytest.mark.parametrize("tag", ["PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio"])
def test_pixels_that_are_not_square_are_shown_in_the_right_proportions(tag):
    stored = np.random.default_rng(2).integers(0, 4096, (30, 60)).astype(np.uint16)
    square, flat, tall = (
        decode_film.read(film(stored, 12, **{tag: ratio})) for ratio in ([1, 1], [2, 1], [1, 2])
    )

    def height_and_width(image):
        filled = np.argwhere(decode_film.square(image, 64) > 0)
        return (filled.max(0) - filled.min(0) + 1).tolist()

    assert height_and_width(square) == [32, 64]
    assert height_and_width(flat) == [64, 64] and height_and_width(tall) == [16, 64]
    with pytest.raises(image_limits.UnusableImage, match="pixels are not square"):
        decode_film.read(film(stored, 12, **{tag: [9, 1]}))


def test_a_pixel_spacing_of_0_says_nothing():
    stored = np.arange(40 * 20).reshape(40, 20)
    unknown, unsaid = (
        decode_film.decode(film(stored, 12, **tags), 40) for tags in ({"PixelSpacing": [0, 0]}, {})
    )
    assert (unknown == unsaid).all()


def test_a_deflated_file_is_measured_wherever_its_syntax_is_said(monkeypatch, tmp_path):
    dataset = film_dataset(RAMP * 0, 12)
    dataset.file_meta.PrivateInformationCreatorUID = "1.2.3"
    dataset.file_meta.PrivateInformation = b"x" * 3000
    for keyword in ("SourceApplicationEntityTitle", "ImplementationVersionName"):
        setattr(dataset.file_meta, keyword, "A" * 16)
    dataset.file_meta.FileMetaInformationVersion = b"y" * 2000  # before the syntax
    encoded = saved(dataset, DeflatedExplicitVRLittleEndian)
    assert encoded.index(b"1.2.840.10008.1.2.1.99") > 1024
    assert np.ptp(decode_dicom.grey(encoded)) == 0
    (tmp_path / "a.dcm").write_bytes(encoded)
    assert dicom_tags.read_header(tmp_path / "a.dcm")["unusable"] == ""
    monkeypatch.setattr(decode_dicom, "MAX_BYTES", 5000)
    monkeypatch.setattr(image_limits, "MAX_BYTES", 5000)
    monkeypatch.setattr(dicom_volume, "MAX_BYTES", 5000)
    with pytest.raises(image_limits.UnusableImage, match="image file too large"):
        decode_dicom.grey(encoded)
    assert dicom_tags.read_header(tmp_path / "a.dcm")["unusable"] == "image file too large"
    with pytest.raises(image_limits.UnusableImage, match="CT slice too large"):
        dicom_volume.read([tmp_path / "a.dcm"])


def without(keyword: str) -> bytes:
    dataset = film_dataset(RAMP, 12)
    del dataset[keyword]
    return saved(dataset)


def with_rows(rows: int) -> bytes:
    dataset = film_dataset(RAMP, 12)
    dataset.Rows = rows
    return saved(dataset)


def of_syntax(uid: str) -> bytes:
    dataset = film_dataset(RAMP, 12)
    dataset.file_meta.TransferSyntaxUID = uid
    dataset.PixelData = b"\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return saved(dataset)


@pytest.mark.parametrize(
    "encoded, reason",
    [
        (lambda: without("PixelData"), r"DICOM file without an image \(DX\)"),
        (lambda: without("Rows"), r"DICOM file without an image \(DX\)"),
        (lambda: film(np.zeros((2, 8), np.uint8))[:-9], "image cannot be decoded"),
        (
            lambda: film(np.zeros((2, 8), np.uint8), NumberOfFrames=2),
            "DICOM image of several frames",
        ),
        (lambda: with_rows(9000), "image cannot be decoded"),
        (lambda: of_syntax("1.2.840.10008.1.2.4.102"), "no decoder for .* MPEG-4 AVC/H.264"),
        (lambda: of_syntax("1.2.840.10008.1.2.4.90"), "image cannot be decoded"),
        (lambda: b"\0" * 128 + b"DICM", "image cannot be decoded"),
        (lambda: b"\0" * 128 + b"DICMgarbage" * 50, "image cannot be decoded|without an image"),
    ],
)
def test_grey_refuses_with_a_reason(encoded, reason):
    with pytest.raises(image_limits.UnusableImage, match=reason):
        decode_dicom.grey(encoded())


def test_a_damaged_file_does_not_give_away_other_tags(tmp_path):
    dataset = film_dataset(RAMP, 12, Modality="SR")
    del dataset["PixelData"]
    encoded = saved(dataset)
    at = encoded.index(b"\x08\x00\x60\x00CS") + 6
    damaged = encoded[:at] + (60).to_bytes(2, "little") + encoded[at + 2 :]
    assert b"Kreiskrankenhaus" in damaged[at : at + 62]
    with pytest.raises(image_limits.UnusableImage, match=r"\(modality not said\)$"):
        decode_dicom.grey(damaged)
    (tmp_path / "damaged").write_bytes(damaged)
    header = dicom_tags.read_header(tmp_path / "damaged")
    assert set(header.values()) == {"", "DICOM file cannot be read"}


def test_sizes_are_refused_before_anything_is_decoded(monkeypatch):
    monkeypatch.setattr(decode_dicom, "MAX_PIXELS", 64 * 48 - 1)
    monkeypatch.setattr(decode_dicom, "_decompressed", None)
    with pytest.raises(image_limits.UnusableImage, match="too many pixels"):
        decode_dicom.grey(film(RAMP, 12))
    monkeypatch.setattr(decode_dicom, "MAX_BYTES", 5000)
    deflated = saved(film_dataset(RAMP * 0, 12), DeflatedExplicitVRLittleEndian)
    assert len(deflated) < 1500
    with pytest.raises(image_limits.UnusableImage, match="image file too large"):
        decode_dicom.grey(deflated)


def test_without_pydicom_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(errors.InputError, match=r"pip install \.\[dicom\]"):
        decode_film.decode(b"\0" * 128 + b"DICM", 32)
