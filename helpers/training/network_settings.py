"""What notebook 02 decides for all arms of a study: the start, the network, and how it computes.

In: settings of notebook 02. Out: `runs/<cohort>-network/network.json`, and the settings again for
the notebooks after it. Needs no torch. Raises `InputError` where notebook 02 has not been run, or
where the file is not as it wrote it, and for settings that a network does not have.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from helpers.core import errors, files, notebook_parameters, paths

LEAST_PX = 32  # of an image, for networks of torchvision: less vanishes in their strides
_MADE_BY = "Run notebook 02 with this cohort first."


@dataclasses.dataclass(frozen=True)
class NetworkSettings:
    """The start and the network that all arms of a study share.

    Attributes:
        pretrain: what it starts from, see `starts.weights_to_start_from`.
        evaluate_on: a further data set on whose patients the models are tried, or "none".
        width, channels, head: see `networks.resnet9`; other networks have no width.
        precision: of the network, see `image_loss.autocast`.
        physical_batch_size: images in memory at a time; changes speed, not results.
        score_shifts: of an image at prediction, see `prediction.predict`; 1 where an earlier
            version wrote the settings.
        network: its name, see `check_network`; resnet9 where an earlier version wrote the settings.
    """

    pretrain: str
    evaluate_on: str
    width: int | None
    channels: int
    head: str
    precision: str
    physical_batch_size: int
    score_shifts: int = 1
    network: str = "resnet9"

    @property
    def architecture(self) -> dict[str, int | str]:
        """Return what `starts.starting_model` takes: width, channels, head; of networks but
        resnet9 the name in place of the width.
        """
        if self.network == "resnet9":  # runs of earlier versions know no other
            return {"width": self.width, "channels": self.channels, "head": self.head}
        return {"network": self.network, "channels": self.channels, "head": self.head}

    def check(self, size: Sequence[int]) -> None:
        """Accept images of a size, see `check_network`."""
        check_network(self.network, self.width, self.head, size)


def check_network(network: str, width: int | None, head: str, size: Sequence[int]) -> None:
    """Accept settings that a network has.

    Args:
        network: NETWORK.
        width: WIDTH, None for all but resnet9.
        head: HEAD.
        size: of an image, (height, width), or of a volume, (depth, height, width); () where it is
            not known yet.

    Raises:
        InputError: a width where the network has its own, or none for resnet9; a head that reads
            more than the network's features; volumes; images that are too small, not square, or
            for vit_b_16 no multiple of a patch.
    """
    if network == "resnet9":
        if width is None:
            errors.refuse("WIDTH for NETWORK = 'resnet9'", "None", "Set it to 16, or 64: paper.")
        return
    if len(size) == 3:
        errors.refuse("NETWORK = 'resnet9' for volumes", repr(network), "Set NETWORK to 'resnet9'.")
    where = f"with NETWORK = {network!r}"
    if width is not None:
        errors.refuse(
            f"WIDTH = None {where}", repr(width), "Its width is fixed: set WIDTH to None."
        )
    if head != "pooled":
        errors.refuse(
            f"HEAD = 'pooled' {where}", repr(head), "It reads whole images: set HEAD to 'pooled'."
        )
    step = 16 if network == "vit_b_16" else 1
    if size and (size[0] != size[1] or size[0] % step or size[0] < LEAST_PX):
        errors.refuse(
            f"square images of {LEAST_PX} pixels or more"
            f"{', a multiple of 16,' * (step > 1)} {where}",
            " x ".join(map(str, size)),
            "Build the cohort with another IMAGE_PX (notebook 01).",
        )


def path_of(cohort: str) -> Path:
    """Return where the settings of a cohort's study lie."""
    return paths.run_dir(f"{cohort}-network") / "network.json"


def write(cohort: str, settings: NetworkSettings) -> None:
    """Keep the settings for the notebooks after 02, under the names of its parameters.

    Args:
        cohort: name of the private cohort.
        settings: of its study.
    """
    content = dataclasses.asdict(settings)
    files.write_json(path_of(cohort), {name.upper(): value for name, value in content.items()})


def read(cohort: str) -> NetworkSettings:
    """Return the settings that notebook 02 kept.

    Raises:
        InputError: it was not run with this cohort, or the file holds other names or values.
    """
    content = files.read_json(path_of(cohort), _MADE_BY)
    fields = dataclasses.fields(NetworkSettings)
    names = [field.name.upper() for field in fields]
    needed = {field.name.upper() for field in fields if field.default is dataclasses.MISSING}
    if not isinstance(content, dict) or not needed <= set(content) <= set(names):
        errors.refuse(f"{', '.join(names)} in {path_of(cohort)}", repr(content)[:80], _MADE_BY)
    notebook_parameters.check_some("02", content)
    return NetworkSettings(**{name.lower(): value for name, value in content.items()})
