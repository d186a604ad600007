"""Recording: files are read back as written, splits are disjoint, and invalid data are refused with a message that names them."""

import numpy as np
import pytest

from jaxephys.schemas.recording import KEYS, SCHEMA, Recording, check_splits, split_hash
from jaxephys.schemas.storage import DataError

RNG = np.random.default_rng(0)
BINS, UNITS = 400, 11
SPIKES = (RNG.random((BINS, UNITS)) < 0.1).astype(np.uint8)
SPLITS = np.array([[0, 200], [210, 300], [305, 400]])
RECORDING = Recording.from_array(SPIKES, name="slice", domain="in vitro", bin_ms=0.5, splits=SPLITS)


def write_changed(folder, **changed):
    """Write the recording with some keys changed, or left out where the new value is None."""
    arrays = {name: getattr(RECORDING, name) for name in KEYS if name != "split_sha256"}
    arrays |= {"schema": SCHEMA, "split_sha256": RECORDING.sha256, "provenance": "{}", **changed}
    path = folder / "slice.npz"
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    return path


def test_file_without_provenance_is_read(tmp_path):
    read = Recording.read(write_changed(tmp_path, provenance=None))
    assert read.provenance == {} and read.seams == () and read.sha256 == RECORDING.sha256


def test_file_is_read_back_as_written(tmp_path):
    read = Recording.read(write_changed(tmp_path))
    assert (read.name, read.domain, read.units, read.bin_ms) == ("slice", "in vitro", UNITS, 0.5)
    np.testing.assert_array_equal(read.bits(0, BINS), SPIKES)
    np.testing.assert_array_equal(read.splits, SPLITS)
    np.testing.assert_array_equal(read.counts("validation"), SPIKES[210:300].sum(axis=0))
    assert read.span("test") == (305, 400) and len(read) == BINS
    assert repr(read) == "Recording('slice', 11 units, 400 bins of 0.5 ms, 0 s)"


def test_recording_is_read_back_as_written(tmp_path):
    made = Recording.from_array(
        SPIKES, name="toy", domain="in vitro", splits=SPLITS, provenance={"seams": [205], "notes": ["a note"]}
    )
    path = made.write(tmp_path)
    read = Recording.read(path)
    np.testing.assert_array_equal(read.packed, made.packed)
    assert (read.name, read.domain, read.units, read.bin_ms, read.seams) == ("toy", "in vitro", UNITS, 1.0, (205,))
    assert read.unit_id.tolist() == made.unit_id.tolist()
    assert read.sha256 == made.sha256 and read.provenance == {"seams": [205], "notes": ["a note"]}
    with np.load(path) as file:
        assert set(file.files) == {
            "schema", "name", "domain", "packed", "units", "unit_id", "bin_ms", "splits", "split_sha256", "provenance",
        }  # fmt: skip
        assert file["schema"] == "jaxephys spikes 1" and file["units"] == UNITS and file["packed"].shape == (BINS, 2)
        assert file["splits"].dtype == np.int64
    assert [x.name for x in tmp_path.iterdir()] == ["toy.npz"], "no temporary file is left"


