"""The crate of a results folder: what it holds, from what and with what it was made.

In: a finished results folder. Out: `ro-crate-metadata.json` in it (RO-Crate 1.3): each file that
may be passed on, with its hash; the package, its version and commit; each step with its parameters;
the data sets with their licences. Cohorts and the privacy register are never listed as files: the
data's own terms decide whether they may be passed on.

Source: Soiland-Reyes et al. (2022), "Packaging research artefacts with RO-Crate".
"""

import json
from collections.abc import Iterator
from pathlib import Path

from rocrate.model.contextentity import ContextEntity
from rocrate.rocrate import ROCrate

from helpers.core import claims, files, fingerprints
from helpers.study import disclosure, notebook_files

NAME = "ro-crate-metadata.json"
# what a reader of the results needs
SHARED = (
    "index.html",
    "notebooks/[0-9]*.ipynb",
    "notebooks/[0-9]*.html",
    "tables/*.csv",
    "figures/*.png",
    "figures/*.svg",
    "runs/*/record.json",
    "runs/*/model_card.md",
)
OF_OPEN_DATA, OF_DRAWN = "runs/*/predictions.parquet", "runs/*/weights.safetensors"
OF_AUDIT = "06_"
_KINDS = {
    ".html": "text/html",
    ".ipynb": "application/x-ipynb+json",
    ".csv": "text/csv",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".md": "text/markdown",
    ".parquet": "application/vnd.apache.parquet",
    ".safetensors": "application/octet-stream",
}
_PACKAGE, _COHORT = "#private-fair-accurate", "#cohort-"


def shared_files(out: Path) -> list[Path]:
    """Return the files of a results folder that its crate lists, in order.

    Of real patients no weights, of which some have no privacy; of data that are not open neither
    predictions, a row an image, nor an audit, which shows what models say of training patients.
    """
    records = [files.readable_json(path) for path in out.glob("cohort/*/record.json")]
    is_open = bool(records) and not disclosure.restricted(out)
    is_drawn = is_open and all(record["access"] == "embedded" for record in records)
    patterns = [*SHARED, *([OF_OPEN_DATA] if is_open else []), *([OF_DRAWN] if is_drawn else [])]
    found = {path for pattern in patterns for path in out.glob(pattern) if path.is_file()}
    found = {path for path in found if is_open or not path.name.startswith(OF_AUDIT)}
    return sorted(
        path for path in found if not path.name.endswith(".failed.ipynb") and path.name[0] != "."
    )


