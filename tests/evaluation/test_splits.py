"""Splits: no row is in two parts or lost, classes are stratified, and groups stay together."""

from itertools import combinations

import numpy as np
import pytest

from jaxephys.evaluation.splits import Split, SplitKey, check_split, draw_splits, hold_out, k_folds
from jaxephys.schemas.feature_table import FeatureTable

LABELS = np.repeat(np.arange(4), [100, 60, 30, 10])
GROUPS = np.random.default_rng(0).integers(0, 40, len(LABELS))


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


def test_splits_of_a_table_are_those_of_each_kind_and_seed():
    table = FeatureTable.from_arrays(
        np.ones((200, 1)), {"tau": 1}, np.array(list("abcd"))[LABELS], donor=GROUPS.astype(str)
    )
    splits = draw_splits(table, ("cell", "donor"), 2, n_folds=3)
    assert list(splits) == [
        SplitKey(kind, seed, fold) for kind in ("cell", "donor") for seed in (0, 1) for fold in range(3)
    ]
    for ours, again in zip(
        splits[SplitKey("donor", 1, 2)], k_folds(LABELS, 3, 1, groups=GROUPS.astype(str))[2], strict=True
    ):
        np.testing.assert_array_equal(ours, again)
    (alone,) = draw_splits(table, ("cell",), 1).values()
    for ours, again in zip(alone, hold_out(LABELS, 0), strict=True):
        np.testing.assert_array_equal(ours, again)


def test_donors_cannot_be_held_out_of_a_table_without_donors():
    table = FeatureTable.from_arrays(np.ones((200, 1)), {"tau": 1}, np.array(list("abcd"))[LABELS])
    with pytest.raises(ValueError, match="the table has no donors"):
        draw_splits(table, ("cell", "donor"), 1)
