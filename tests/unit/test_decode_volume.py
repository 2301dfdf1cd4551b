"""NIfTI volumes of any orientation end on one grid.

What cannot be read is refused with a reason that can be counted.
"""

import nibabel
import numpy as np
import pytest
from nibabel.affines import from_matvec
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from helpers.data.images import decode_film, decode_volume

GRID = dict(shape=(12, 20, 24), spacing_mm=(4.0, 3.0, 2.0), window_hu=(-150, 250))


def body(spacing=(2.0, 3.0, 4.0), shape=(24, 20, 12)):
    """A volume in the scanner's axes (right to left reversed.

    RAS), with a mark high, in front and on the right.
    """
    x, y, z = np.meshgrid(
        *((np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(shape, spacing)), indexing="ij"
    )
    voxels = np.where((x / 22) ** 2 + (y / 28) ** 2 < 1, 40.0, -1000.0)
    # RAS: +x is the patient's right here
    voxels[(abs(x - 10) < 5) & (abs(y - 12) < 6) & (abs(z - 12) < 6)] = 240
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -(np.array(shape) - 1) / 2 * spacing
    return voxels.astype(np.int16), affine


def write(path, voxels, affine, **header):
    image = nibabel.Nifti1Image(voxels, affine)
    for name, value in header.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


def decode(*args, **named):
    """The grid alone."""
    return decode_volume.decode(*args, **named)[0]


@pytest.fixture
def expected(tmp_path):
    return decode(write(tmp_path / "plain.nii.gz", *body()), **GRID)


def test_the_grid_runs_from_head_to_feet_front_to_back_right_to_left(expected):
    assert expected.shape == (12, 20, 24) and expected.dtype == np.uint8
    bright = np.argwhere(expected > 240).mean(0) - (np.array(expected.shape) - 1) / 2
    np.testing.assert_allclose(bright * GRID["spacing_mm"], [-12, -12, -10], atol=2.1)


@pytest.mark.parametrize("codes", ["LPS", "LAS", "PIR", "SRA", "IPL"])
def test_flipped_and_permuted_files_give_the_same(codes, tmp_path, expected):
    voxels, affine = body()
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(codes))
    turned = nibabel.Nifti1Image(voxels, affine).as_reoriented(turn)
    assert np.allclose(turned.affine, affine @ inv_ornt_aff(turn, voxels.shape))
    decoded = decode(
        write(tmp_path / "turned.nii", np.asarray(turned.dataobj), turned.affine), **GRID
    )
    assert (decoded == expected).all()


def test_an_oblique_file_is_set_upright(tmp_path, expected):
    voxels, affine = body(shape=(60, 60, 40), spacing=(1.0, 1.2, 1.5))
    voxels_before = decode(write(tmp_path / "straight.nii.gz", voxels, affine), **GRID)
    angle = np.deg2rad(25)
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    oblique = from_matvec(turn @ affine[:3, :3], turn @ affine[:3, 3])
    from nibabel.processing import resample_from_to

    as_scanned = resample_from_to(
        nibabel.Nifti1Image(voxels, affine), (voxels.shape, oblique), order=1, cval=-1000
    )
    decoded = decode(
        write(
            tmp_path / "oblique.nii.gz", np.asarray(as_scanned.dataobj).astype(np.int16), oblique
        ),
        **GRID,
    )
    as_if_straight = decode(
        write(tmp_path / "ignored.nii.gz", np.asarray(as_scanned.dataobj).astype(np.int16), affine),
        **GRID,
    )
    right, wrong = (
        np.corrcoef(made.ravel(), voxels_before.ravel())[0, 1] for made in (decoded, as_if_straight)
    )
    assert right > 0.95 > wrong + 0.05


def test_finer_voxels_are_averaged_not_skipped(tmp_path):
    rng = np.random.default_rng(0)
    voxels = rng.normal(50, 80, (96, 80, 48)).astype(np.int16)
    voxels[0, 0, 0] = -1000
    affine = np.diag([0.5, 0.75, 1.0, 1.0])
    decoded = decode(
        write(tmp_path / "fine.nii.gz", voxels, affine), (8, 16, 20), (4.0, 3.0, 2.0), (-150, 250)
    )
    # 64 voxels each: an eighth of their spread, against all of it
    assert decoded.std() < 255 / 400 * 80 / 5


