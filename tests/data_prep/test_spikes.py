"""Recordings of spikes: splits that do not touch, files that are what was written, copies that are found, commands that chain."""

import json
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from data_prep.__main__ import main
from data_prep.spikes import fetch as fetching
from data_prep.spikes.binning import Raster, raster_of, select
from data_prep.spikes.build import Recipe, build_recording
from data_prep.spikes.check import report, statistics
from data_prep.spikes.recording import Recording, read_recording, write_recording
from data_prep.spikes.registry import ENTRIES, Entry, Mendeley, Session, Web, build_entry, find
from data_prep.spikes.spike_times import SpikesError, Trains
from data_prep.spikes.splits import by_minutes, checked, repeats, split_hash
from tests.data_prep.test_spikes_readers import write_asdf

REAL = Path(__file__).resolve().parents[3] / "shared/data/spikes"
RNG = np.random.default_rng(0)
SPLITS = np.array([[0, 3000], [3500, 5000], [6000, 8000]])


def dense(bins=8000, units=13, rate=0.02, seed=0):
    return (np.random.default_rng(seed).random((bins, units)) < rate).astype(np.uint8)


def recording(bits, splits=SPLITS, **provenance):
    packed = np.packbits(bits, axis=1, bitorder="little")
    return Recording("toy", "in vitro", packed, [str(i) for i in range(bits.shape[1])], 1.0, splits, provenance)


def trains(bits, **more):
    return Trains([str(i) for i in range(bits.shape[1])], [np.flatnonzero(x) + 0.5 for x in bits.T], len(bits), **more)


# Bits.


@pytest.mark.parametrize("units", [1, 7, 8, 9, 128])
def test_packed_bits_are_those_of_numpy(units):
    bits = dense(200, units, 0.3)
    packed = raster_of([trains(bits)], 1.0).packed()
    np.testing.assert_array_equal(packed, np.packbits(bits, axis=1, bitorder="little"))
    made = recording(bits, np.array([[0, 50], [50, 100], [100, 200]]))
    np.testing.assert_array_equal(made.bits(3, 150), bits[3:150])
    bins, owner = made.events(10, 90)
    rows, columns = np.nonzero(bits[10:90])
    assert bins.tolist() == (rows + 10).tolist() and owner.tolist() == columns.tolist()


def test_parts_are_joined_with_a_seam():
    one, other = dense(300, 5, 0.1, 1), dense(200, 5, 0.1, 2)
    raster = raster_of([trains(one), trains(other)], 1.0)
    assert raster.bins == 500 and raster.seams == (300,)
    np.testing.assert_array_equal(
        np.unpackbits(raster.packed(), axis=1, count=5, bitorder="little"), np.vstack([one, other])
    )
    with pytest.raises(SpikesError, match="5 and 4 units"):
        raster_of([trains(one), trains(other[:, :4])], 1.0)
    with pytest.raises(SpikesError, match="0 ms has no width"):
        raster_of([trains(one)], 0)


# Choice of units.


@pytest.fixture
def raster():
    counts = [0, 5, 10, 20, 40, 80]
    spikes = [np.arange(count) for count in counts]
    about = {"depth": np.arange(6) * 100.0, "quality": np.array([1, 1, 0, 1, np.nan, 1])}
    return Raster([f"u{i}" for i in range(6)], spikes, 1000, 1.0, about=about)


CHOICES = [
    ({}, "012345"),
    ({"skip": 2, "take": 3}, "234"),
    ({"skip": 4}, "45"),
    ({"depth": (100, 300)}, "123"),
    ({"quality": 0.5}, "0135"),
    ({"rate": (10, 40)}, "234"),  # 1000 bins: the counts are rates in Hz
    ({"rate": (1, 100), "depth": (0, 400), "skip": 1, "take": 2}, "23"),
]


@pytest.mark.parametrize(("choice", "kept"), CHOICES)
def test_units_are_chosen(raster, choice, kept):
    chosen = select(raster, (0, 1000), **choice)
    assert "".join(name[1:] for name in chosen.unit) == kept
    assert chosen.about["depth"].tolist() == [100.0 * int(i) for i in kept]
    assert [own.size for own in chosen.spikes] == [raster.spikes[int(i)].size for i in kept]


