"""The training images of a cohort, by privacy unit, and a batch of them as a network's input.

In: a cohort. Out: its training images gathered by privacy unit (patient or image). Raises
`InputError` for a cohort without training images.
"""

import dataclasses
import hashlib

import numpy as np
import pandas as pd
import torch

from helpers.core import errors, fingerprints
from helpers.data import cohorts
from helpers.training import image_augmentation, image_rows, network_input


def merged_in_words(merged: dict) -> str:
    """Return for the ledger how many patients were merged into one unit because they share a file.

    See `build_cohort`.
    """
    if not merged:
        return "not counted"
    if not merged["ids"]:
        return "none"
    return (
        f"{merged['ids']} patient ids are {merged['units']} units, since they share an identical"
        f" image (up to {merged['largest']} in one): who is merged depends on several patients'"
        " files, so that one newcomer can change several units at once"
    )


@dataclasses.dataclass
class TrainingSet:
    """The training images of a cohort.

    Attributes:
        images: (n, height, width) or (n, depth, height, width) uint8, memory-mapped, all images of
            the cohort.
        rows: (n_train,) rows of `images` in the training split.
        labels: (n_train, n_findings) float32, NaN unknown.
        units: list over units of the positions (in `rows`) of its images.
        names: (n_units,) patient_id or image_id of each unit.
        unit: "patient" or "image".
        most_images: of any one patient.
        cohort: where the images are from; None where that does not matter.
        chosen_by: max_images_per_patient and seed of `of`.
    """

    images: np.ndarray
    rows: np.ndarray
    labels: torch.Tensor
    units: list[np.ndarray]
    names: np.ndarray
    unit: str
    most_images: int
    cohort: cohorts.Cohort | None = None
    chosen_by: tuple[int | None, int] = (None, 0)

    lightness = 1  # as many more of them are in memory at a time as of images

    @classmethod
    def of(
        cls,
        cohort: cohorts.Cohort,
        unit: str,
        max_images_per_patient: int | None = None,
        seed: int = 0,
    ) -> "TrainingSet":
        """Return the training split of a cohort, its images gathered by `unit` ("patient" or
        "image").

        Args:
            cohort: whose training images.
            unit: "patient" or "image".
            max_images_per_patient: leave out further images of a patient; the choice depends on
                that patient alone.
            seed: of that choice.

        Raises:
            InputError: the split is empty, or nobody knows whose an image is and patients are to be
                units.
        """
        cohorts.unit_fits(cohort.name, cohort.record, unit)
        rows = np.flatnonzero(cohort.table["split"] == "train")
        if not len(rows):
            errors.refuse(
                f"training images in {cohort.name}", "none", "Check the split rule of its manifest."
            )
        images, patients = (cohort.table[f"{name}_id"].to_numpy() for name in ("image", "patient"))
        if max_images_per_patient is not None:
            # A fixed order of a patient's images: another image that comes or goes changes at most
            # one other.
            order = [hashlib.sha256(f"{seed} {image}".encode()).digest() for image in images[rows]]
            rank = pd.Series(order).groupby(patients[rows]).rank(method="first")
            rows = rows[(rank <= max_images_per_patient).to_numpy()]
        labels = torch.from_numpy(cohort.table[cohort.findings].to_numpy(np.float32)[rows])
        codes, names = pd.factorize({"image": images, "patient": patients}[unit][rows])
        order = np.argsort(codes, kind="stable")
        units = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
        most_images = int(pd.Series(patients[rows]).value_counts().max())
        return cls(
            cohort.images,
            rows,
            labels,
            units,
            np.asarray(names),
            unit,
            most_images,
            cohort,
            (max_images_per_patient, seed),
        )

    @property
    def merged(self) -> dict:
        """Return how many patient ids were merged into how many units, see `build_cohort`.

        {} where nobody counted.
        """
        return self.cohort.record.get("merged", {}) if self.cohort else {}

    def content_hash(self) -> str:
        """Return the SHA-256 of all that training reads, in no order: ids, films, how they were
        decoded, labels.

        A label or film of `valid` or `test` has no say in it.
        """
        images, findings = self.cohort.table.iloc[self.rows], self.cohort.findings
        columns = [
            images["image_id"],
            images["patient_id"],
            self.cohort.films()[self.rows],
            *(images[finding].astype(float) for finding in findings),
        ]
        rows = sorted(zip(*(map(str, column) for column in columns)))
        decoded = {
            name: value
            for name, value in self.cohort.record.get("parameters", {}).items()
            if name
            not in ("patients", "generator_seed", "uncertain_means")  # labels are in the rows
        }
        return fingerprints.fingerprint(
            {
                "rows": rows,
                "findings": findings,
                "canonical": self.cohort.canonical,
                "decoded": decoded,
            }
        )

    def moves(self, n_images: int, stream: np.random.Generator) -> np.ndarray:
        """Return (n_images, dimensions) random moves for `shift`, up to 1/16 of the image."""
        most_px = np.maximum(1, np.array(self.images.shape[1:]) // 16)
        return stream.integers(-most_px, most_px + 1, size=(n_images, len(most_px)))

    def batch(
        self, positions: np.ndarray, moves: np.ndarray, channels: int, device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return input (batch, channels, *size), moved by `shift`, and labels of images, on the
        device.
        """
        images = image_rows.read(self.images, self.rows[positions])
        images = image_augmentation.shift(images, moves)
        labels = self.labels[torch.from_numpy(positions)]
        return network_input.to_input(torch.from_numpy(images).to(device), channels), labels.to(
            device
        )
