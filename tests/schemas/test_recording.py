"""Recordings: what is read is what was written, windows predict every bin once, and bad input is named in a sentence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxephys.schemas import recording
from jaxephys.schemas.recording import Recording
from jaxephys.spikes.history import Filters, last_of, no_history, trace

RNG = np.random.default_rng(0)
BINS, UNITS = 400, 11
SPIKES = (RNG.random((BINS, UNITS)) < 0.1).astype(np.uint8)
SPLITS = np.array([[0, 200], [210, 300], [305, 400]])
RECORDING = Recording.from_array(SPIKES, name="slice", domain="in vitro", bin_ms=0.5, splits=SPLITS)


def contents(recording=RECORDING, **changed):
    told = {name: getattr(recording, name) for name in recording.KEYS if name != "split_sha256"}
    return {"schema": recording.SCHEMA, "split_sha256": recording.sha256, "provenance": "{}", **told, **changed}


def written(folder, **changed):
    path = folder / "slice.npz"
    np.savez(path, **{name: value for name, value in contents(**changed).items() if value is not None})
    return path


def test_a_file_reads_back_as_it_was_written(tmp_path):
    read = Recording.read(written(tmp_path))
    assert (read.name, read.domain, read.units, read.bin_ms) == ("slice", "in vitro", UNITS, 0.5)
    np.testing.assert_array_equal(read.bits(0, BINS), SPIKES)
    np.testing.assert_array_equal(read.splits, SPLITS)
    np.testing.assert_array_equal(read.counts("validation"), SPIKES[210:300].sum(axis=0))
    assert read.span("test") == (305, 400) and len(read) == BINS
    assert repr(read) == "Recording('slice', 11 units, 400 bins of 0.5 ms, 0 s)"


def test_the_hash_is_that_of_data_prep():
    splits = pytest.importorskip("data_prep.spikes.splits")
    assert RECORDING.sha256 == splits.split_hash(SPLITS, RECORDING.packed)


@pytest.mark.parametrize("units", [1, 7, 8, 9, 128])
def test_bits_are_unpacked_on_the_device_as_numpy_does(units):
    spikes = RNG.random((20, units)) < 0.5
    packed = np.packbits(spikes, axis=1, bitorder="little")
    np.testing.assert_array_equal(jax.jit(recording.unpack, static_argnums=1)(packed, units), spikes)


def test_cut_takes_bins_from_the_start_told():
    taken = jax.jit(recording.cut, static_argnums=(2, 3))(jnp.asarray(RECORDING.packed), jnp.int32(123), 50, UNITS)
    np.testing.assert_array_equal(taken, SPIKES[123:173])


@pytest.mark.parametrize("split", recording.SPLITS)
def test_windows_predict_bins_of_their_split_once_and_leave_less_than_a_window(split):
    start, stop = RECORDING.span(split)
    predicted = np.concatenate([np.arange(first + 1, first + 16) for first in RECORDING.windows(split, 15)])
    np.testing.assert_array_equal(predicted, np.arange(max(start, 1), predicted[-1] + 1))
    assert stop - 15 <= predicted[-1] + 1 <= stop


def test_windows_as_long_as_the_split_and_in_strides():
    np.testing.assert_array_equal(RECORDING.windows("test", 95), [304])
    np.testing.assert_array_equal(RECORDING.windows("train", 199), [0])
    np.testing.assert_array_equal(RECORDING.windows("test", 90, stride=2), [304, 306, 308])


def test_a_plain_array_is_split_in_time_with_gaps():
    recording = Recording.from_array(SPIKES)
    assert recording.splits.tolist() == [[0, 200], [204, 300], [304, 400]]
    assert recording.unit_id.tolist() == [str(unit) for unit in range(UNITS)]


def test_checkpoints_are_the_history_of_all_bins_before():
    filters = Filters(bin_ms=0.5)
    kept = recording.checkpoints(filters, jnp.asarray(RECORDING.packed), UNITS, 90)
    assert kept.age.tolist() == [0, 90, 180, 270]
    whole = last_of(trace(filters, no_history(filters, UNITS), jnp.asarray(SPIKES[:270], jnp.float32)))
    for got, wanted in zip(kept, whole, strict=True):
        np.testing.assert_allclose(got[3], wanted, rtol=1e-5, atol=1e-7)


REFUSED = {
    "schema": ({"schema": "jaxephys units 1"}, "has the schema jaxephys units 1"),
    "a key is missing": ({"bin_ms": None}, "has no bin_ms"),
    "changed after it was written": ({"packed": RECORDING.packed ^ np.uint8(1)}, "is not what was written"),
    "too few bytes": (
        {"units": 17, "unit_id": np.arange(17).astype(str)},
        r"shape \(400, 2\) and type uint8 for 17 units",
    ),
    "units that do not exist": ({"packed": np.full((BINS, 2), 255, np.uint8)}, "spikes of units beyond its 11"),
    "empty": ({"packed": np.zeros((BINS, 2), np.uint8)}, "holds not one spike in 400 bins"),
    "no width": ({"bin_ms": 0.0}, "bins of 0.0 ms"),
    "an id twice": ({"unit_id": np.array(["a"] * UNITS)}, "names 1 different units and has 11"),
    "not three splits": ({"splits": SPLITS[:2]}, r"splits of the shape \(2, 2\)"),
    "broken bins": ({"splits": SPLITS * 1.0}, "type float64"),
    "beyond the end": (
        {"splits": np.add(SPLITS, [[0, 0], [0, 0], [0, 1]])},
        r"test \[305, 401\) of slice is no part of its 400",
    ),
    "turned round": ({"splits": SPLITS[:, ::-1]}, r"train \[200, 0\)"),
    "overlapping": ({"splits": [[0, 211], [210, 300], [305, 400]]}, r"train \[0, 211\) and validation \[210, 300\)"),
}


@pytest.mark.parametrize("changed, said", REFUSED.values(), ids=REFUSED)
def test_a_bad_file_is_refused_in_a_sentence(tmp_path, changed, said):
    with pytest.raises(ValueError, match=said):
        Recording.read(written(tmp_path, **changed))


def test_what_is_no_file_of_arrays_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no recording"):
        Recording.read(tmp_path / "absent.npz")
    (tmp_path / "text.npz").write_text("spikes")
    with pytest.raises(ValueError, match="is not a readable"):
        Recording.read(tmp_path / "text.npz")


def test_bad_arrays_lengths_and_names_are_refused():
    counts = SPIKES.copy()
    counts[3, 2] = 2
    with pytest.raises(ValueError, match=r"bin 3 of unit 2 holds 2"):
        Recording.from_array(counts)
    with pytest.raises(ValueError, match=r"bin 0 of unit 1 holds nan"):
        Recording.from_array(np.array([[0.0, np.nan]]))
    with pytest.raises(ValueError, match=r"shape \(400,\)"):
        Recording.from_array(SPIKES[:, 0])
    with pytest.raises(ValueError, match=r"96 bins does not fit into test of slice, \[305, 400\)"):
        RECORDING.windows("test", 96)
    with pytest.raises(ValueError, match=r"200 bins does not fit into train of slice"):
        RECORDING.windows("train", 200)
    with pytest.raises(ValueError, match="no split 'tset'"):
        RECORDING.span("tset")
    with pytest.raises(ValueError, match="every 401 bins of 400"):
        recording.checkpoints(Filters(), jnp.asarray(RECORDING.packed), UNITS, 401)
