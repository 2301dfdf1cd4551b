"""What a model says of each audited patient, and what the models so far have said, on disk.

In: a trained network, the audited patients. Out: log-likelihoods of their labels.
"""

import contextlib
import functools
import zipfile
from pathlib import Path

import numpy as np
import torch

from helpers.core import files
from helpers.data import cohorts
from helpers.training import (
    frozen_head,
    head_reading,
    image_augmentation,
    network_settings,
    prediction,
)

SIGNALS = ("log_likelihood", "population")
_LEAST = 1e-7  # a score that rounds to 0 or 1 counts as one so near to it


class PatientScores:
    """Reads what models say of the same patients.

    Attributes:
        cohort, patients, others, settings: of the audit, see `audit_models.Audit`.
        rows: of their images in the cohort.
    """

    def __init__(
        self,
        cohort: cohorts.Cohort,
        patients: np.ndarray,
        others: np.ndarray,
        settings: network_settings.NetworkSettings,
    ) -> None:
        self.cohort, self.patients, self.others = cohort, patients, others
        self.settings = settings
        ids = cohort.table["patient_id"].astype(str)
        is_known = cohort.table[cohort.findings].notna().any(axis=1)
        self.rows = np.flatnonzero(is_known & ids.isin([*patients, *others]))
        self._network: head_reading.Network | None = None  # whose trunk all models of a head share

    def says(self, model: head_reading.Network) -> dict[str, np.ndarray]:
        """Return the mean log-likelihood of the labels of each patient, over images and known
        findings, by the scores that a model would give out.

        Args:
            model: trained.

        Returns:
            log_likelihood and reversed_labels (patients,), of the labels and of their reverse;
            population (others,).
        """
        scores = self._scores(model).astype(float).clip(_LEAST, 1 - _LEAST)
        labels = self.cohort.table[self.cohort.findings].to_numpy(float)[self.rows]
        n = len(self.patients)
        return {
            "log_likelihood": self._means(labels, scores)[:n],
            "reversed_labels": self._means(1 - labels, scores)[:n],
            "population": self._means(labels, scores)[n:],
        }

    def _means(self, labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Return the mean log-likelihood of each patient's labels, the others' last."""
        of_finding = np.where(labels == 1, np.log(scores), np.log1p(-scores))
        of_image = np.nanmean(np.where(np.isnan(labels), np.nan, of_finding), axis=1)
        everybody = np.concatenate([self.patients, self.others])
        order = np.argsort(everybody)
        names = self.cohort.table["patient_id"].to_numpy(str)[self.rows]
        place = order[np.searchsorted(everybody, names, sorter=order)]
        return np.bincount(place, of_image) / np.bincount(place)

    def _scores(self, model: head_reading.Network) -> np.ndarray:
        """Return the scores of the images, as `prediction.predict` does; of a model whose head
        alone was trained from features that are computed once.
        """
        shifts, channels = self.settings.score_shifts, self.settings.channels
        if not frozen_head.is_head_alone(model):
            return prediction.predict(model, self.cohort.images, self.rows, channels, shifts=shifts)
        self._network = self._network or model
        with torch.no_grad():
            logits = [
                model.read(features.flatten(0, 1).to(model.head.weight.device))
                for features in self._public_features
            ]
            return torch.sigmoid(torch.stack(logits).mean(0)).cpu().numpy()

    @functools.cached_property
    def _public_features(self) -> list[torch.Tensor]:
        """Return the public trunk's features of the images, moved each way."""
        images, every = self.cohort.images[self.rows], np.arange(len(self.rows))
        chosen = prediction.moves(images.shape[1:])[: self.settings.score_shifts]
        return [
            frozen_head.features_of(
                self._network,
                image_augmentation.shift(images, np.broadcast_to(move, (len(images), len(move)))),
                every,
                self.settings.channels,
            )
            for move in chosen
        ]


class Kept:
    """What the models of an arm have said so far, on disk after each.

    Guarantees: what another arm, cohort, start or code said is never taken up.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        """Take up what is there.

        Args:
            path: of the file.
            fingerprint: of all that decides its content.
        """
        self.path, self.fingerprint = path, fingerprint
        self.arrays: dict[str, np.ndarray] = {}
        with (
            contextlib.suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile),
            np.load(path) as content,
        ):
            if str(content["fingerprint"]) == fingerprint:
                self.arrays = {name: content[name] for name in SIGNALS}

    @property
    def n_done(self) -> int:
        """Return the number of models that are there."""
        return len(self.arrays[SIGNALS[0]]) if self.arrays else 0

    def add(self, says: dict[str, np.ndarray]) -> None:
        """Keep what the next model says.

        Args:
            says: from `PatientScores.says`.
        """
        for name in SIGNALS:
            before = self.arrays.get(name, np.zeros((0, len(says[name]))))
            self.arrays[name] = np.concatenate([before, says[name][None]])
        with files.atomic_path(self.path) as part, open(part, "wb") as stream:
            np.savez(stream, fingerprint=np.array(self.fingerprint), **self.arrays)
