"""The data sets of a study: which it reads, where their files are, which groups they have.

In: what a profile and the command line set (`profiles`). Out: names, folders, files. Raises
`InputError` for data sets, folders, files and groups that are not there. No image is opened.
"""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.core import errors, notebook_parameters, paths, small_counts
from helpers.data import groups, manifest_schema, manifests
from helpers.data.first_look import download
from helpers.data.tables import label_rules
from helpers.data.tables.source_files import expected_files, locate
from helpers.study import notebook_files

if TYPE_CHECKING:
    from helpers.data.first_look import check_source


def data_sets(chosen: dict) -> list[str]:
    """Return names (or paths) of the manifests a study reads: its cohort's, its pretraining's if
    that is one, EVALUATE_ON's.

    Args:
        chosen: from `profiles.collect`.

    Raises:
        InputError: there is no such manifest, it is not in order, the weights to start from are
            missing, real data would be trained on in demo mode, or groups are asked for that the
            cohort does not have.
    """
    cohort, pretrain, elsewhere = (
        chosen["01"][name] for name in ("COHORT", "PRETRAIN", "EVALUATE_ON")
    )
    names = [cohort]
    if pretrain.endswith(paths.WEIGHT_FILES):
        errors.file_exists(Path(pretrain), "Correct PRETRAIN.")
    elif pretrain != "none":
        names.append(pretrain)
    if elsewhere != "none":
        names.append(elsewhere)
    manifests.wanted(cohort, pretrain, {}, elsewhere)
    manifest = manifests.read(cohort)
    manifests.size_fits(
        manifest,
        **{
            name.lower(): chosen["01"][name]
            for name in ("IMAGE_PX", "EQUALISE", "VOLUME_SHAPE", "WINDOW_HU")
            if name in chosen["01"]
        },
    )
    notebook_parameters.mode_fits(value(chosen, "03", "MODE"), manifest.access)
    for notebook in ("04", "05"):
        small_counts.estimable_fits(value(chosen, notebook, "MIN_PATIENTS"), manifest.access)
    _check_groups(chosen, manifest)
    return list(dict.fromkeys(names))


def _check_groups(chosen: dict, manifest: manifest_schema.Manifest) -> None:
    """Accept findings, attributes and columns that the cohort has; defaults are fitted to it.

    Raises:
        InputError: one that it does not have; names the parameter and the notebook, and those that
            make groups of this cohort.
    """
    for number in ("04", "05"):
        if not chosen[number].get("TABLE"):  # else the findings are those of a foreign table
            for name in chosen[number].get("FINDINGS", []):
                known = list(manifest.findings)
                errors.one_of(f"each of FINDINGS of notebook {number}", name, known)
    planned = [attribute for attribute, *_ in chosen["04"].get("PLANNED", [])]
    further, groupable = list(manifest.further_columns), _groupable(manifest)
    for what, columns, sensible in (
        ("the ATTRIBUTES of notebook 04", chosen["04"].get("ATTRIBUTES", []), groupable),
        ("the attributes in PLANNED of notebook 04", planned, groupable),
        ("the STRATA of notebook 04", chosen["04"].get("STRATA", []), groupable),
        ("the ATTRIBUTES of notebook 05", chosen["05"].get("ATTRIBUTES", []), groupable),
        ("the SHORTCUTS of notebook 05", chosen["05"].get("SHORTCUTS", []), further),
        ("the AUDITED_GROUPS of notebook 06", chosen["06"].get("AUDITED_GROUPS", []), groupable),
    ):
        for column in columns:
            is_recorded_nowhere = sensible is groupable and column in groups.ATTRIBUTES
            if column in sensible or is_recorded_nowhere:  # everybody is of the group "unknown"
                continue
            if not sensible:
                errors.refuse(
                    f"no {what.removeprefix('the ')}, as {manifest.name} has no further_columns",
                    repr(column),
                    f"Name the column under further_columns in {manifest.name}.yaml, or set [].",
                )
            errors.one_of(f"each of {what}, for {manifest.name},", column, sensible)


def _groupable(manifest: manifest_schema.Manifest) -> list[str]:
    """Return the attributes by which a cohort's images can be grouped, as far as recorded."""
    if manifest.layout.kind == "synthetic":
        return [*groups.ATTRIBUTES, *manifest.further_columns]
    rules = {
        "sex": manifest.sex,
        "age": manifest.age,
        "age quartile": manifest.age,
        "comorbidities": manifest.n_comorbidities,
        "sex x age": manifest.sex and manifest.age,
    }
    return [*(name for name, rule in rules.items() if rule), *manifest.further_columns]


