"""Whether rows of one image id in parquet shards hold one picture.

In: rows with their image ids and locations, the data root. Out: nothing. Raises `InputError` where
the encoded images of one image id differ.
"""

import hashlib
from pathlib import Path

import pandas as pd

from helpers.core import errors
from helpers.data.manifest_schema import Manifest
from helpers.data.tables import encoded_images, image_rows


def refuse_different(
    manifest: Manifest, image_id: pd.Series, locations: pd.DataFrame, root: Path | None, where: str
) -> None:
    """Accept rows of one image id in shards whose encoded images are equal byte for byte.

    Args:
        manifest: with `rows`, of parquet shards; others are accepted as they are.
        image_id: of each row.
        locations: file, row_group, row_in_group; same index.
        root: the data root; None where no images are read.
        where: name of the table.

    Raises:
        InputError: one image id has different images; only one of them would be used.
    """
    repeated = image_id[image_id.duplicated(keep=False)]
    if root is None or not manifest.rows or manifest.layout.kind != "parquet_images":
        return
    hashes = pd.Series("", index=repeated.index)
    for _, rows in locations.loc[repeated.index].groupby(["file", "row_group"], sort=False):
        rows = rows.sort_values("row_in_group")  # the order in which a shard yields them
        records, column = rows.to_dict("records"), manifest.layout.image_column
        encoded = encoded_images.of_rows(records, root, column)
        hashes[rows.index] = [hashlib.sha256(image).hexdigest() for image in encoded]
    first = hashes.groupby(repeated).transform("first")
    different = repeated[hashes != first].drop_duplicates()
    if different.empty:
        return
    images = image_rows.numbered(repeated)
    errors.refuse(
        f"one image an image_id in the shards of {where}",
        f"{len(different):,} of {len(images.first):,} repeated image ids with different images,"
        f" e.g. {errors.examples(different.tolist())}",
        "`rows` combines the labels of one image. Give `image_id` as a template that tells images"
        " apart.",
    )
