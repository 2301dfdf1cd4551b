"""Find, read and check data manifests.

In: a manifest's name (`data_manifests/<name>.yaml`) or the path of a YAML file. Out: a checked
`Manifest`. Raises `InputError` for an unknown name, wrong fields, parameters that do not fit
together. Code knows *kinds* of layout and of label rules; no data set's name occurs in it.
"""

from pathlib import Path

from pydantic import ValidationError

from helpers.core import errors, fingerprints, paths, yaml_files
from helpers.data.manifest_schema import Manifest


def manifests_dir() -> Path:
    """Return the folder of the shipped manifests."""
    return paths.repository_root() / "data_manifests"


def names() -> list[str]:
    """Return the names of the shipped manifests, sorted."""
    return sorted(path.stem for path in manifests_dir().glob("*.yaml"))


def name_of(name_or_path: str | Path) -> str:
    """Return the cohort's name that belongs to a manifest's name or path."""
    text = str(name_or_path)
    return Path(text).stem if text.endswith((".yaml", ".yml")) else text


def read(name_or_path: str | Path) -> Manifest:
    """Return a checked manifest.

    Args:
        name_or_path: a name from `names()`, or the path of a YAML file (ending in .yaml).

    Raises:
        InputError: no such manifest (lists the known ones); not YAML; a field is absent, unknown or
            wrong (names file and field); the field `name` is not the file's name.
    """
    text = str(name_or_path)
    if name_of(text) == text:
        errors.one_of("data manifest", text, names())
        path = manifests_dir() / f"{text}.yaml"
    else:
        path = errors.file_exists(
            Path(text).expanduser(), f"Known manifests: {', '.join(names())}."
        )
    content = yaml_files.read(path)
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        errors.refuse(
            f"valid fields in {path.name}", yaml_files.problems(error), "Correct the manifest."
        )
    if manifest.name != path.stem:
        errors.refuse(
            f"name: {path.stem} in {path.name}",
            f"name: {manifest.name}",
            "Rename the file or the field.",
        )
    return manifest


def wanted(
    cohort: str, pretrain: str, data_roots: dict[str, str], evaluate_on: str = "none"
) -> list[Manifest]:
    """Return the manifests of the data sets a study needs, after checking how the parameters fit
    together.

    Args:
        cohort: COHORT, the name or path of a manifest.
        pretrain: PRETRAIN, the same, or "none", or the path of a safetensors file (neither needs a
            data set).
        data_roots: DATA_ROOTS, name of a manifest -> folder of its files.
        evaluate_on: EVALUATE_ON, the name or path of a manifest on whose patients models are tried
            as well, or "none".

    Raises:
        InputError: an unknown manifest; pretraining on the cohort itself; a data root for a data
            set not needed.
    """
    manifests = [read(cohort)]
    if pretrain != "none" and not str(pretrain).endswith(paths.WEIGHT_FILES):
        manifests.append(read(pretrain))
    names_needed = [manifest.name for manifest in manifests]
    if len(set(names_needed)) < len(names_needed):
        errors.refuse(
            f"PRETRAIN other than COHORT = {cohort!r}",
            repr(pretrain),
            "What is learnt from the private patients before private training has no guarantee.",
        )
    if evaluate_on != "none":
        elsewhere = read(evaluate_on)
        if elsewhere.name == names_needed[0]:
            errors.refuse(
                f"EVALUATE_ON other than COHORT = {cohort!r}",
                repr(evaluate_on),
                "Its own test patients are predicted in any case.",
            )
        manifests += [elsewhere] if elsewhere.name not in names_needed else []
        names_needed.append(elsewhere.name)
    for name in data_roots:
        errors.one_of("each name in DATA_ROOTS", name, names_needed)
    return manifests


def size_fits(
    manifest: Manifest,
    image_px: int = 0,
    equalise: str = "as_manifest",
    volume_shape: object = (),
    window_hu: object = (),
) -> None:
    """Accept IMAGE_PX and EQUALISE for images, VOLUME_SHAPE and WINDOW_HU for volumes.

    Raises:
        InputError: those of the other kind are set.
    """
    if manifest.volume and (image_px or equalise == "yes"):
        errors.refuse(
            f"VOLUME_SHAPE and WINDOW_HU for {manifest.name}, whose images are volumes",
            "IMAGE_PX or EQUALISE",
            "Leave IMAGE_PX at 0 and EQUALISE as in the manifest.",
        )
    if manifest.layout.kind == "arrays" and window_hu:
        errors.refuse(
            f"no WINDOW_HU for {manifest.name}, whose volumes are not in Hounsfield units",
            window_hu,
            "Leave it empty.",
        )
    if not manifest.volume and (volume_shape or window_hu):
        errors.refuse(
            f"no VOLUME_SHAPE and no WINDOW_HU for {manifest.name}, whose images are no volumes",
            [volume_shape, window_hu],
            "Leave them empty; IMAGE_PX sets the size of an image.",
        )


def manifest_hash(manifest: Manifest) -> str:
    """Return the SHA-256 of a manifest's content (not of comments or layout of the file)."""
    return fingerprints.fingerprint(manifest.model_dump(mode="json"))