def test_slope_and_intercept_are_kept(tmp_path, expected):
    voxels, affine = body()
    image = nibabel.Nifti1Image(voxels.astype(float), affine)
    image.set_data_dtype(np.uint8)  # nibabel then stores slope and intercept
    image.to_filename(tmp_path / "scaled.nii")
    stored = nibabel.load(tmp_path / "scaled.nii").dataobj
    assert abs(stored.slope) > 1 and stored.inter != 0
    decoded = decode(tmp_path / "scaled.nii", **GRID)
    # of 255: a step of the stored values is about 5 Hounsfield units
    assert np.abs(decoded.astype(float) - expected).max() < 5


def test_the_size_is_cropped_or_padded_with_air(tmp_path):
    path = write(tmp_path / "plain.nii.gz", *body())
    padded = decode(path, (20, 40, 40), GRID["spacing_mm"], GRID["window_hu"])
    cropped = decode(path, (6, 10, 12), GRID["spacing_mm"], GRID["window_hu"])
    assert not padded[:3].any() and not padded[:, :8].any() and padded[10, 20, 20] > 0
    assert (padded[7:13, 15:25, 14:26] == cropped).all()


def test_the_grid_is_centred_on_a_mask_of_the_whole_organ(tmp_path):
    voxels, affine = body()
    path, labels = (
        write(tmp_path / "plain.nii.gz", voxels, affine),
        np.zeros(voxels.shape, np.uint8),
    )
    labels[14:19, 12:15, 7:11] = 4
    labels[16, 13, 8] = 1
    mask = write(tmp_path / "mask.nii.gz", labels, affine)
    decoded = decode(path, (8, 8, 8), (4.0, 3.0, 2.0), (-150, 250), mask, (1, 4))
    assert decoded[3:5, 3:5, 3:5].mean() > 150  # the bright mark
    # a lesion moves nothing
    assert (decoded == decode(path, (8, 8, 8), (4.0, 3.0, 2.0), (-150, 250), mask, (4,))).all()
    for wrong, words in (
        (tmp_path / "none.nii.gz", "absent"),
        (write(tmp_path / "empty.nii.gz", labels * 0, affine), "empty"),
    ):
        with pytest.raises(decode_film.UnusableImage, match=words):
            decode(path, (8, 8, 8), (4.0, 3.0, 2.0), (-150, 250), wrong, (1, 4))


def test_the_middle_is_that_of_the_whole_file_also_where_blocks_do_not_fit(tmp_path):
    """Blocks of 2 leave a voxel over.

    The file stored the other way round leaves the other end over.
    """
    voxels, affine = body(shape=(49, 41, 25), spacing=(1.0, 1.5, 2.0))
    turn = ornt_transform(io_orientation(affine), axcodes2ornt("LPI"))
    turned = nibabel.Nifti1Image(voxels, affine).as_reoriented(turn)
    one, other = (
        decode(
            write(tmp_path / f"{name}.nii", np.asarray(image.dataobj), image.affine), **GRID
        ).astype(float)
        for name, image in (("ras", nibabel.Nifti1Image(voxels, affine)), ("lpi", turned))
    )
    places = [
        np.array([(axis * made).sum() / made.sum() for axis in np.indices(made.shape)])
        for made in (one, other)
    ]
    # in voxels of 2 to 4 mm: the window cuts the edges of blocks
    assert np.abs(places[0] - places[1]).max() < 0.35


def test_a_scan_has_one_hash_however_its_file_is_packed_typed_scaled_or_turned(tmp_path):
    voxels, affine = body(shape=(25, 21, 13))
    turned = nibabel.Nifti1Image(voxels, affine).as_reoriented(
        ornt_transform(io_orientation(affine), axcodes2ornt("PSR"))
    )
    scaled = nibabel.Nifti1Image(((voxels + 1024) * 2).astype(np.uint16), affine)
    scaled.header.set_slope_inter(0.5, -1024)
    (tmp_path / "scaled.nii").write_bytes(scaled.to_bytes())
    tilted = affine.copy()
    tilted[0, 1] = 1e-6
    mask = write(tmp_path / "mask.nii", (voxels > 200).astype(np.uint8), affine)
    of = {
        decode_volume.decode(path, **GRID, **more)[1]
        for path, more in (
            (write(tmp_path / "plain.nii", voxels, affine), {}),
            (write(tmp_path / "packed.nii.gz", voxels.astype(np.float32), affine), {}),
            (tmp_path / "scaled.nii", {}),
            (write(tmp_path / "turned.nii", np.asarray(turned.dataobj), turned.affine), {}),
            (write(tmp_path / "tilted.nii", voxels, tilted), {}),
            (tmp_path / "plain.nii", dict(mask=mask, mask_labels=(1,))),
        )
    }
    voxels[5, 5, 5] += 1
    assert (
        len(of) == 1
        and decode_volume.decode(write(tmp_path / "other.nii", voxels, affine), **GRID)[1] not in of
    )
    assert (decode(tmp_path / "scaled.nii", **GRID) == decode(tmp_path / "plain.nii", **GRID)).all()