def test_the_rate_is_that_of_training_bins_only(raster):
    assert select(raster, (0, 10), rate=(999, 1001)).unit == ["u2", "u3", "u4", "u5"]
    with pytest.raises(SpikesError, match="0 to choose from"):
        select(raster, (500, 1000), rate=(1, 1000))


NO_CHOICE = [
    ({"skip": 100, "take": 128}, "skip 100, take 128 asks for 228 units and the recording has 6 to choose from"),
    ({"skip": 6}, "skip 6 asks for 7 units"),
    ({"take": 0}, "take 0 is no choice"),
    ({"skip": -1}, "skip -1 is no choice"),
]


@pytest.mark.parametrize(("choice", "said"), NO_CHOICE)
def test_fewer_units_than_asked_is_an_error(raster, choice, said):
    with pytest.raises(SpikesError, match=said):
        select(raster, (0, 1000), **choice)


def test_what_is_not_known_of_units_cannot_choose_them():
    with pytest.raises(SpikesError, match="does not say the depth of its units: choose them without --depth"):
        select(raster_of([trains(dense(100))], 1.0), (0, 50), depth=(0, 1))


# Splits.


def test_minutes_hold_their_gaps():
    splits = by_minutes(600_000, 1.0, (5, 2.5, 2.5), 5.0)
    assert splits.tolist() == [[0, 300_000], [305_000, 450_000], [455_000, 600_000]]
    assert by_minutes(1200, 500.0, (5, 2.5, 2.5), 5.0).tolist() == [[0, 600], [610, 900], [910, 1200]]


def test_a_recording_shorter_than_its_splits_is_an_error():
    with pytest.raises(
        SpikesError, match=r"has 6\.67 minutes .* need 10: give shorter ones \(--minutes 3\.33 1\.67 1\.67\)"
    ):
        by_minutes(400_080, 1.0, (5, 2.5, 2.5), 5.0)
    with pytest.raises(SpikesError, match="minutes above 0"):
        by_minutes(1000, 1.0, (5, 0, 1), 5.0)


BAD_SPLITS = [
    ([[0, 500], [400, 700], [700, 900]], (), r"train \[0, 500\) and validation \[400, 700\) overlap"),
    ([[500, 900], [0, 100], [50, 300]], (), r"validation \[0, 100\) and test \[50, 300\) overlap"),
    ([[0, 500], [500, 700], [700, 1001]], (), r"test \[700, 1001\) goes beyond the 1000 bins"),
    ([[0, 500], [700, 700], [700, 900]], (), r"validation \[700, 700\) holds no bins"),
    ([[-1, 500], [500, 700], [700, 900]], (), r"train \[-1, 500\) holds no bins"),
    ([[0, 500], [500, 700], [700, 900]], (600,), r"validation \[500, 700\) goes over the seam of two files at bin 600"),
]


@pytest.mark.parametrize(("splits", "seams", "said"), BAD_SPLITS)
def test_splits_that_cannot_be(splits, seams, said):
    with pytest.raises(SpikesError, match=said):
        checked(np.array(splits), 1000, seams)


def test_splits_may_meet_and_come_in_any_order():
    splits = np.array([[500, 1000], [0, 250], [250, 500]])
    assert checked(splits, 1000, (500, 250)) is splits, "a seam on a border divides nothing"


def test_the_hash_is_of_splits_and_of_their_bits_only():
    packed = np.packbits(dense(), axis=1, bitorder="little")
    same = split_hash(SPLITS, packed)
    outside, inside = packed.copy(), packed.copy()
    outside[3200] ^= 1
    inside[4999] ^= 1
    assert split_hash(SPLITS, outside) == same != split_hash(SPLITS, inside)
    assert split_hash(SPLITS + 1, packed) != same


# Copies.


def test_a_chunk_in_two_splits_is_found_wherever_it_begins_and_whatever_the_order_of_its_units():
    bits = dense()
    assert not repeats(recording(bits).packed, SPLITS, within=True)
    bits[6000:7000] = bits[1203:2203][:, RNG.permutation(13)]
    (found,) = repeats(recording(bits).packed, SPLITS)
    assert found == ("train", 1203, "test", 6000, 1000)
    assert str(found) == "1000 bins of test from 6000 stand in train from 1203 as well"


