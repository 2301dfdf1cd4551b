"""Grey values and Hounsfield units of real films and scans, where they are."""

import io
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from helpers.data.images import decode_film, decode_volume, film_pixels
from helpers.data.images.image_limits import UnusableImage

DATA = Path(os.environ.get("REAL_DATA_ROOT") or "/nowhere")
needs_films = pytest.mark.skipif(
    not (DATA / "chestxray14" / "images").is_dir(),
    reason="REAL_DATA_ROOT is not set, or has no chestxray14/images",
)
needs_ct = pytest.mark.skipif(
    not (DATA / "ct_nifti" / "totalseg_example_ct.nii.gz").exists(),
    reason="REAL_DATA_ROOT is not set, or has no ct_nifti/totalseg_example_ct.nii.gz",
)
GRID = dict(shape=(16, 24, 24), spacing_mm=(16.0, 12.0, 12.0), window_hu=(-150, 250))


def film(name: str) -> film_pixels.Film:
    """A real film by its patient and follow-up."""
    return decode_film.read((DATA / "chestxray14" / "images" / f"{name}.png").read_bytes())


def saved(array: np.ndarray, kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, kind)
    return stream.getvalue()


@needs_films
def test_identical_follow_ups_and_copies_in_other_files_are_one_picture_and_others_are_not():
    pairs = [("00002658_001", "_002"), ("00001989_004", "_005"), ("00000820_015", "_016")]
    hashes = set()
    for first, second in pairs:
        one = film_pixels.pixels_sha256(film(first))
        assert one == film_pixels.pixels_sha256(film(first[:8] + second))
        grey = film(first).grey
        for copy, kind in ((grey, "BMP"), (grey.astype(np.uint16) * 257, "TIFF")):
            read = decode_film.read(saved(copy, kind))
            assert film_pixels.pixels_sha256(read) == one
            small = decode_film.square(read, 48, equalise=True)
            assert np.array_equal(small, decode_film.square(film(first), 48, equalise=True))
        hashes.add(one)
    assert len(hashes) == len(pairs)


@needs_films
def test_a_real_film_in_12_bits_keeps_its_look_with_a_hot_pixel():
    grey = film("00002658_001").grey
    rng = np.random.default_rng(0)
    deep = (grey.astype(np.uint16) * 16 + rng.integers(0, 16, grey.shape)).astype(np.uint16)
    deep[0, 0] = 65535
    for equalise in (False, True):
        one, other = (
            decode_film.decode(saved(made, "PNG"), 64, equalise=equalise).ravel().astype(int)
            for made in (grey, deep)
        )
        assert np.corrcoef(one, other)[0, 1] > 0.995 and len(np.unique(other)) > 150


@needs_ct
@pytest.mark.parametrize("name", ["totalseg_example_ct", "totalseg_example_ct_sm"])
def test_a_real_scan_is_in_hounsfield_units_and_not_after_what_goes_wrong(name, tmp_path):
    path = DATA / "ct_nifti" / f"{name}.nii.gz"
    image = nibabel.load(path)
    values = np.asarray(image.dataobj).astype(np.float32)
    decoded, sha256 = decode_volume.decode(path, **GRID)
    assert 10 < decoded.mean() < 120
    crop = values[40:80, 40:80, 10:25]  # no air around it
    for right in (values, crop):
        nibabel.save(nibabel.Nifti1Image(right, image.affine), tmp_path / "right.nii")
        again, same = decode_volume.decode(tmp_path / "right.nii", **GRID)
        assert right is crop or (same == sha256 and np.array_equal(again, decoded))
    for wrong, words in (
        (values + 1024, "intercept missing"),
        (crop + 1024, "intercept missing"),
        (np.where(np.indices(values.shape)[0] < 9, -2000, values + 1024), "intercept missing"),
        (values - 1024, "intercept twice"),
        ((np.clip(values, -1000, 1000) + 1000) / 2000, "scaled to 0..1"),
        (np.rint((np.clip(values, -1000, 1000) + 1000) / 2000 * 255), "scaled to 0..255"),
    ):
        wrong = wrong.astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(wrong, image.affine), tmp_path / "wrong.nii")
        with pytest.raises(UnusableImage, match=words):
            decode_volume.decode(tmp_path / "wrong.nii", **GRID)