def write(out: Path, title: str) -> Path:
    """Write the crate of a finished study, and return its file; one that says the same already
    keeps its date.

    Args:
        out: the results folder.
        title: of the study.
    """
    content = _content(out, title)
    before, now = _entities(files.readable_json(out / NAME)), _entities(content)
    if before:
        date = before["./"].get("datePublished")
        if before == now | {"./": now["./"] | {"datePublished": date}}:
            return out / NAME
    files.write_text(out / NAME, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return out / NAME


def _content(out: Path, title: str) -> dict:
    """Return the crate of a results folder as linked data."""
    crate = ROCrate()
    crate.name = title
    crate.description = (
        "Training without privacy and with differential privacy, and what it costs whom: tables,"
        " figures, executed notebooks, models with their privacy ledgers."
    )
    records = [files.readable_json(path) for path in sorted(out.glob("runs/*/record.json"))]
    commits = sorted({str(record.get("commit")) for record in records})
    versions = records[0].get("versions", {}) if records else {}
    package = crate.add(
        ContextEntity(
            crate,
            _PACKAGE,
            properties={
                "@type": "SoftwareApplication",
                "name": "Private, fair and accurate, re-runnable",
                "softwareVersion": ", ".join(commits),
                "softwareRequirements": [f"{name} {value}" for name, value in versions.items()],
                "license": {"@id": "https://spdx.org/licenses/Apache-2.0"},
            },
        )
    )
    crate.add(
        ContextEntity(
            crate,
            "https://spdx.org/licenses/Apache-2.0",
            properties={"@type": "CreativeWork", "name": "Apache License 2.0"},
        )
    )
    sources = [_data_set(crate, path) for path in sorted(out.glob("cohort/*/record.json"))]
    # no licence of results is known: that of the data decides
    crate.root_dataset["license"] = [source["license"] for source in sources]
    for path in shared_files(out):
        name = path.relative_to(out).as_posix()
        crate.add_file(
            dest_path=name,
            source=path,
            properties={
                "encodingFormat": _KINDS.get(path.suffix, "application/octet-stream"),
                "contentSize": str(path.stat().st_size),
                "sha256": fingerprints.file_hash(path),
            },
        )
    for notebook in (path for path in shared_files(out) if path.suffix == ".ipynb"):
        _step(crate, notebook, package, sources)
    return crate.metadata.generate()


def _data_set(crate: ROCrate, path: Path) -> ContextEntity:
    """Add a cohort by its record: title, licence, access, hash; none of its files."""
    record = files.readable_json(path)
    properties = {
        "@type": "Dataset",
        "name": record.get("title", path.parent.name),
        "license": record.get("licence", "not recorded"),
        "conditionsOfAccess": record.get("access", "private"),
        "identifier": record.get("data_hash", "not recorded"),
        "size": f"{record.get('n_images')} images of {record.get('n_patients')} patients",
    }
    return crate.add(ContextEntity(crate, f"{_COHORT}{path.parent.name}", properties=properties))


def _step(
    crate: ROCrate, notebook: Path, package: ContextEntity, sources: list[ContextEntity]
) -> None:
    """Add the execution of a notebook with its parameters."""
    parameters = [
        crate.add(
            ContextEntity(
                crate,
                f"#{notebook.stem}-{name}",
                properties={"@type": "PropertyValue", "name": name, "value": json.dumps(value)},
            )
        )
        for name, value in notebook_files.injected_parameters(notebook).items()
    ]
    crate.add(
        ContextEntity(
            crate,
            f"#step-{notebook.stem}",
            properties={
                "@type": "CreateAction",
                "name": notebook.stem,
                "instrument": {"@id": package.id},
                "object": [{"@id": entity.id} for entity in [*sources, *parameters]],
                "result": {"@id": f"notebooks/{notebook.name}"},
            },
        )
    )


def listed(out: Path) -> set[str] | None:
    """Return the names of the files that a folder's crate lists, None where it has no crate.

    Raises:
        ValueError: it is damaged.
    """
    path = out / NAME
    if not path.is_file():
        return None
    return _files(_entities(json.loads(path.read_text(encoding="utf-8"))))


def of_crate(out: Path) -> Iterator[claims.Claim]:
    """Yield whether a crate says what the folder holds: its files by their hashes, and, where the
    data sets are there, parameters, versions and all else; title and date are taken as they are.

    Files that were left out cannot be checked.
    """
    path, about = out / NAME, f"{NAME}: files and parameters"
    if not path.is_file():
        yield claims.Claim(NAME, claims.UNCHECKED, "not there: the study is not whole")
        return
    stored = _entities(json.loads(path.read_text(encoding="utf-8")))
    shared = _files(stored)
    absent = {name for name in shared if not (out / name).is_file()}
    sources = {name for name in stored if name.startswith(_COHORT)}
    absent |= {
        name
        for name in sources
        if not (out / "cohort" / name.removeprefix(_COHORT) / "record.json").is_file()
    }
    if absent:
        differing = [
            name
            for name in sorted(shared - absent)
            if stored[name].get("sha256") != fingerprints.file_hash(out / name)
        ]
        why = f"{len(absent)} of its files and data sets are not there"
        yield claims.of_parts(about, [f"{name} is another" for name in differing], why)
        return
    again = _entities(_content(out, stored["./"].get("name", "")))
    again["./"]["datePublished"] = stored["./"].get("datePublished")
    yield claims.of_parts(
        about,
        [
            f"{name} is not what the folder holds"
            for name in sorted({*stored, *again})
            if stored.get(name) != again.get(name)
        ],
    )


def _files(entities: dict[str, dict]) -> set[str]:
    """Return the names of the files among what a crate describes."""
    return {name for name, entity in entities.items() if entity["@type"] == "File"}


def _entities(content: dict) -> dict[str, dict]:
    """Return what a crate describes, by its name in it; {} of none."""
    return {entity["@id"]: entity for entity in content.get("@graph", [])}