def fitted_defaults(chosen: dict) -> dict[str, dict[str, list[str]]]:
    """Return ATTRIBUTES, STRATA, SHORTCUTS and AUDITED_GROUPS where their defaults, which are the
    demo's, name what the study's cohort does not have: {notebook: {parameter: those that it has}}.
    """
    manifest = manifests.read(chosen["01"]["COHORT"])
    fitted = {"04": {}, "05": {}, "06": {}}
    for number, name, known in (
        ("04", "ATTRIBUTES", _groupable(manifest)),
        ("04", "STRATA", _groupable(manifest)),
        ("05", "ATTRIBUTES", _groupable(manifest)),
        ("05", "SHORTCUTS", list(manifest.further_columns)),
        ("06", "AUDITED_GROUPS", _groupable(manifest)),
    ):
        default = value(chosen, number, name)
        if name not in chosen[number] and not set(default) <= set(known):
            fitted[number][name] = [column for column in default if column in known]
    return fitted


def value(chosen: dict, number: str, name: str) -> object:
    """Return what a study sets of a notebook, or the notebook's default."""
    defaults = notebook_files.default_parameters(notebook_files.notebooks()[number])
    return chosen[number].get(name, defaults[name])


def read_data_roots(words: Collection[str], names: list[str]) -> dict[str, str]:
    """Return the folder of each data set that has files: {name: absolute path}.

    Args:
        words: `path` (of the study's cohort) or `name=path`, in the order of the command line.
        names: from `data_sets`, the cohort first.

    Raises:
        InputError: a folder or a file expected in it is missing, or it is named for a data set not
            in the study.
    """
    roots = _named_roots(words, names)
    for manifest in map(manifests.read, names):
        if manifest.layout.kind != "synthetic":
            locate(manifest, roots.get(manifest.name))
    return roots


def _named_roots(words: Collection[str], names: list[str]) -> dict[str, str]:
    """Return {name of a data set: absolute path}, whether or not something is there."""
    roots, known = {}, [manifests.name_of(name) for name in names]
    for text in words:
        name, equals, path = text.partition("=")
        if not equals or "/" in name:
            name, path = known[0], text
        errors.one_of("the data set of --data-root", name, known)
        if manifests.read(names[known.index(name)]).layout.kind == "synthetic":
            errors.refuse(
                f"no --data-root for {name}, which is drawn",
                repr(path),
                "Leave it out, or choose another profile.",
            )
        roots[name] = str(Path(path).expanduser().resolve())
    return roots


def fetch(words: Collection[str], names: list[str]) -> list[str]:
    """Fetch the files of the study's open data sets into their folders; return a sentence a file.

    Args:
        words, names: as in `read_data_roots`.

    Raises:
        InputError: no data set that can be fetched, none of a folder's name, or what
            `download.fetch` refuses.
    """
    roots = _named_roots(words, names)
    with_files = [
        manifest for manifest in map(manifests.read, names) if manifest.layout.kind != "synthetic"
    ]
    fetched = [manifest for manifest in with_files if manifest.download] or with_files[:1]
    if not fetched:
        errors.refuse("a data set with files for --download", "drawn images only", "Leave it out.")
    for manifest in fetched:
        if manifest.name not in roots:
            errors.refuse(
                f"--data-root {manifest.name}=FOLDER, the folder to fetch into",
                "none",
                "Name one; it is made if it is not there.",
            )
    return [
        sentence
        for manifest in fetched
        for sentence in download.fetch(manifest, Path(roots[manifest.name]))
    ]


def checks(preparation: dict) -> dict[str, "check_source.Check"]:
    """Return what is known of the study's data sets with files before an image is opened, by name.

    Args:
        preparation: parameters of notebook 01, DATA_ROOTS among them.

    Raises:
        InputError: what notebook 01 would refuse before it opens an image.
    """
    from helpers.data.first_look import check_source

    wanted = manifests.wanted(
        *(preparation.get(name, "none") for name in ("COHORT", "PRETRAIN")),
        {},
        preparation.get("EVALUATE_ON", "none"),
    )
    means = label_rules.policies(wanted, preparation.get("UNCERTAIN_MEANS", "as_manifest"))
    roots = preparation.get("DATA_ROOTS", {})
    return {
        manifest.name: check_source.read(
            label_rules.with_uncertain(manifest, means[manifest.name]), roots[manifest.name]
        )
        for manifest in wanted
        if manifest.name in roots
    }


def manifest_path(name_or_path: str) -> Path:
    """Return the file of a manifest."""
    is_name = manifests.name_of(name_or_path) == name_or_path
    return manifests.manifests_dir() / f"{name_or_path}.yaml" if is_name else Path(name_or_path)


def source_files(names: list[str], data_roots: dict[str, str]) -> list[Path]:
    """Return the folders of real data, and the tables, lists and shards in them."""
    roots = [
        (Path(data_roots[manifests.name_of(name)]), manifests.read(name))
        for name in names
        if manifests.name_of(name) in data_roots
    ]
    tables = [
        path
        for root, manifest in roots
        for pattern in expected_files(manifest)
        for path in sorted(root.glob(pattern)) or [root / pattern]
    ]
    return [root for root, _ in roots] + tables
