"""Pretraining on public data: the model from which all arms of a study start.

In: the network's settings, the private cohort, a public one. Out: the public model, its training
session, its zero-shot run. Raises `InputError` for a public cohort that shares films with the
private one.
"""

import dataclasses
from pathlib import Path

from torch import nn

from helpers.core import errors, files, fingerprints, paths, run_records
from helpers.data import cohorts
from helpers.privacy import lineage, register
from helpers.training import (
    devices,
    finished_runs,
    head_reading,
    named_networks,
    network_settings,
    networks,
    ordinary_step,
    prediction,
    private_step,
    same_films,
    starts,
    training_session,
    training_set,
    weight_files,
)

CODE = [
    "training.starts",
    "training.pretraining",
    "training.loop",
    "training.finished_runs",
]  # decides weights and predictions, besides data and parameters
PUBLIC_SEED = 0  # the public model is the same for every seed of the study


@dataclasses.dataclass(frozen=True)
class PublicModel:
    """The public model of a study: what decides it, and the zero-shot run that holds it.

    Attributes:
        run: name of the zero-shot run.
        private: the cohort whose arms start from it.
        public: the cohort it is trained on; None where it is a file, or there is none.
        settings: its start and network.
        parameters: what decides it, for records.
        made_from: contents that decide it, too: hashes of data or weights, canonical findings.
    """

    run: str
    private: cohorts.Cohort
    public: cohorts.Cohort | None
    settings: network_settings.NetworkSettings
    parameters: dict
    made_from: dict

    @classmethod
    def planned(
        cls,
        settings: network_settings.NetworkSettings,
        private: cohorts.Cohort,
        public: cohorts.Cohort | None,
        *,
        epochs: int,
        learning_rate: float,
        augmentation: str,
        batch_size: int,
        inverted: float = 0.0,
    ) -> "PublicModel":
        """Return the public model that these settings make; nothing is trained yet.

        Args:
            settings: of the study.
            private, public: see `PublicModel`.
            epochs, learning_rate, augmentation, batch_size: of pretraining.
            inverted: share of the public films that is shown inverted, in [0, 1], see
                `image_augmentation.invert`.

        Raises:
            InputError: a head that cannot read these images; the public cohort shares films with
                the private one, or its images have another size; real patients' training films come
                back in EVALUATE_ON.
        """
        same_films.check(private, public, settings.evaluate_on)
        for cohort in filter(None, (private, public)):  # before anything is trained
            head_reading.of(settings.head, [], cohort.images.ndim - 1)
            settings.check(cohort.images.shape[1:])
        if public:  # what private patients teach before private training has no guarantee
            refuse_other_size(public, private)
            refuse_shared(public, private)
        parameters = settings.architecture | {
            "PRETRAIN": settings.pretrain,
            "PRETRAIN_EPOCHS": epochs,
            "PRETRAIN_AUGMENTATION": augmentation,
            "PRETRAIN_LEARNING_RATE": learning_rate,
            "BATCH_SIZE": batch_size,
        }
        if settings.precision != "float32":  # runs of earlier versions know no other
            parameters["PRECISION"] = settings.precision
        if inverted > 0:
            parameters["PRETRAIN_INVERTED"] = inverted
        parameters = prediction.with_shifts(parameters, settings.score_shifts)
        made_from = {
            "data": [public.record["data_hash"]] if public else [],
            "canonical": private.canonical,
        }
        if settings.head == "halves":  # how labels without a side are read
            made_from["lateral"] = [
                sorted(cohort.lateral) for cohort in (private, public) if cohort
            ]
        if settings.pretrain.endswith(paths.WEIGHT_FILES):
            weights, _ = weight_files.load_weights(Path(settings.pretrain))
            made_from["weights"] = weight_files.weights_hash(weights)
        run = run_records.run_name(private.name, "zero_shot")
        return cls(run, private, public, settings, parameters, made_from)

    @property
    def fingerprint(self) -> str:
        """Return the fingerprint of the zero-shot run; code and the number of shifts decide, too,
        unless a private run started from it.

        To train the model again, with the same data and parameters, could change its weights by a
        rounding error; a private run started from the old ones would then have another identity.
        """
        record = {}
        if run_records.private_runs_of(paths.results_dir(), self.private.name) and (
            (paths.run_dir(self.run) / "record.json").exists()
        ):
            record = run_records.read_record(self.run)
        recorded = prediction.with_shifts(record.get("parameters", {}), 1), record.get("made_from")
        if recorded == (
            files.plain(prediction.with_shifts(self.parameters, 1)),
            files.plain(self.made_from),
        ):
            return record["fingerprint"]
        return fingerprints.fingerprint(self.parameters | self.made_from, CODE)

    def session(self, n_devices: int = 1) -> training_session.Session | None:
        """Begin its training; None where there is no public cohort, or the run holds it already.

        Args:
            n_devices: that train it, see `devices.session`.
        """
        return pretraining_session(
            self.run,
            self.public,
            channels=self.settings.channels,
            width=self.settings.width,
            network=self.settings.network,
            head=self.settings.head,
            precision=self.settings.precision,
            epochs=self.parameters["PRETRAIN_EPOCHS"],
            learning_rate=self.parameters["PRETRAIN_LEARNING_RATE"],
            augmentation=self.parameters["PRETRAIN_AUGMENTATION"],
            batch_size=self.parameters["BATCH_SIZE"],
            physical_batch_size=self.settings.physical_batch_size,
            inverted=self.parameters.get("PRETRAIN_INVERTED", 0.0),
            fingerprint=self.fingerprint,
            n_devices=n_devices,
        )

    def finish(
        self, model: nn.Module, start: starts.Start, session: training_session.Session | None
    ) -> None:
        """Keep network settings and zero-shot run, with its predictions of the private patients,
        unless they are there.

        Args:
            model: the network as all arms start, see `starts.starting_model`.
            start: its weights.
            session: of pretraining, if this process trained it.
        """
        network_settings.write(self.private.name, self.settings)
        shifts = self.settings.score_shifts
        if self.settings.pretrain == "none" or finished_runs.is_predicted(
            self.run, self.fingerprint, self.private, shifts
        ):
            return
        finished_runs.finish(
            model,
            self.private,
            self.settings.channels,
            run=self.run,
            arm="zero_shot",
            seed=PUBLIC_SEED,
            parameters=self.parameters,
            seconds=session.seconds if session else 0,
            fingerprint=self.fingerprint,
            start=start.lineage,
            made_from=self.made_from,
            shifts=shifts,
        )

    def baseline(self, **parameters: float) -> tuple[dict, str]:
        """Return all parameters of a baseline that starts from it, and the fingerprint of its run.

        Args:
            parameters: those of the baseline itself.
        """
        declared = self.parameters | parameters
        data = {"private": self.private.record["data_hash"]}
        return declared, fingerprints.fingerprint(declared | self.made_from | data, CODE)


