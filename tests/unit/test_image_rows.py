"""The loader, from a memory map to a network's input, equals the plain way bit for bit, and keeps
little of the file in memory.
"""

import itertools
import mmap
import os
import subprocess
import sys

import loader
import numpy as np
import psutil
import pytest
import torch

from helpers.core import thread_workers
from helpers.training import image_augmentation, image_rows, network_input

CPU = torch.device("cpu")


@pytest.fixture(params=[1, 2])
def threads(request):
    """One and two threads; afterwards as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("size", [(512, 512), (48, 48), (33, 17), (300, 200), (6, 24, 16)])
@pytest.mark.parametrize("channels", [1, 3])
def test_loader_equals_the_plain_way_bit_for_bit(size, channels, threads):
    stream = np.random.default_rng(len(size))
    images = stream.integers(0, 256, (12, *size), dtype=np.uint8)
    images[1], images[2], images[3] = 255, 0, images[3] // 128  # constant ones; one of two greys
    images[4, :1] = 7
    data = loader.training_films(images, n_patients=5)
    # none, one and all axes, both ways, and beyond the size
    moves = np.array(
        list(itertools.product((-max(size) - 3, -2, 0, 1, max(size)), repeat=len(size)))
    )
    positions = stream.integers(0, len(images), len(moves))
    batch, labels = data.batch(positions, moves, channels, CPU)
    assert torch.equal(batch, loader.plainly(images, positions, moves, channels))
    assert batch.is_contiguous() and torch.equal(labels, data.labels[positions])
    random_moves = data.moves(len(positions), stream)
    batch, _ = data.batch(positions, random_moves, channels, CPU)
    assert torch.equal(batch, loader.plainly(images, positions, random_moves, channels))


def test_an_input_is_the_same_alone_and_among_others(threads):
    images = np.random.default_rng(0).integers(0, 256, (5, 512, 512), dtype=np.uint8)
    among_others = network_input.to_input(images)
    torch.set_num_threads(1)
    for row in range(len(images)):
        assert torch.equal(network_input.to_input(images[[row]])[0], among_others[row])


def test_of_no_image_there_is_an_empty_input():
    images = np.zeros((3, 8, 8), np.uint8)
    none = image_rows.read(images, np.array([], dtype=int))
    assert image_augmentation.shift(none, np.zeros((0, 2), int)).shape == (0, 8, 8)
    assert network_input.to_input(none, 3).shape == (0, 3, 8, 8)


def test_inputs_are_aligned_and_of_changing_number_take_the_same_memory():
    # in a process of its own, with the memory settings of notebooks
    code = """
import numpy as np, psutil, torch
from helpers.training import network_input
images, used = np.zeros((64, 512, 512), np.uint8), []
for n in (60, 64, 58, 63, 57, 62, 55, 64, 61, 56) * 2:
    batch = network_input.to_input(images[:n], 3)
    assert batch.data_ptr() % 64 == 0
    del batch
    memory = psutil.Process().memory_info()
    used.append(memory.rss - memory.shared)
print(max(used[2:]) - used[1])
"""
    command = [sys.executable, "-c", code]
    environment = os.environ | loader.ENVIRONMENT
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 60e6  # a batch has 201 MB


def test_a_row_that_is_not_there_is_an_error_and_not_another_film(threads):
    with pytest.raises(IndexError):
        image_rows.read(np.zeros((3, 8, 8), np.uint8), np.array([0, 3]))


def test_slices_cover_every_item_once(threads, monkeypatch):
    monkeypatch.setattr(thread_workers, "VALUES_AT_A_TIME", 10)
    for n_items, values in itertools.product((0, 1, 7, 10), (0, 1, 3, 99)):
        parts = []
        thread_workers.share(parts.append, n_items, values)
        assert sorted(itertools.chain(*(range(*part.indices(n_items)) for part in parts))) == list(
            range(n_items)
        )
    seen = []
    thread_workers.share(lambda part: seen.append(torch.get_num_threads()), 4, 99)
    assert seen == [1] * 4


def test_errors_of_a_thread_reach_the_caller(threads):
    def fail(part):
        raise OSError("a disk that went away")

    with pytest.raises(OSError, match="went away"):
        thread_workers.share(fail, 3, 1)


def _mapped_bytes():
    """Bytes of files that are mapped into this process's memory."""
    return psutil.Process().memory_info().shared


@pytest.mark.skipif(sys.platform != "linux", reason="counts pages as Linux does")
def test_an_epoch_keeps_no_more_of_the_file_than_a_batch(tmp_path):
    rows = loader.write_films(tmp_path / "images.npy", 4000, 128, n_drawn=20)  # 66 MB, sparse
    images = np.load(tmp_path / "images.npy", mmap_mode="r")
    data, stream = loader.training_films(images, 900), np.random.default_rng(0)
    data.batch(rows, data.moves(len(rows), stream), 1, CPU)  # what is loaded once
    before, most = _mapped_bytes(), 0
    for positions in np.array_split(stream.permutation(4000), 40):
        moves = data.moves(len(positions), stream)
        batch, _ = data.batch(positions, moves, 1, CPU)
        assert torch.equal(batch, loader.plainly(np.asarray(images), positions, moves, 1))
        images._mmap.madvise(mmap.MADV_DONTNEED)  # what the plain way has mapped
        data.batch(positions, moves, 1, CPU)
        most = max(most, _mapped_bytes() - before)
    assert most < 4e6
    assert (
        np.asarray(images).sum(dtype=np.int64) > 0 and _mapped_bytes() - before > 50e6
    )  # can fail


def test_a_map_that_is_written_is_left_alone(tmp_path):
    np.save(tmp_path / "images.npy", np.zeros((4, 64, 64), np.uint8))
    images = np.load(tmp_path / "images.npy", mmap_mode="c")  # changes are in memory only
    images[:] = 9
    assert (image_rows.read(images, np.arange(4)) == 9).all() and (images == 9).all()


def test_demo_films_are_as_before():
    from helpers.data.synthetic import chest_cohort

    films = chest_cohort.draw_block("public", "train", 0, 0, 48, 40)[0]
    rows, stream = np.arange(len(films)), np.random.default_rng(0)
    data = loader.training_films(films, 20)
    moves = data.moves(len(rows), stream)
    batch, _ = data.batch(rows, moves, 1, CPU)
    assert torch.equal(batch, loader.plainly(films, rows, moves, 1))
