"""The options of a build, checked: how images are made, who is drawn, what uncertain labels mean.

In: a manifest and parameters of notebook 01. Out: dictionaries that become the `parameters` of a
cohort's record. Raises `InputError` for values that do not fit the data set.
"""

from helpers.core import errors, notebook_parameters
from helpers.data import manifests
from helpers.data.manifest_schema import Manifest
from helpers.data.tables import label_rules


def of_labels(manifest: Manifest, uncertain_means: str) -> dict:
    """Return what uncertain labels mean where the manifest's rules are overridden, checked.

    Raises:
        InputError: values of the wrong kind, or that do not fit the data set.
    """
    notebook_parameters.check_some("01", {"UNCERTAIN_MEANS": uncertain_means})
    if uncertain_means == "as_manifest":
        return {}
    label_rules.policies([manifest], uncertain_means)
    return {"uncertain_means": uncertain_means}


def of_images(
    manifest: Manifest,
    image_px: int,
    equalise: str,
    volume_shape: list[int] | tuple,
    window_hu: list[float] | tuple,
) -> dict:
    """Return how an image or a volume is made, checked.

    Raises:
        InputError: values of the wrong kind, or that do not fit the data set.
    """
    notebook_parameters.check_some(
        "01",
        {
            "IMAGE_PX": image_px,
            "EQUALISE": equalise,
            "VOLUME_SHAPE": list(volume_shape),
            "WINDOW_HU": list(window_hu),
        },
    )
    manifests.size_fits(manifest, image_px, equalise, volume_shape, window_hu)
    if rule := manifest.volume:
        return {
            "volume": (
                rule.model_dump(mode="json")
                | ({"shape": list(volume_shape)} if volume_shape else {})
                | ({"window_hu": list(window_hu)} if window_hu else {})
            )
        }
    return {
        "image_px": image_px or manifest.image.px,
        "aspect": manifest.image.aspect,
        "equalise": manifest.image.equalise if equalise == "as_manifest" else equalise == "yes",
    }


def of_patients(
    manifest: Manifest, n_patients: int, n_test_patients: int, generator_seed: int
) -> dict:
    """Return how many patients are drawn of an embedded cohort, checked.

    Raises:
        InputError: values of the wrong kind, or that do not fit the data set.
    """
    notebook_parameters.check_some(
        "01",
        {
            "N_PATIENTS": n_patients,
            "N_TEST_PATIENTS": n_test_patients,
            "GENERATOR_SEED": generator_seed,
        },
    )
    options = {}
    if manifest.layout.kind == "synthetic":
        wanted = {"train": n_patients, "valid": n_test_patients, "test": n_test_patients}
        options["patients"] = {
            split: count and (wanted[split] or count)
            for split, count in manifest.layout.patients.items()
        }
        options["generator_seed"] = manifest.layout.generator_seed + generator_seed
    elif n_patients or n_test_patients:
        errors.refuse(
            f"no number of patients for {manifest.name}, whose images are real",
            [n_patients, n_test_patients],
            "Leave N_PATIENTS, N_TEST_PATIENTS and N_PUBLIC_PATIENTS at 0 for real data.",
        )
    return options
