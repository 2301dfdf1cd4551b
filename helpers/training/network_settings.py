"""What notebook 02 decides for all arms of a study: the start, the network, and how it computes.

In: settings of notebook 02. Out: `runs/<cohort>-network/network.json`, and the settings again for
the notebooks after it. Raises `InputError` where notebook 02 has not been run, or where the file is
not as it wrote it.
"""

import dataclasses
from pathlib import Path

from helpers.core import errors, files, notebook_parameters, paths

_MADE_BY = "Run notebook 02 with this cohort first."


@dataclasses.dataclass(frozen=True)
class NetworkSettings:
    """The start and the network that all arms of a study share.

    Attributes:
        pretrain: what it starts from, see `starts.weights_to_start_from`.
        evaluate_on: a further data set on whose patients the models are tried, or "none".
        width, channels, head: see `networks.resnet9`.
        precision: of the network, see `image_loss.autocast`.
        physical_batch_size: images in memory at a time; changes speed, not results.
        score_shifts: of an image at prediction, see `prediction.predict`; 1 where an earlier
            version wrote the settings.
    """

    pretrain: str
    evaluate_on: str
    width: int
    channels: int
    head: str
    precision: str
    physical_batch_size: int
    score_shifts: int = 1

    @property
    def architecture(self) -> dict[str, int | str]:
        """Return what `starts.starting_model` takes: width, channels, head."""
        return {"width": self.width, "channels": self.channels, "head": self.head}


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
