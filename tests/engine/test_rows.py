"""Row tables and splits: no row is in two parts or lost, and padding changes no number."""

from itertools import combinations

import jax.numpy as jnp
import numpy as np
import pytest

from jaxephys.engine.rows import map_row_blocks, pad_rows, plain_rows, stack_rows, take_rows
from jaxephys.engine.task import RowSet
from jaxephys.evaluation.splits import Split, check_split, hold_out, k_folds

LABELS = np.repeat(np.arange(4), [100, 60, 30, 10])
GROUPS = np.random.default_rng(0).integers(0, 40, len(LABELS))
RNG = np.random.default_rng(1)
LERP = RowSet(
    RNG.integers(0, 50, 23),
    np.ones(23, np.float32),
    RNG.integers(0, 50, 23),
    RNG.random(23).astype(np.float32),
)


def assert_is_partition(split):
    everything = np.concatenate(split)
    np.testing.assert_array_equal(np.sort(everything), np.arange(len(LABELS)))


def shares(rows):
    return np.bincount(LABELS[rows], minlength=4) / np.bincount(LABELS)


def test_hold_out_is_disjoint_whole_and_stratified():
    split = hold_out(LABELS, 3)
    assert_is_partition(split)
    for rows, part in zip(split, (0.6, 0.2, 0.2), strict=True):
        np.testing.assert_allclose(shares(rows), part, atol=0.02)


def test_hold_out_parts_can_be_chosen():
    split = hold_out(LABELS, 3, validation=0.1, test=0.3)
    assert_is_partition(split)
    np.testing.assert_allclose([len(rows) for rows in split], [120, 20, 60], atol=1)


def test_hold_out_depends_on_the_seed_alone():
    first, again, other = hold_out(LABELS, 0), hold_out(LABELS, 0), hold_out(LABELS, 1)
    np.testing.assert_array_equal(np.concatenate(first), np.concatenate(again))
    assert len(np.setdiff1d(first.test, other.test)) > 0


def test_k_folds_test_every_row_once_and_stratify():
    splits = k_folds(LABELS, 5, 0)
    np.testing.assert_array_equal(np.sort(np.concatenate([split.test for split in splits])), np.arange(len(LABELS)))
    for split in splits:
        assert_is_partition(split)
        np.testing.assert_allclose(shares(split.test), 0.2, atol=0.02)
        np.testing.assert_allclose(shares(split.validation), 0.2, atol=0.04)


@pytest.mark.parametrize(
    "make", [lambda: [hold_out(LABELS, 0, groups=GROUPS)], lambda: k_folds(LABELS, 5, 0, groups=GROUPS)]
)
def test_groups_stay_together(make):
    for split in make():
        assert_is_partition(split)
        assert all(len(rows) > 0.1 * len(LABELS) for rows in split)
        for left, right in combinations(split, 2):
            assert not set(GROUPS[left]) & set(GROUPS[right])


def test_without_groups_the_same_groups_would_leak():
    split = hold_out(LABELS, 0)
    with pytest.raises(ValueError, match=r"seed 0: group .* is in train and in validation \(.* in total\)"):
        check_split(split, name="seed 0", groups=GROUPS)


@pytest.mark.parametrize("left, right", [("train", "validation"), ("train", "test"), ("validation", "test")])
def test_an_injected_row_leak_is_refused(left, right):
    split = Split(np.arange(10), np.arange(10, 15), np.arange(15, 20))
    assert check_split(split, name="clean") is split
    leaky = split._replace(**{right: np.append(getattr(split, right), getattr(split, left)[0])})
    with pytest.raises(
        ValueError, match=rf"fold 2: row {getattr(split, left)[0]} is in {left} and in {right} \(1 in total\)"
    ):
        check_split(leaky, name="fold 2")