@pytest.mark.parametrize("padding", [-3024, -2000, np.nan])
def test_padding_outside_the_field_of_view_is_air_also_beside_tissue(padding, tmp_path, expected):
    voxels, affine = body()
    padded = np.where(voxels == -1000, np.float32(padding), voxels)
    assert np.array_equal(decode(write(tmp_path / "padded.nii", padded, affine), **GRID), expected)
    sparse = dict(shape=(6, 10, 12), spacing_mm=(8.0, 6.0, 4.0), window_hu=(-1000, 400))
    of_air, of_padding = (
        decode(write(tmp_path / "sparse.nii", made, affine), **sparse) for made in (voxels, padded)
    )
    assert np.array_equal(of_padding, of_air)  # blocks of both tissue and padding


def test_values_that_are_not_hounsfield_units_are_refused_whatever_pads_them(tmp_path):
    voxels, affine = body()
    stored = voxels + 1024
    padded = np.where(np.indices(stored.shape)[0] < 2, -2000, stored).astype(np.int16)
    for made, words in (
        (stored, "rescale intercept missing"),
        (padded, "rescale intercept missing"),
        (voxels - 1024, "intercept twice"),
        ((stored / 1264).astype(np.float32), "scaled to 0..1"),
        (np.rint(stored / 1264 * 255).astype(np.uint8), "scaled to 0..255"),
    ):
        with pytest.raises(decode_film.UnusableImage, match="not in Hounsfield.*" + words):
            decode(write(tmp_path / "wrong.nii", made, affine), **GRID)


def test_the_reason_of_a_mask_is_not_told_of_its_volume(tmp_path):
    voxels, affine = body()
    path = write(tmp_path / "plain.nii.gz", voxels, affine)
    labels = (voxels > 200).astype(np.uint8)
    no_bytes, damaged, elsewhere = (tmp_path / f"{name}.nii.gz" for name in ("0", "cut", "far"))
    no_bytes.write_bytes(b"")
    damaged.write_bytes(path.read_bytes()[:-60])
    write(elsewhere, labels, affine + np.array([[0, 0, 0, 300]] + [[0] * 4] * 3))
    for mask, words in (
        (no_bytes, "mask .* 0 bytes"),
        (damaged, "mask .*: cannot be decoded"),
        (elsewhere, "mask .* elsewhere than its volume"),
        (write(tmp_path / "half.nii", labels[:12], affine), "mask .* elsewhere than its volume"),
        (write(tmp_path / "lost.nii", labels, np.diag([1, 1, 1, 1])), "mask .* elsewhere"),
        (write(tmp_path / "four.nii", np.stack([labels] * 2, 3), affine), "mask .*: of 4 dim"),
        (write(tmp_path / "none.nii", labels * 0, affine), "mask .* none of its labels: empty$"),
        (write(tmp_path / "other.nii", labels * 7, affine), "mask .* none of its labels: 7$"),
    ):
        with pytest.raises(decode_film.UnusableImage, match="^" + words):
            decode(path, **GRID, mask=mask, mask_labels=(1,))
    # the volume's own reason comes first
    with pytest.raises(decode_film.UnusableImage, match="^volume cannot be decoded"):
        decode(damaged, **GRID, mask=no_bytes, mask_labels=(1,))


def test_a_mask_of_other_axes_scale_or_spacing_centres_the_same(tmp_path):
    voxels, affine = body()
    path = write(tmp_path / "plain.nii.gz", voxels, affine)
    labels = nibabel.Nifti1Image((voxels > 200).astype(np.uint8), affine)
    turned = labels.as_reoriented(ornt_transform(io_orientation(affine), axcodes2ornt("LPS")))
    scaled = nibabel.Nifti1Image(np.asarray(labels.dataobj) * np.uint8(2), affine)
    scaled.header.set_slope_inter(0.5, 0)
    for name, image in (("turned", turned), ("scaled", scaled)):
        (tmp_path / f"{name}.nii").write_bytes(image.to_bytes())
    same = write(tmp_path / "same.nii", np.asarray(labels.dataobj), affine)
    expected = decode(path, **GRID, mask=same, mask_labels=(1,))
    for name in ("turned", "scaled"):
        mask = tmp_path / f"{name}.nii"
        assert np.array_equal(decode(path, **GRID, mask=mask, mask_labels=(1,)), expected)


