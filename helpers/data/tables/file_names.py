"""Files below a data root by their names, as a table or a pattern gives them.

In: names. Out: paths as they are on the disk, relative to the root. Names are compared in one
Unicode normal form; hidden files and what operating systems leave in folders do not count. Raises
`InputError` for names that belong to several files.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from helpers.core import disk_names, errors
from helpers.core import paths as core_paths
from helpers.core.disk_names import is_left_over
from helpers.data.tables import source_text

# in any letter case; .nii.gz is one ending
_IMAGE_ENDING = re.compile(
    r"\.(png|jpe?g|jp2|j2k|tiff?|bmp|gif|webp|dcm|dicom|dic|ima|nii(\.gz)?|npy|mha|nrrd)$",
    re.IGNORECASE,
)


def files_below(root: Path) -> Iterator[str]:
    """Yield the paths of all files below a folder, but results, sorted, relative to it."""
    for folder, folders, names in os.walk(root):
        results = core_paths.results_in(Path(folder))
        folders[:] = sorted(name for name in {*folders} - results if not is_left_over(name))
        relative = Path(folder).relative_to(root).as_posix()
        prefix = "" if relative == "." else f"{relative}/"
        if disk_names.is_text(prefix):  # no table can name other ones
            yield from (
                prefix + name
                for name in sorted(names)
                if not is_left_over(name) and disk_names.is_text(name)
            )


def on_disk(files: pd.Series, root: Path) -> pd.Series:
    """Return relative paths as they are spelt on the disk; absent ones unchanged.

    Raises:
        InputError: two names on the disk differ in their Unicode form only.
    """
    if files.str.isascii().all():
        return files
    folders, spelt = {}, []
    for file in files.tolist():
        folder, _, name = file.rpartition("/")
        if folder not in folders:
            real = disk_names.name_on_disk(root, folder) if folder else ""
            folders[folder] = (
                f"{real}/" if real else "",
                root / real,
                disk_names.names_in(root / real),
            )
        prefix, path, names = folders[folder]
        is_there = disk_names.one_normal_form(name) in names
        spelt.append(prefix + disk_names.only_one(names, name, path) if is_there else file)
    return pd.Series(spelt, index=files.index, dtype=str)


def anywhere(names: pd.Series, root: Path) -> pd.Series:
    """Return where below the root a file of each name lies; absent ones unchanged.

    Raises:
        InputError: a name belongs to files in several folders.
    """
    wanted, paths = set(names), {}
    for path in files_below(root):
        name = disk_names.one_normal_form(path.rpartition("/")[2])
        if name in wanted:
            paths.setdefault(name, []).append(path)
    ambiguous = [places for places in paths.values() if len(places) > 1]
    if ambiguous:
        errors.refuse(
            f"one file of each name below {root}",
            f"{len(ambiguous)} names with several, e.g."
            f" {'; '.join(errors.examples(places) for places in ambiguous[:3])}",
            "Move the others out of the data root, or write the folder in `image_path` and leave"
            " `anywhere` out.",
        )
    return names.map(lambda name: paths.get(name, [name])[0])


def of_pattern(root: Path, pattern: str) -> tuple[pd.DataFrame, list[str]]:
    """Return what the names of folders and files say, and their paths, sorted.

    Args:
        root: of the data set.
        pattern: such as "{split}/{class}/{name}.nii"; the names in braces are columns.

    Raises:
        InputError: files that differ from the pattern in letter case only.
    """
    form = "".join(
        f"(?P<{part[1:-1]}>[^/]+?)" if part.startswith("{") else re.escape(part)
        for part in re.split(r"(\{[^{}]+\})", disk_names.one_normal_form(pattern))
    )
    # all names at that depth, whatever their ending
    names = re.sub(r"[^/]*\*[^/]*", "*", disk_names.listing(pattern))
    paths, columns, others = [], [], []
    at_that_depth = sorted(path.relative_to(root).as_posix() for path in root.glob(names))
    for path in core_paths.without_results(at_that_depth, root):
        if any(map(is_left_over, path.split("/"))):
            continue
        name = disk_names.one_normal_form(path)
        if match := re.fullmatch(form, name):
            paths.append(path)
            columns.append(match.groupdict())
        else:
            others.append(path)
    disk_names.refuse_other_encoding(paths, root)
    in_other_case = [
        path
        for path in others
        if re.fullmatch(form, disk_names.one_normal_form(path), re.IGNORECASE)
    ]
    if in_other_case:
        errors.refuse(
            f"files named as in {pattern}",
            f"{len(in_other_case)} that differ in letter case, e.g."
            f" {errors.examples(in_other_case)}",
            "Rename them, or move them away.",
        )
    _refuse_other_endings(paths, others, pattern, form)
    return pd.DataFrame(columns), paths


def _refuse_other_endings(paths: list[str], others: list[str], pattern: str, form: str) -> None:
    """Accept a folder whose further images, such as previews, have the names of images that the
    pattern finds.

    Args:
        paths: that the pattern finds.
        others: files at the same depth.
        pattern: of the manifest.
        form: the same as a regular expression.

    Raises:
        InputError: images are missed because their names end otherwise, such as .jpg beside .png.
    """
    ending = _IMAGE_ENDING.search(pattern)
    if not ending:
        return
    form = form.removesuffix(re.escape(ending.group()))
    images = {_IMAGE_ENDING.sub("", path) for path in paths}
    missed = [
        path
        for path in others
        if (stem := _IMAGE_ENDING.sub("", path)) != path and stem not in images
        if re.fullmatch(form, disk_names.one_normal_form(stem))
    ]
    if missed:
        errors.refuse(
            f"images named as in {pattern}",
            f"{len(missed)} with another ending, e.g. {errors.examples(list(map(ascii, missed)))}",
            "Leave the ending out of the pattern ({name} may hold it), save them in one format, or"
            " move them away.",
        )


def hint_of_absence(
    absent: pd.Series, present: pd.Series, root: Path, is_anywhere: bool = False
) -> str:
    """Return why absent files may not be found, as a sentence with a blank before it, or "".

    Args:
        absent: relative paths of files that are not there.
        present: those of other rows, which are.
        root: of the data set.
        is_anywhere: they were looked for in all folders.
    """
    names = absent[absent != ""].drop_duplicates()
    if names.empty:
        return ""
    if is_anywhere:
        others = {path.rpartition("/")[2] for path in set(files_below(root)) - set(present)}
        return source_text.likely_cause(names, pd.Series(sorted(others), dtype=str))
    folders = names.map(os.path.dirname).drop_duplicates()
    absent_folders = [folder for folder in folders if not (root / folder).is_dir()]
    if len(absent_folders) == len(folders):
        return f" There is no folder {errors.examples(absent_folders)} in {root}."
    others = {
        (Path(folder) / name).as_posix()
        for folder in folders
        if (root / folder).is_dir()
        for name in os.listdir(root / folder)
        if not is_left_over(name) and disk_names.is_text(name)
    } - set(present)
    return source_text.likely_cause(names, pd.Series(sorted(others), dtype=str))