@pytest.mark.parametrize("left, right", [("train", "validation"), ("train", "test"), ("validation", "test")])
def test_an_injected_group_leak_is_refused(left, right):
    split = Split(np.arange(10), np.arange(10, 15), np.arange(15, 20))
    donors = np.array([f"donor {row}" for row in range(20)])
    check_split(split, name="clean", groups=donors)
    donors[getattr(split, right)[0]] = donors[getattr(split, left)[0]]
    with pytest.raises(ValueError, match=rf"is in {left} and in {right} \(1 in total\)"):
        check_split(split, name="fold 2", groups=donors)


@pytest.mark.parametrize("make", [lambda labels: hold_out(labels, 0), lambda labels: k_folds(labels, 5, 0)])
def test_class_with_one_member_is_named(make):
    with pytest.raises(ValueError, match=r"class 7 has 1 member, too few for .*: give it at least \d"):
        make(np.append(LABELS, 7))


@pytest.mark.parametrize("make", [lambda labels: hold_out(labels, 0), lambda labels: k_folds(labels, 5, 0)])
def test_one_class_alone_is_refused(make):
    with pytest.raises(ValueError, match="all 20 labels are 3: at least two classes are needed"):
        make(np.full(20, 3))


def test_smallest_allowed_classes_can_be_split():
    labels = np.repeat([0, 1], [3, 40])
    for seed in range(20):
        assert 0 < (labels[hold_out(labels, seed).train] == 0).sum() < 3
    for folds in (2, 3, 5):
        tight = np.repeat([0, 1], [max(folds, 4), 40])
        assert all((tight[split.train] == 0).any() for split in k_folds(tight, folds, 0))


def test_pad_rows_adds_weightless_rows_behind():
    padded = pad_rows(plain_rows([5, 6, 7]), 5)
    np.testing.assert_array_equal(padded.index, [5, 6, 7, 0, 0])
    np.testing.assert_array_equal(padded.partner, [5, 6, 7, 0, 0])
    np.testing.assert_array_equal(padded.weight, [1, 1, 1, 0, 0])
    np.testing.assert_array_equal(padded.mix, np.zeros(5))


def test_stack_rows_pads_to_the_longest():
    tables = [plain_rows([1]), plain_rows([2, 3, 4]), plain_rows([])]
    stacked = stack_rows(tables)
    np.testing.assert_array_equal(stacked.index, [[1, 0, 0], [2, 3, 4], [0, 0, 0]])
    np.testing.assert_array_equal(stacked.weight.sum(axis=1), [1, 3, 0])
    again = pad_rows(stacked, 4)
    np.testing.assert_array_equal(again.weight, np.pad(stacked.weight, [(0, 0), (0, 1)]))


def test_stack_of_empty_tables_is_refused():
    with pytest.raises(ValueError, match="every row table is empty"):
        stack_rows([plain_rows([]), plain_rows([])])


@pytest.mark.parametrize("shape", [(50,), (50, 4), (50, 3, 2)])
def test_take_rows_interpolates_as_numpy_does(shape):
    values = RNG.normal(size=shape).astype(np.float32)
    expected = [
        (1 - lam) * values[a].astype(float) + lam * values[b].astype(float)
        for a, b, lam in zip(LERP.index, LERP.partner, LERP.mix.astype(float), strict=True)
    ]
    np.testing.assert_allclose(take_rows(values, LERP), np.stack(expected), atol=1e-6)


def test_plain_rows_are_taken_bit_for_bit():
    values = RNG.normal(size=(50, 4)).astype(np.float32)
    np.testing.assert_array_equal(take_rows(values, plain_rows([9, 3, 3])), values[[9, 3, 3]])


@pytest.mark.parametrize("block", [1, 7, 23, 64])
def test_blocks_equal_the_whole(block):
    values = RNG.normal(size=(50, 4)).astype(np.float32)

    def each(rows):
        taken = take_rows(jnp.asarray(values), rows)
        return {"taken": taken, "sum": taken.sum(axis=1) * rows.weight}

    whole, blocks = each(LERP), map_row_blocks(each, LERP, block)
    assert blocks["taken"].shape == (23, 4)
    for name in whole:
        np.testing.assert_allclose(blocks[name], whole[name], atol=1e-6)
