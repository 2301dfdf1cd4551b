"""Networks by the names that NETWORK can have.

In: a name, the findings, sizes. Out: a network with random weights. Raises `InputError` for
settings that the network does not have. A network of one's own gets its name here; see the page on
networks.
"""

from collections.abc import Collection, Sequence

import torch

from helpers.core import errors, random_streams
from helpers.training import head_reading, network_settings, networks


def network(
    name: str,
    outputs: list[str],
    size: Sequence[int],
    *,
    channels: int = 1,
    width: int | None = None,
    seed: int = 0,
    head: str = "pooled",
    lateral: Collection[str] = (),
) -> head_reading.Network:
    """Return a network with random weights drawn from the study's stream "initial weights", on the
    device.

    Args:
        name: NETWORK.
        outputs: canonical names of the findings, see `networks.resnet9`.
        size: of an image, (height, width), or of a volume, (depth, height, width).
        channels, width, head, lateral: see `networks.resnet9`.
        seed: of the stream.

    Raises:
        InputError: see `network_settings.check_network`.
    """
    network_settings.check_network(name, width, head, size)
    if name == "resnet9":
        model = networks.resnet9(outputs, channels, width, seed, head, len(size), lateral)
        return model.to(networks.device())
    # needed here alone, and slow to load
    from helpers.training import torchvision_networks

    errors.one_of("CHANNELS", channels, (1, 3))
    reading = head_reading.of(head, outputs)
    with torch.random.fork_rng(devices=[]):
        stream = random_streams.random_stream(seed, "initial weights")
        torch.manual_seed(int(stream.integers(2**31)))
        model = torchvision_networks.TorchvisionNetwork(name, reading, channels, size[0])
    return model.to(networks.device())
