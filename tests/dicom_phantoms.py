"""DICOM files for tests: written by pydicom, drawn, with a patient's name and private tags in them.

`film` returns the bytes of a radiograph; `write_series` writes the slices of a CT series.
"""

import io
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

CT_IMAGE, CR_IMAGE = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.1"
# what must never be stored
SECRETS = ("Dupond", "Kreiskrankenhaus", "Referrer", "PRIVATE-7781", "Comment-4242")


def compressed(dataset: Dataset, syntax: str) -> Dataset:
    """The dataset with its pixels compressed without loss."""
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.compress(syntax)
    return dataset


def _dataset(sop_class: str, uid: str, tags: dict) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, f"1.2.826.0.1.{uid}"
    dataset.PatientName, dataset.InstitutionName = "Dupond^Anne", "Kreiskrankenhaus"
    dataset.ReferringPhysicianName = "Referrer^R"
    dataset.ImageComments = "Comment-4242"
    dataset.private_block(0x0011, "WARD", create=True).add_new(1, "LO", "PRIVATE-7781")
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    return dataset


def saved(dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """The bytes of a DICOM file."""
    stream = io.BytesIO()
    if not dataset.file_meta.get("TransferSyntaxUID"):
        dataset.file_meta.TransferSyntaxUID = syntax
    implicit = dataset.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    little = dataset.file_meta.TransferSyntaxUID != ExplicitVRBigEndian
    dataset.save_as(stream, enforce_file_format=True, implicit_vr=implicit, little_endian=little)
    return stream.getvalue()


def film_dataset(stored: np.ndarray, bits: int = 0, **tags: object) -> Dataset:
    """A radiograph of stored values: (rows, columns) integers, or (rows, columns, 3) uint8."""
    defaults = dict(
        PatientID="p1",
        PatientSex="F",
        PatientAge="045Y",
        StudyDate="20200102",
        Modality="DX",
        ViewPosition="PA",
        PhotometricInterpretation="MONOCHROME2" if stored.ndim == 2 else "RGB",
        StudyInstanceUID="1.2.3.1",
        SeriesInstanceUID="1.2.3.1.1",
    )
    allocated = stored.dtype.itemsize * 8
    uid = tags.pop("uid", "1")
    dataset = _dataset(CR_IMAGE, uid, defaults | tags)
    dataset.Rows, dataset.Columns = stored.shape[:2]
    dataset.SamplesPerPixel = 1 if stored.ndim == 2 else 3
    if stored.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated, dataset.BitsStored = allocated, bits or allocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    dataset.PixelData = stored.tobytes()
    dataset["PixelData"].VR = "OB" if allocated == 8 else "OW"
    return dataset


def film(stored: np.ndarray, bits: int = 0, **tags: object) -> bytes:
    """The bytes of `film_dataset`, uncompressed."""
    return saved(film_dataset(stored, bits, **tags))


def write_series(
    folder: Path,
    heights_mm=tuple(range(0, 36, 3)),
    *,
    study: str = "1.2.3.5",
    series: str = "1.2.3.5.1",
    tilt_degrees: float = 0,
    size: int = 32,
    first: int = 0,
    compression: str = "",
    image_type: str = "ORIGINAL\\PRIMARY\\AXIAL",
    orientation: tuple[float, ...] = (),
    rescale: tuple[float, float] = (1, -1024),
    body_hounsfield: int = 40,
    **tags: object,
) -> list[Path]:
    """Write slices of a body in air with a ball of 500 HU, 12 mm to the right of the
    middle, 8 mm in front of it, at a height of 18 mm, in files 4 mm a pixel.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths, tilt = [], np.deg2rad(tilt_degrees)
    row, column = np.mgrid[:size, :size]
    for number, height in enumerate(heights_mm, start=first):
        x, y = 4.0 * column - 64, (4.0 * row - 64) * np.cos(tilt)  # to the left, to the back
        z = height + (4.0 * row - 64) * np.sin(tilt)
        hounsfield = np.where((x / 50) ** 2 + (y / 40) ** 2 < 1, body_hounsfield, -1000)
        hounsfield[(x + 12) ** 2 + (y + 8) ** 2 + (z - 18) ** 2 < 14**2] = 500
        slope, intercept = rescale
        dataset = film_dataset(
            np.rint((hounsfield - intercept) / slope).astype(np.int16),
            Modality="CT",
            ImageType=image_type,
            StudyInstanceUID=study,
            SeriesInstanceUID=series,
            FrameOfReferenceUID="1.2.3",
            InstanceNumber=number + 1,
            PixelSpacing=[4, 4],
            SliceThickness=3,
            GantryDetectorTilt=tilt_degrees,
            RescaleSlope=slope,
            RescaleIntercept=intercept,
            ImageOrientationPatient=list(orientation) or [1, 0, 0, 0, np.cos(tilt), np.sin(tilt)],
            ImagePositionPatient=[-64, -64 * np.cos(tilt), height - 64 * np.sin(tilt)],
            uid=f"{series.removeprefix('1.2.3.')}.{number}",
            **tags,
        )
        dataset.SOPClassUID = CT_IMAGE
        if compression:
            compressed(dataset, compression)
        paths.append(folder / f"IM{number:04d}")
        paths[-1].write_bytes(saved(dataset))
    return paths


def middle_of_ball(voxels: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Where the ball of `write_series` lies: mm to the left, to the back, up."""
    middle = affine @ [*np.argwhere(voxels > 300).mean(0), 1]
    return middle[:3] * [-1, -1, 1]


def reread(encoded: bytes) -> Dataset:
    """The tags and values of a written file."""
    return pydicom.dcmread(io.BytesIO(encoded))
