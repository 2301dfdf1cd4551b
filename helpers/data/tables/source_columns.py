"""Which field of a manifest reads which column of its source table.

In: a manifest, the names of the columns there are. Out: names of fields. Raises `InputError` for a
column that the manifest reads and the table does not have; names the manifest's file and field, and
the column nearest to it.
"""

from collections.abc import Collection, Iterator

from helpers.core import errors
from helpers.data.manifest_schema import Manifest

_READ_COLUMNS = (
    "layout",
    "extract",
    "rows",
    "image_id",
    "patient_id",
    "sex",
    "age",
    "n_comorbidities",
    "further_columns",
    "keep",
    "findings",
    "split",
    "image",
    "volume",
)
# parts of rules that hold cells or words of our own, not columns
_NOT_COLUMNS = (
    "values",
    "canonical",
    "side",
    "contains",
    "known",
    "cell",
    "separator",
    "pattern",
    "unit",
    "unit_suffixes",
    "kind",
    "table",
    "encoding",
    "lists",
    "missing",
)


def check(manifest: Manifest, columns: Collection[str], where: str, do: str = "") -> None:
    """Accept a table that has all columns that the manifest's rules read from it.

    Args:
        manifest: the rules.
        columns: of the table.
        where: name of the table, for the message.
        do: what else may help.

    Raises:
        InputError: some are absent.
    """
    absent = [column for column in manifest.source_columns if column not in columns]
    if absent:
        fields = " and ".join(fields_of(manifest, absent[0]))
        errors.refuse(
            f"columns {errors.examples(absent)} in {where}",
            f"columns {errors.examples(list(columns), 12)}",
            " ".join(
                filter(
                    None,
                    [
                        errors.nearest(absent[0], columns),
                        f"Correct the file, or `{fields}` in {manifest.name}.yaml.",
                        do,
                    ],
                )
            ),
        )


def fields_of(manifest: Manifest, column: str) -> list[str]:
    """Return the manifest's fields that read a column, e.g. ["findings.effusion.column"]."""
    content = manifest.model_dump(mode="json", include=set(_READ_COLUMNS))
    return list(dict.fromkeys(".".join(path) for path in _paths(content, column, [])))


def _paths(value: object, column: str, path: list[str]) -> Iterator[list[str]]:
    """Yield the paths to a column's name, or to a template with it, within a manifest's content."""
    if isinstance(value, dict):
        for key, part in value.items():
            if path == ["keep"] and key == column:
                yield [*path, key]
            elif key not in _NOT_COLUMNS and path != ["keep"]:
                yield from _paths(part, column, [*path, key])
    elif isinstance(value, list):
        for part in value:
            yield from _paths(part, column, path)
    elif isinstance(value, str) and (value == column or f"{{{column}}}" in value):
        yield path
