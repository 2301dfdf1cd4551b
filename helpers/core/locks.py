"""One process at a time: a lock file that the system lets go when its holder ends, however it ends.

In: the lock file, what it protects. Out: whether it is held. Raises `InputError`, with its holder's
name, for a lock that another process holds.

Some file systems have no locks (NFS without its lock service, Lustre without `flock`): the callers
say so and go on.
"""

import fcntl
import os
import socket
from pathlib import Path
from typing import IO

from helpers.core import errors

# by process: a forked child does not hold what its parent holds
_held: dict[tuple[int, Path], IO] = {}


def hold(path: Path, what: str, do: str) -> bool:
    """Hold a lock until `release` or the end of this process; return whether the file system has
    locks at all.

    Cells run again in one process find the lock theirs already.

    Args:
        path: of the lock file, made if need be.
        what: is protected, for the message.
        do: what to do where another process holds it.

    Raises:
        InputError: another process holds it; names that.
    """
    key = (os.getpid(), path.resolve())
    if key in _held:
        return True
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = open(path, "a+")  # noqa: SIM115 - open until `release`
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # the second where locks come over a network
        handle.seek(0)
        holder = handle.read().strip() or "another process"
        handle.close()
        errors.refuse(f"{what} for this process alone", f"{holder} at work in it", do)
    except OSError:  # a file system without locks
        handle.close()
        return False
    handle.truncate(0)
    handle.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    handle.flush()
    _held[key] = handle
    return True


def wait_for(handle: IO) -> bool:
    """Lock an open file until it is closed, as soon as nobody else has it locked; return whether
    its file system has locks at all.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:
        return False
    return True


def is_held(path: Path) -> bool:
    """Return whether this process holds a lock."""
    return (os.getpid(), path.resolve()) in _held


def is_taken(path: Path) -> bool:
    """Return whether any process holds a lock, on this machine or another one; False where the file
    is not there, or its file system has no locks.
    """
    try:
        with open(path) as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return True
    except OSError:
        return False
    return False


def release(path: Path) -> None:
    """Let a lock go that this process holds; otherwise nothing."""
    handle = _held.pop((os.getpid(), path.resolve()), None)
    if handle:
        handle.close()