def test_what_cannot_be_read_is_refused_with_its_reason(tmp_path):
    voxels, affine = body()
    path = write(tmp_path / "plain.nii.gz", voxels, affine)
    truncated = tmp_path / "truncated.nii.gz"
    truncated.write_bytes(path.read_bytes()[:-60])
    not_nifti = tmp_path / "text.nii"
    not_nifti.write_text("no volume")
    dicom = tmp_path / "dicom.nii"
    dicom.write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 100)
    with_nan = voxels.astype(np.float32)
    with_nan[3, 3, 3] = np.nan
    no_spacing = write(tmp_path / "flat.nii", voxels, affine)
    content = bytearray(no_spacing.read_bytes())
    content[80:92] = np.zeros(3, np.float32).tobytes()  # pixdim[1] to [3] of the header
    no_spacing.write_bytes(bytes(content))
    lost = write(tmp_path / "lost.nii", voxels, affine)
    content = bytearray(lost.read_bytes())
    content[252:256] = bytes(4)  # qform_code and sform_code
    lost.write_bytes(bytes(content))
    for file, words in (
        (truncated, "cannot be decoded"),
        (not_nifti, "cannot be decoded"),
        (tmp_path / "absent.nii", "cannot be decoded"),
        (dicom, "dicom_files"),
        (write(tmp_path / "four.nii", np.stack([voxels, voxels], 3), affine), "4 dimensions"),
        (
            write(
                tmp_path / "colours.nii",
                np.zeros((4, 4, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")]),
                affine,
            ),
            "colours",
        ),
        (lost, "does not say where right, front and head are"),
        (write(tmp_path / "nan.nii", with_nan, affine), "not numbers"),
        (no_spacing, "spacing of 0"),
        (
            write(tmp_path / "units.nii", np.clip(voxels, 0, None), affine),
            "not in Hounsfield units",
        ),
        (write(tmp_path / "bright.nii", voxels * 0 - 1000, affine), "one grey value"),
    ):
        with pytest.raises(decode_film.UnusableImage, match=words):
            decode(file, **GRID)


def test_a_series_of_one_volume_is_a_volume(tmp_path, expected):
    voxels, affine = body()
    assert (
        decode(write(tmp_path / "one.nii", voxels[..., None], affine), **GRID) == expected
    ).all()


def test_a_stray_voxel_of_a_mask_moves_nothing_and_both_kidneys_count(tmp_path):
    voxels, affine = body()
    labels = np.zeros(voxels.shape, np.uint8)
    labels[14:19, 12:15, 7:11] = 1
    stray, pair = labels.copy(), labels.copy()
    stray[0, 0, 0] = stray[-1, -1, 3] = 1
    pair[5:10, 12:15, 7:11] = 1
    names = dict(one=labels, stray=stray, pair=pair)
    masks = {name: write(tmp_path / f"{name}.nii", made, affine) for name, made in names.items()}
    one, with_strays, both = (
        decode_volume._middle_of(mask, (1,), voxels.shape, affine) for mask in masks.values()
    )
    assert (one == affine @ [16, 13, 8.5, 1]).all()
    assert (with_strays == one).all()
    assert (both == affine @ [11.5, 13, 8.5, 1]).all()


@pytest.mark.parametrize("padding", [4095, np.nan, -2000, -1024])
def test_what_lies_outside_the_field_of_view_is_air_whatever_its_value(padding, tmp_path):
    voxels, affine = body()
    voxels = np.where(voxels > -500, voxels, -1000).astype(np.float32)
    outside = np.ones(voxels.shape, bool)
    outside[2:-2, 2:-2] = False
    plain = write(tmp_path / "plain.nii", np.where(outside, -1000, voxels), affine)
    padded = write(tmp_path / "padded.nii", np.where(outside, padding, voxels), affine)
    np.testing.assert_array_equal(decode(padded, **GRID), decode(plain, **GRID))