def test_silence_is_no_copy_and_a_chunk_twice_in_one_split_is_told():
    bits = dense()
    bits[500:1900], bits[6000:7000] = 0, 0
    assert not repeats(recording(bits).packed, SPLITS, within=True)
    bits[0:1000] = dense(1000, 13, seed=9)
    bits[1900:2900] = bits[0:1000]
    assert not repeats(recording(bits).packed, SPLITS), "another split has it not"
    bits[2000:3000] = bits[0:1000]
    assert repeats(recording(bits).packed, SPLITS, within=True) == [("train", 0, "train", 2000, 1000)]


# The file.


def test_a_recording_is_what_was_written(tmp_path):
    made = recording(dense(), seams=[5500], notes=["a note"])
    path = write_recording(made, tmp_path)
    read = read_recording(path)
    np.testing.assert_array_equal(read.packed, made.packed)
    assert (read.name, read.domain, read.unit, read.bin_ms, read.seams) == ("toy", "in vitro", made.unit, 1.0, (5500,))
    assert read.sha256 == made.sha256 and read.provenance == {"seams": [5500], "notes": ["a note"]}
    with np.load(path) as file:
        assert set(file.files) == {
            "schema", "name", "domain", "packed", "units", "unit_id", "bin_ms", "splits", "split_sha256", "provenance",
        }  # fmt: skip
        assert file["schema"] == "jaxephys spikes 1" and file["units"] == 13 and file["packed"].shape == (8000, 2)
        assert file["splits"].dtype == np.int64
    assert [x.name for x in tmp_path.iterdir()] == ["toy.npz"], "no draft is left"


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    path = write_recording(recording(dense()), tmp_path)
    before = path.read_bytes()

    def broken(file, **content):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez_compressed", broken)
    with pytest.raises(OSError, match="disk full"):
        write_recording(recording(dense(seed=1)), tmp_path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_a_changed_file_is_refused(tmp_path):
    path = write_recording(recording(dense()), tmp_path)
    with np.load(path) as file:
        content = dict(file)
    content["packed"][10] ^= 1
    np.savez(path, **content)
    with pytest.raises(SpikesError, match="is not what was written"):
        read_recording(path)
    np.savez(path, **content | {"schema": "other"})
    with pytest.raises(SpikesError, match="has the schema other"):
        read_recording(path)
    path.write_bytes(b"x")
    with pytest.raises(SpikesError, match="not a readable recording"):
        read_recording(path)
    with pytest.raises(SpikesError, match="8000|2 bytes a bin for 20 units"):
        Recording("x", "", recording(dense()).packed, [""] * 20, 1.0, SPLITS)


# Build.


def test_build_refuses_copies_and_splits_without_spikes(tmp_path):
    bits = dense(4000, 12)
    bits[3000:] = bits[500:1500]
    ticks = [np.flatnonzero(own) for own in bits.T]
    path = write_asdf(tmp_path / "a.mat", ticks, length=4000)
    ranges = {"tick_ms": 1.0, "train": (0, 2000), "validation": (2000, 3000), "test": (3000, 4000)}
    with pytest.raises(SpikesError, match="1000 bins of test from 3000 stand in train from 500 as well"):
        build_recording("x", "asdf", [path], Recipe(**ranges))
    made = build_recording("x", "asdf", [path], Recipe(**ranges | {"test": (3000, 3900), "train": (1500, 2000)}))
    assert made.provenance["sha256"]["train"] != made.provenance["sha256"]["test"]
    write_asdf(path, [np.arange(100)], length=4000)
    with pytest.raises(SpikesError, match="bins 2000 to 3000 hold not one spike"):
        build_recording("x", "asdf", [path], Recipe(**ranges))


RECIPES = [
    ({"tick_ms": 1.0, "tick_hz": 1000.0}, "--tick-ms 1 and --tick-hz 1000 given"),
    ({"tick_ms": 0.0}, "a tick of 0 has no length"),
    ({"tick_ms": 1.0, "train": (0, 10)}, "lack --validation and --test"),
    ({"tick_ms": 1.0}, "need 10: give shorter ones"),
]


@pytest.mark.parametrize(("fields", "said"), RECIPES)
def test_recipes_that_cannot_be(tmp_path, fields, said):
    path = write_asdf(tmp_path / "a.mat")
    with pytest.raises(SpikesError, match=said):
        build_recording("x", "asdf", [path], Recipe(**fields))


# Registry.


def test_the_registry_finds_its_files_by_either_name(tmp_path):
    entry = find("in_vitro_210511001")
    (tmp_path / "210511001").mkdir()
    for half in ("bh", "lh"):
        (tmp_path / "210511001" / f"asdf_{half}.mat").touch()
    assert [path.name for path in entry.paths(tmp_path)] == ["asdf_bh.mat", "asdf_lh.mat"]
    assert [path.name for path in entry.paths(tmp_path / "210511001")] == ["asdf_bh.mat", "asdf_lh.mat"]
    (tmp_path / "in_vitro_210511001_bh_copy.mat").touch()
    with pytest.raises(SpikesError, match="should hold one file .* and holds"):
        entry.paths(tmp_path)
    with pytest.raises(SpikesError, match="holds none: fetch in_vivo_NYU-40_2021-04-14 again"):
        find("in_vivo_NYU-40_2021-04-14").paths(tmp_path)
    with pytest.raises(SpikesError, match="'in_vitro_21051100' in the registry: did you mean in_vitro_210511001"):
        find("in_vitro_21051100")
    with pytest.raises(SpikesError, match="is a collection of recordings"):
        build_entry(find("mendeley_kf65cvmtbz"), tmp_path)
    assert len({entry.name for entry in ENTRIES}) == len(ENTRIES)


@pytest.mark.skipif(not REAL.is_dir(), reason="the published recordings are not here")
@pytest.mark.parametrize(
    ("name", "bins", "spikes", "silent"),
    [("in_vitro_210511001", 400_080, 943_716, 1), ("in_vivo_NYU-40_2021-04-14", 700_000, None, 1)],
)
def test_the_published_recordings(name, bins, spikes, silent):
    made = build_entry(find(name), REAL)
    start, stop = made.range("test")
    prevalence = made.bits(start, stop).mean()
    assert len(made.unit) == 128 and stop - start == 50_000 and made.range("train") == (0, 300_000)
    if spikes:
        assert made.seams == (bins,) and start == bins + 10_000
        assert len(made.events(0, bins)[0]) == spikes and round(prevalence, 4) == 0.0178
    else:
        assert len(made.packed) == bins and made.bin_ms == 1.0 and round(prevalence, 4) == 0.0032


# Check.


def test_statistics_are_those_of_the_bits():
    bits = dense(8000, 6, 0.05)
    found = statistics(recording(bits, seams=[5500]))
    np.testing.assert_allclose(found.rates["all"], bits.mean(axis=0) * 1000)
    np.testing.assert_allclose(found.rates["test"], bits[6000:8000].mean(axis=0) * 1000)
    expected = [np.concatenate([np.diff(np.flatnonzero(x)) for x in (own[:5500], own[5500:])]) for own in bits.T]
    for unit, own in enumerate(expected):
        np.testing.assert_array_equal(found.intervals[found.owner == unit], own)
        assert found.violations[unit] == pytest.approx(np.mean(own < 2))
    np.testing.assert_allclose(found.population, bits.reshape(80, -1).sum(axis=1) / (6 * 0.1))
    assert found.occupied == np.mean(bits.any(axis=1))


def test_what_is_planted_is_found():
    splits = np.array([[0, 12000], [12000, 18000], [18000, 24000]])
    bits = dense(24000, 10, 0.02)
    bits[1:][bits[:-1] > 0] = 0  # no unit fires in two bins in a row
    assert report(recording(bits, splits)).findings == []
    bits[:, 3] = 0
    bits[::50, 4], bits[1::50, 4] = 1, 1
    bits[18000:, 5] = 0
    bits[18000:18005, 5] = [1, 0, 1, 0, 1]
    told = " ".join(report(recording(bits, splits)).findings)
    assert "1 units have no spike in the recording" in told and "1 units have more than 1 % of their intervals" in told
    assert "1 units fire in test more than 2 times" in told and "2 units have fewer than 10 test spikes" in told
    drift = np.random.default_rng(0).random((24000, 10)) < np.linspace(0.001, 0.1, 24000)[:, None]
    told = " ".join(report(recording(drift.astype(np.uint8), splits)).findings)
    assert "the population rate of all may wander like a random walk" in told


def test_a_recording_of_almost_nothing_is_reported():
    bits = np.zeros((300, 2), np.uint8)
    bits[[5, 150, 250], 0] = 1
    made = recording(bits, np.array([[0, 100], [100, 200], [200, 300]]))
    assert any(line.startswith("rate (Hz)") for line in report(made).lines())


# Fetch.


@pytest.fixture
def server(tmp_path):
    place = tmp_path / "served"
    place.mkdir()
    handler = partial(type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None}), directory=place)
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield place, f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()


