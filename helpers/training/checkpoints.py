"""Checkpoints of training: on disk whole, and never of half a step.

In: the state of a session. Out: a file, and what can be read of one. A damaged one is set aside and
counts as absent. Raises `OSError`, with the file's name, where it cannot be written or not be read.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from helpers.core import files


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Let Ctrl-C, and a kernel's interrupt, wait for the end of a step.

    Half a step would be released and not applied.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals go elsewhere
        return
    asked, before = [], signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, lambda *signals: asked.append(signals))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if asked and callable(before):
        before(*asked[0])


def _beside(checkpoint: Path) -> Path:
    """Return where a checkpoint lies until its steps are registered."""
    return checkpoint.with_name(f"{checkpoint.name}.new")


def write(path: Path, content: dict, before_it_counts: Callable[[], None] = lambda: None) -> None:
    """Write a checkpoint, whole or not at all.

    It lies beside the old one while `before_it_counts` runs (the register takes note of it), so
    that a kill loses neither.
    """
    with files.atomic_path(_beside(path)) as part:
        try:
            torch.save(content, part)
        except RuntimeError as error:  # what torch makes of a full disk
            raise OSError(f"{path} could not be written: {str(error).splitlines()[0]}") from error
    before_it_counts()
    os.replace(_beside(path), path)
    files.sync_folder(path.parent)


def read(path: Path) -> dict:
    """Return what the checkpoint with most steps holds, of two that a kill can leave; its tensors
    in the memory of the CPU, wherever they were when it was written.

    {} where there is none. A damaged one is renamed to `*.damaged`, beside earlier ones, and the
    reader told.

    Raises:
        OSError: a file that is there cannot be read; that is no damage.
    """
    latest = {"step": -1}
    for copy in (path, _beside(path)):
        try:
            stored = torch.load(copy, weights_only=True, map_location="cpu")
            latest = stored if stored["step"] > latest["step"] else latest
        except FileNotFoundError:
            continue
        except (OSError, MemoryError, torch.OutOfMemoryError):  # no fault of the file
            raise
        except Exception:  # whatever pickle, zip and torch raise for bytes that are not theirs
            print(
                f"{copy.parent.name}: its checkpoint {copy.name} is damaged and counts as lost; it"
                f" is kept as {files.set_aside(copy).name}."
            )
    return latest if latest["step"] >= 0 else {}
