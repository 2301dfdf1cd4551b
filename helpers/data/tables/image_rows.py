"""Which rows of a source table are of one image: those of one image id and one file.

In: image ids and locations of rows. Out: `Images`. Raises `InputError` for one image id of several
files, and for one file under several image ids.
"""

import posixpath
from typing import NamedTuple

import numpy as np
import pandas as pd

from helpers.core import errors
from helpers.data.manifest_schema import Manifest

_OF_SLICES = ["slices", "slice_bytes", "unusable"]  # of CT scans: long, and no name of a file


class Images(NamedTuple):
    """Which rows are of one image.

    number: (n_rows,) the image of each row, from 0, in the order of their first rows.
    first: (n_images,) position of each image's first row, ascending.
    """

    number: np.ndarray
    first: np.ndarray

    @property
    def is_first(self) -> np.ndarray:
        """(n_rows,) whether a row is the first of its image."""
        return self.first[self.number] == np.arange(len(self.number))


def images_of(
    manifest: Manifest, image_id: pd.Series, locations: pd.DataFrame, where: str
) -> Images:
    """Return which rows are of one image.

    Args:
        manifest: of the data set.
        image_id: of each row, none blank.
        locations: what finds each row's image; same index.
        where: name of the table.

    Raises:
        InputError: one image_id for several files, or one file under several.
    """
    images = numbered(image_id)
    place = locations.drop(columns="sha256", errors="ignore")
    if "file" in place:
        place = place.assign(file=_one_spelling(place["file"]))
    if not place.shape[1] or manifest.layout.kind == "synthetic":
        return images
    has_file = place["file"].to_numpy() != "" if "file" in place else np.ones(len(place), bool)
    files = numbered(place.iloc[:, 0] if place.shape[1] == 1 else pd.MultiIndex.from_frame(place))
    several = has_file & (files.number != files.number[images.first][images.number])
    # a shard has an image a row: by `rows`, those of one image_id are one image, stored repeatedly
    is_repeated_by_rule = manifest.rows and manifest.layout.kind == "parquet_images"
    if several.any() and not is_repeated_by_rule:
        _refuse_several(
            f"one image file an image_id in {where}",
            images.number,
            image_id,
            place.drop(columns=_OF_SLICES, errors="ignore"),
            several,
            f"Give `image_id` in the manifest {manifest.name} as a template that tells them apart"
            + (
                ", e.g. '{PatientID} {StudyInstanceUID}', where a study has two PatientIDs."
                if "slices" in place
                else "."
            ),
        )
    several = has_file & (images.number != images.number[files.first][files.number])
    if several.any():
        _refuse_several(
            f"one image_id a file in {where}",
            files.number,
            place.drop(columns=_OF_SLICES, errors="ignore"),
            image_id,
            several,
            "Several rows of a file are of one image: give `image_id` as the columns of the file's"
            " name, and say with `rows` how to combine the rows.",
        )
    return images


def _one_spelling(files: pd.Series) -> pd.Series:
    """Return paths without what does not matter in them, such as ./ in front."""
    odd = files[files.str.contains(r"(?:^|/)\.?/|/\.?$")].unique()
    return files.replace({file: posixpath.normpath(file) for file in odd})


def _refuse_several(
    expected: str,
    number: np.ndarray,
    names: pd.Series | pd.DataFrame,
    members: pd.Series | pd.DataFrame,
    several: np.ndarray,
    do: str,
) -> None:
    """Refuse names (image ids or files) with several members (files or image ids)."""
    of_first = number == number[several.argmax()]
    name, *_ = _joined(names[of_first])
    errors.refuse(
        expected,
        f"{len(np.unique(number[several]))} with several, e.g. {name!r} with"
        f" {errors.examples(_joined(members[of_first]))}",
        do,
    )


def _joined(names: pd.Series | pd.DataFrame) -> list[str]:
    """Return names as text, each once; of a table its columns beside each other."""
    columns = names.to_frame() if isinstance(names, pd.Series) else names
    return list(dict.fromkeys(" ".join(map(str, row)) for row in columns.to_numpy()))


def numbered(names: pd.Series | pd.MultiIndex) -> Images:
    """Return the rows of equal names."""
    number, unique = pd.factorize(names)
    first = np.full(len(unique), len(number))
    np.minimum.at(first, number, np.arange(len(number)))
    return Images(number, first)