def test_single_files_are_fetched_once(server, tmp_path):
    pytest.importorskip("requests", reason="the network needs the prep extra")
    place, url = server
    (place / "a.mat").write_bytes(b"spikes")
    entry = Entry("mine", "", Web({"mine_a.mat": f"{url}/a.mat"}), "")
    (path,) = fetching.fetch(entry, tmp_path / "got")
    assert path.read_bytes() == b"spikes" and [x.name for x in path.parent.iterdir()] == ["mine_a.mat"]
    (place / "a.mat").unlink()
    assert fetching.fetch(entry, tmp_path / "got") == [path], "what is there stays"
    with pytest.raises(SpikesError, match="mine was not fetched: the server answers 404"):
        fetching.fetch(entry, tmp_path / "other")


def test_a_mendeley_data_set_comes_with_its_folders_and_is_verified(server, tmp_path, monkeypatch):
    pytest.importorskip("requests", reason="the network needs the prep extra")
    place, url = server
    (place / "a.mat").write_bytes(b"spikes")
    digest = fetching.sha256(place / "a.mat")

    def listed(name, sha256):
        return {"filename": name, "size": 6, "content_details": {"download_url": f"{url}/a.mat", "sha256_hash": sha256}}

    folders = [{"id": "f", "name": "slices"}, {"id": "g", "name": "left", "parent_id": "f"}]
    files = {"root": [listed("top.mat", digest)], "f": [], "g": [listed("a.mat", digest)]}

    def ask(address):
        head, _, query = address.partition("?")
        return folders if head.endswith("/xyz/folders/2") else files[query.split("=")[1].split("&")[0]]

    monkeypatch.setattr(fetching, "ask", ask)
    entry = Entry("set", "", Mendeley("xyz", 2), "")
    paths = fetching.fetch(entry, tmp_path / "got")
    assert [str(path.relative_to(tmp_path / "got")) for path in paths] == ["top.mat", "slices/left/a.mat"]
    files["g"] = [listed("a.mat", "0" * 64)]
    with pytest.raises(SpikesError, match=r"slices/left/a\.mat came with another checksum"):
        fetching.fetch(entry, tmp_path / "other")
    assert not list((tmp_path / "other").rglob("a.mat*"))
    files["root"] = [listed("../top.mat", digest)]
    with pytest.raises(SpikesError, match="outside of the folder"):
        fetching.fetch(entry, tmp_path / "other")