def test_failed_write_keeps_the_previous_file(tmp_path, monkeypatch):
    path = RECORDING.write(tmp_path)
    before = path.read_bytes()

    def fail(file, **content):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(OSError, match="disk full"):
        Recording.from_array(1 - SPIKES, name="slice").write(tmp_path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_hash_depends_on_splits_and_their_bits_only():
    packed = RECORDING.packed
    outside, inside = packed.copy(), packed.copy()
    outside[205] ^= 1
    inside[299] ^= 1
    assert split_hash(SPLITS, outside) == split_hash(SPLITS, packed) != split_hash(SPLITS, inside)
    assert split_hash(SPLITS - 0, packed) != split_hash(SPLITS - [[0, 1]] * 3, packed)


@pytest.mark.parametrize("units", [1, 7, 8, 9, 128])
def test_bits_and_events_are_those_of_the_array(units):
    spikes = RNG.random((200, units)) < 0.3
    made = Recording.from_array(spikes, splits=[[0, 50], [50, 100], [100, 200]])
    np.testing.assert_array_equal(made.bits(3, 150), spikes[3:150])
    bins, unit = made.events(10, 90)
    rows, columns = np.nonzero(spikes[10:90])
    assert bins.tolist() == (rows + 10).tolist() and unit.tolist() == columns.tolist()
    assert [part.size for part in made.events(10, 10)] == [0, 0]


def test_array_is_split_in_time_with_gaps():
    recording = Recording.from_array(SPIKES)
    assert recording.splits.tolist() == [[0, 200], [204, 300], [304, 400]]
    assert recording.unit_id.tolist() == [str(unit) for unit in range(UNITS)]


REFUSED = {
    "schema": ({"schema": "jaxephys units 1"}, "has the schema 'jaxephys units 1'"),
    "a key is missing": ({"bin_ms": None}, "lacks bin_ms"),
    "changed after it was written": ({"packed": RECORDING.packed ^ np.uint8(1)}, "was changed after it was written"),
    "too few bytes": (
        {"units": 17, "unit_id": np.arange(17).astype(str)},
        r"shape \(400, 2\) and type uint8 for 17 units",
    ),
    "spikes of units that do not exist": (
        {"packed": np.full((BINS, 2), 255, np.uint8)},
        "spikes of units beyond its 11",
    ),
    "empty": ({"packed": np.zeros((BINS, 2), np.uint8)}, "has no spike in 400 bins"),
    "bins without a width": ({"bin_ms": 0.0}, "bins of 0.0 ms"),
    "an identifier twice": ({"unit_id": np.array(["a"] * UNITS)}, "unit a occurs 11 times"),
    "not three splits": ({"splits": SPLITS[:2]}, r"splits of the shape \(2, 2\)"),
    "splits that are not integers": ({"splits": SPLITS * 1.0}, "type float64"),
    "beyond the end": (
        {"splits": np.add(SPLITS, [[0, 0], [0, 0], [0, 1]])},
        r"test \[305, 401\) of slice goes beyond its 400 bins",
    ),
    "reversed splits": ({"splits": SPLITS[:, ::-1]}, r"train \[200, 0\)"),
    "overlapping": ({"splits": [[0, 211], [210, 300], [305, 400]]}, r"train \[0, 211\) and validation \[210, 300\)"),
}


@pytest.mark.parametrize("changed, message", REFUSED.values(), ids=REFUSED)
def test_invalid_file_is_refused(tmp_path, changed, message):
    with pytest.raises(DataError, match=message):
        Recording.read(write_changed(tmp_path, **changed))


def test_missing_and_unreadable_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no recording"):
        Recording.read(tmp_path / "absent.npz")
    (tmp_path / "text.npz").write_text("spikes")
    with pytest.raises(ValueError, match="is not a readable"):
        Recording.read(tmp_path / "text.npz")


def test_invalid_arrays_and_split_names_are_refused():
    counts = SPIKES.copy()
    counts[3, 2] = 2
    with pytest.raises(ValueError, match=r"bin 3 of unit 2 holds 2"):
        Recording.from_array(counts)
    with pytest.raises(ValueError, match=r"bin 0 of unit 1 holds nan"):
        Recording.from_array(np.array([[0.0, np.nan]]))
    with pytest.raises(ValueError, match=r"shape \(400,\)"):
        Recording.from_array(SPIKES[:, 0])
    with pytest.raises(ValueError, match="no split 'tset'"):
        RECORDING.span("tset")


BAD_SPLITS = [
    ([[0, 500], [400, 700], [700, 900]], (), r"train \[0, 500\) and validation \[400, 700\) of toy overlap"),
    ([[500, 900], [0, 100], [50, 300]], (), r"validation \[0, 100\) and test \[50, 300\) of toy overlap"),
    ([[0, 500], [500, 700], [700, 1001]], (), r"test \[700, 1001\) of toy goes beyond its 1000 bins"),
    ([[0, 500], [700, 700], [700, 900]], (), r"validation \[700, 700\) of toy holds no bins"),
    ([[-1, 500], [500, 700], [700, 900]], (), r"train \[-1, 500\) of toy holds no bins"),
    ([[0, 500], [500, 700], [700, 900]], (600,), r"validation \[500, 700\) of toy contains the seam .* at bin 600"),
]


@pytest.mark.parametrize(("splits", "seams", "message"), BAD_SPLITS)
def test_invalid_splits_are_refused(splits, seams, message):
    with pytest.raises(DataError, match=message):
        check_splits(np.array(splits), 1000, seams, "toy")


def test_splits_may_touch_and_be_in_any_order():
    check_splits(
        np.array([[500, 1000], [0, 250], [250, 500]]), 1000, (500, 250)
    )  # a seam between two splits divides neither
