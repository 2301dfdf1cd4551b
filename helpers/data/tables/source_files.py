"""The folder of a data set's files: is it there, may it be read, does a path stay inside.

In: a manifest, the folder that the user names, relative paths. Out: paths. Raises `InputError` for
a missing or unreadable root, an absent table, paths that leave the root; says how to get the data.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from helpers.core import disk_names, errors, paths_inside
from helpers.core.paths_inside import inside
from helpers.data.manifest_schema import Manifest


def expected_files(manifest: Manifest) -> list[str]:
    """Return the tables, lists and shards that must lie under the data root."""
    layout = manifest.layout
    if layout.kind == "synthetic":
        tables = []
    elif layout.kind == "folders":
        tables = [disk_names.listing(layout.pattern), *filter(None, [layout.table])]
    else:
        tables = {
            "parquet_images": lambda: layout.shards,
            "dicom_files": lambda: [layout.files],
            "arrays": lambda: [layout.file],
            "table_and_images": lambda: layout.tables,
        }[layout.kind]()
    further = [table for join in getattr(layout, "joins", []) for table in join.tables]
    further += filter(None, [getattr(layout, "checksums", None)])
    return [*tables, *further, *manifest.split.lists.values()]


def table_name(manifest: Manifest) -> str:
    """Return the name of a data set's table, for messages."""
    if manifest.layout.kind == "synthetic":
        return "the generator's table"
    return expected_files(manifest)[0]


def locate(manifest: Manifest, data_root: str | Path | None) -> Path | None:
    """Return the data root, after checking that the manifest's tables, lists and shards are there;
    None for a drawn cohort.

    Raises:
        InputError: no root, root absent, empty or unreadable, or a file absent (says how to get the
            data); a root for a drawn cohort.
    """
    if manifest.layout.kind == "synthetic":
        if data_root:
            errors.refuse(
                f"no data root for {manifest.name}, which is drawn, not read",
                repr(str(data_root)),
                "Leave it out.",
            )
        return None
    wanted = f"{', '.join(expected_files(manifest))} under the data root of {manifest.name}"
    do = (
        f"Pass DATA_ROOTS = {{{manifest.name!r}: <folder>}} or --data-root. "
        f"How to get it: {' '.join(manifest.how_to_get.split())}"
    )
    if not data_root:
        errors.refuse(wanted, "no data root", do)
    root = Path(data_root).expanduser()
    paths_inside.forget_folders()
    with readable():
        if not root.is_dir():
            errors.refuse(wanted, f"no folder {root}", do)
        if not any(root.iterdir()):
            errors.refuse(wanted, f"the empty folder {root}", do)
        for pattern in expected_files(manifest):
            # A literal path is a pattern without wildcards, but a name may hold [ or ].
            if not (inside(root, pattern).is_file() or any(root.glob(pattern))):
                if manifest.volume and next(root.rglob("*.dcm"), None):
                    errors.refuse(
                        wanted,
                        f"DICOM files in {root}",
                        "Read them by `layout: {kind: dicom_files}`: docs/dicom.md.",
                    )
                errors.refuse(wanted, f"no {pattern} in {root}", do + _other_case(root, pattern))
    return root


def _other_case(root: Path, relative: str) -> str:
    """Return a hint where a file's name differs in letter case only, or ""."""
    wanted = root / relative
    names = os.listdir(wanted.parent) if wanted.parent.is_dir() else []
    others = [name for name in names if name.casefold() == wanted.name.casefold()]
    return f" It is called {errors.examples(others)} there." if others else ""


@contextlib.contextmanager
def readable() -> Iterator[None]:
    """Turn a `PermissionError` of the block into an `InputError` that names the folder or file.

    Raises:
        InputError: this user may not read something.
    """
    try:
        yield
    except PermissionError as error:
        errors.refuse(
            f"read permission for {error.filename}",
            "permission denied",
            "Ask its owner, or run as a user who may read it.",
        )