class OneMock:
    """What ``fetch_session`` asks of ONE, with the session of one mouse on one day."""

    asked = []  # noqa: RUF012

    def __init__(self, **fields):
        assert fields["base_url"].startswith("https://openalyx")

    def search(self, subject, date_range):
        return ["eid"] if (subject, date_range[0]) == ("NYU-40", "2021-04-13") else []

    def list_collections(self, eid, filename):
        return np.array(["alf/probe00", "alf/probe00/pykilosort", "alf/probe01/pykilosort"])

    def load_object(self, eid, name, collection, attribute, download_only):
        assert download_only
        self.asked.append((name, collection, attribute))
        return [Path(f"{name}.{x}") for x in attribute]


def test_sessions_of_the_ibl_come_through_one(tmp_path, monkeypatch):
    entry = find("ibl_NYU-40_2021-04-13")
    monkeypatch.setitem(sys.modules, "one", None)
    with pytest.raises(SpikesError, match=r"pip install .*jaxephys\[ibl\]"):
        fetching.fetch(entry, tmp_path)
    exceptions = ModuleType("one.alf.exceptions")
    exceptions.ALFError = type("ALFError", (Exception,), {})
    for name, module in {"one": ModuleType("one"), "one.alf": ModuleType("one.alf")}.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "one.alf.exceptions", exceptions)
    monkeypatch.setitem(sys.modules, "one.api", SimpleNamespace(ONE=OneMock))
    files = fetching.fetch(entry, tmp_path)
    assert [path.name for path in files][:2] == ["spikes.times", "spikes.clusters"] and len(files) == 5
    assert {place for _, place, _ in OneMock.asked} == {"alf/probe00/pykilosort", "alf"}
    with pytest.raises(SpikesError, match="no public session of nobody on 2021-04-13"):
        fetching.fetch_session(Session("nobody", "2021-04-13"), tmp_path)