def fingerprint_of_demo_run(parameters: dict, arm: private_step.PrivateArm, shifts: int = 1) -> str:
    """Return the fingerprint of a run in demo mode: its parameters, data, start, code and number of
    shifts at prediction.

    In private mode an identity stands in its place, see `training_session.Session`; no shift is
    part of it.
    """
    made_from = {
        "data": arm.data.cohort.record["data_hash"],
        "start": arm.start,
        "pos_weight": [] if arm.pos_weight is None else arm.pos_weight.tolist(),
    } | networks.sides_of(arm.network)
    return fingerprints.fingerprint(prediction.with_shifts(parameters, shifts) | made_from, CODE)


def pretraining_session(
    run: str,
    public: cohorts.Cohort | None,
    *,
    channels: int,
    width: int | None,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    fingerprint: str,
    precision: str = "float32",
    augmentation: str = "strong",
    head: str = "halves",
    network: str = "resnet9",
    physical_batch_size: int = 256,
    inverted: float = 0.0,
    n_devices: int = 1,
) -> training_session.Session | None:
    """Begin supervised pretraining on a public cohort.

    Where no public label has a side, a "sided" head is pooled: it has nothing to learn of sides.

    Returns:
        A session; None without a public cohort, or where `run` has been finished with this
        fingerprint (a second seed of the study finds the public model of the first).
    """
    if public is None or holds_public_model(run, fingerprint):
        return None
    outputs = [public.canonical[finding] for finding in public.findings]
    if head == "sided" and not any(":" in name for name in outputs):
        head = "pooled"
    model = named_networks.network(
        network,
        outputs,
        public.images.shape[1:],
        channels=channels,
        width=width,
        seed=PUBLIC_SEED,
        head=head,
        lateral=public.lateral,
    )
    data = training_set.TrainingSet.of(public, "image")
    arm = ordinary_step.BaselineArm(
        data,
        model,
        channels=channels,
        batch_size=batch_size,
        seed=PUBLIC_SEED,
        precision=precision,
        augmentation=augmentation,
        physical_batch_size=physical_batch_size,
        inverted=inverted,
    )
    return devices.session(
        n_devices,
        run,
        model,
        arm,
        epochs=epochs,
        learning_rate=learning_rate,
        fingerprint=fingerprint,
    )


def refuse_other_size(public: cohorts.Cohort, private: cohorts.Cohort) -> None:
    """Accept a public cohort whose images have the private one's size, or are images for volumes.

    Raises:
        InputError: another size: what is a rib at one is a lung at the other.
    """
    wanted, there = private.images.shape[1:], public.images.shape[1:]
    if len(wanted) == len(there) and wanted != there:
        errors.refuse(
            f"PRETRAIN of images of {' x '.join(map(str, wanted))}, as those of {private.name}",
            f"{public.name} of {' x '.join(map(str, there))}",
            "Build both cohorts with the same IMAGE_PX or VOLUME_SHAPE (notebook 01).",
        )


def refuse_shared(public: cohorts.Cohort, private: cohorts.Cohort) -> None:
    """Accept a public cohort that has no film of the private one, before anything is trained on it.

    Raises:
        InputError: see `lineage.checked`.
    """
    patients = register.Register()
    trained_on = lineage.of_training(public.name, patients.enrol(*public.training_patients()))
    lineage.checked([trained_on], private.name, patients.enrol(*private.training_patients()))


def holds_public_model(zero_shot: str, fingerprint: str) -> bool:
    """Return whether a zero-shot run has the weights of this fingerprint, be its predictions
    damaged or of other patients.
    """
    folder = paths.run_dir(zero_shot)
    record = run_records.read_record(zero_shot) if (folder / "record.json").exists() else {}
    return record.get("fingerprint") == fingerprint and record.get(
        "weights_hash"
    ) == weight_files.hash_of_file(folder / "weights.safetensors")
