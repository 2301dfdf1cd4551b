"""Images are gathered by unit, and units are never split."""

import numpy as np
import torch

from helpers.privacy import units

SIZES = [3, 1, 2, 5, 1]  # images of each unit
INDEX = torch.repeat_interleave(torch.arange(len(SIZES)), torch.tensor(SIZES))


def test_units_of_one_size_and_of_several_are_added_up():
    values = torch.arange(12.0)[:, None]
    several = units.Units(INDEX, SIZES)
    # units of 3, 1, 2, 5, 1 images: 0+1+2, 3, 4+5, 6+7+8+9+10, 11
    assert several.add_up(values)[:, 0].tolist() == [3, 3, 9, 40, 11]
    sums = several.each_size(lambda a, b: (a * b).sum((1, 2)), values, torch.ones(12, 1))
    assert sums.tolist() == [3, 3, 9, 40, 11]
    assert torch.equal(units.Units(torch.arange(12), [1] * 12).add_up(values), values)


def test_units_of_several_sizes_are_filled_up_with_zeros_to_share_a_call():
    values, calls = torch.arange(1.0, 13.0)[:, None], []

    def total(a, b):
        calls.append(a.shape)
        return (a * b).sum((1, 2))

    batched = units.Units(INDEX, SIZES, is_batched=True)
    assert batched.each_size(total, values, values).tolist() == [14, 16, 61, 415, 144]
    assert calls == [(5, 5, 1)]
    assert batched.filled_up(values)[1, :, 0].tolist() == [4, 0, 0, 0, 0]
    assert units.is_batched_on(torch.device("cuda")) and not units.is_batched_on(
        torch.device("cpu")
    )


def test_pieces_never_split_a_unit_and_cover_all():
    sizes = np.random.default_rng(5).integers(1, 9, size=60).tolist()
    cuts = units.pieces(sizes, 12)
    assert [unit for cut in cuts for unit in range(cut.start, cut.stop)] == list(range(60))
    assert all(sum(sizes[cut]) <= 12 for cut in cuts)
    # a large unit stands alone
    assert units.pieces([3, 20, 2], 8) == [slice(0, 1), slice(1, 2), slice(2, 3)]
    assert units.pieces([], 8) == []


def test_pieces_of_units_that_are_filled_up_count_what_fills_up():
    assert units.pieces([1, 1, 1, 4, 1, 1], 8) == [slice(0, 5), slice(5, 6)]
    assert units.pieces([1, 1, 1, 4, 1, 1], 8, is_batched=True) == [
        slice(0, 3),
        slice(3, 5),
        slice(5, 6),
    ]