# Commands.


def run(capsys, *words) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main([str(word) for word in ("spikes", *words)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_simulate_then_check(tmp_path, capsys):
    words = ("simulate", "--out", tmp_path, "--minutes", 0.15, "--units", 8, "--populations", "vivo_slow")
    code, out, err = run(capsys, *words)
    assert code == 0, err
    assert f"next: python -m data_prep spikes check {tmp_path / 'vivo_slow.npz'}" in out
    assert {x.name for x in tmp_path.iterdir()} == {"vivo_slow.npz", "truth", "truth.csv"}
    code, out, _ = run(capsys, "check", tmp_path / "vivo_slow.npz")
    assert code == 0 and "vivo_slow (in vivo)" in out and "9,000 bins of 1 ms" in out
    assert (tmp_path / "vivo_slow.png").read_bytes().startswith(b"\x89PNG")


def test_build_of_files_of_ones_own(tmp_path, capsys):
    bits = dense(9000, 12)
    for i, half in enumerate((bits[:5000], bits[5000:])):
        write_asdf(tmp_path / f"{i}.mat", [30 * np.flatnonzero(own) for own in half.T], length=30 * len(half))
    ranges = ("--train", 0, 3000, "--validation", 3500, 5000, "--test", 5500, 9000)
    words = ("build", "mine", "--out", tmp_path / "out", "--asdf", tmp_path / "0.mat", tmp_path / "1.mat", *ranges)
    code, out, err = run(capsys, *words, "--tick-hz", 30000, "--skip", 2, "--take", 10, "--domain", "in vivo")
    assert code == 0, err
    assert "10 units, 9000 bins of 1 ms; train [0, 3000)" in out
    made = read_recording(tmp_path / "out" / "mine.npz")
    np.testing.assert_array_equal(made.bits(0, 9000), bits[:, 2:])
    assert made.seams == (5000,) and made.domain == "in vivo" and made.unit[0] == "2"
    assert json.loads(json.dumps(made.provenance))["recipe"]["tick_hz"] == 30000
    again = run(capsys, *words, "--tick-hz", 30000, "--skip", 2, "--take", 10)
    assert again[0] == 0 and read_recording(tmp_path / "out" / "mine.npz").sha256 == made.sha256
    code, _, err = run(capsys, *words[:-4], "--validation", 3500, 5001, "--test", 5500, 9000, "--tick-hz", 30000)
    assert code == 2 and "goes over the seam of two files at bin 5000" in err


MISTAKES = {
    ("build", "x", "--out", "o"): "no source given: give one of --data",
    ("build", "x", "--out", "o", "--npz", "a", "--alf", "b"): "--alf and --npz given",
    ("build", "x", "--out", "o", "--data", "."): "no recording 'x' in the registry",
    ("build", "in_vitro_210511001", "--out", "o", "--data", ".", "--take", "3"): "has a recipe of its own",
    ("build", "in_vitro_210511001", "--out", "o", "--data", "none"): "there is no folder none",
    ("build", "x", "--out", "o", "--asdf", "none.mat", "--tick-ms", "1"): "there is no file none.mat",
    ("check", "none.npz"): "there is no file none.npz",
    ("fetch", "nothing", "--out", "o"): "no recording 'nothing' in the registry",
    ("simulate", "--out", "o", "--populations", "vivo_tetha"): "no population 'vivo_tetha': did you mean vivo_theta",
    ("simulate", "--out", "o", "--units", "3"): "3 units are too few",
    ("simulate", "--out", "o", "--minutes", "0.01"): "holds no bins",
}


@pytest.mark.parametrize("words", MISTAKES, ids=" ".join)
def test_one_sentence_for_each_mistake(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, *words)
    lines = [line for line in err.splitlines() if not line.startswith("populations:")]
    assert code == 2 and len(lines) == 1 and MISTAKES[words] in lines[0]


def test_list_says_what_needs_the_network(capsys):
    code, out, _ = run(capsys, "list")
    assert code == 0 and all(f"spikes fetch {entry.name} --out FOLDER" in out for entry in ENTRIES)
    assert out.count("the extra ibl, and the network") == 9 and "spikes build in_vitro_210511001 --data FOLDER" in out
