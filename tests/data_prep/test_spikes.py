"""Recordings of spikes: bins, selection of units, splits, copies, checks, the registry, downloads and commands."""

import hashlib
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
from data_prep.spikes.binning import BinnedSpikes, bin_spikes, select_units
from data_prep.spikes.build import BuildSettings, apply_recipe, build_recording
from data_prep.spikes.check import check_recording, compute_statistics
from data_prep.spikes.registry import ENTRIES, Entry, IblSession, MendeleyDataset, build_entry, find_entry
from data_prep.spikes.spike_times import SpikeTimes
from data_prep.spikes.splits import find_repeats, splits_by_minutes
from jaxephys.schemas.recording import Recording
from jaxephys.schemas.storage import DataError
from tests.data_prep.test_spikes_readers import write_asdf

REAL = Path(__file__).resolve().parents[3] / "shared/data/spikes"
RNG = np.random.default_rng(0)
SPLITS = np.array([[0, 3000], [3500, 5000], [6000, 8000]])


def random_spikes(bins=8000, units=13, rate=0.02, seed=0):
    return (np.random.default_rng(seed).random((bins, units)) < rate).astype(np.uint8)


def make_recording(bits, splits=SPLITS, **provenance):
    return Recording.from_array(bits, name="toy", domain="in vitro", splits=splits, provenance=provenance)


def make_spike_times(bits, **more):
    return SpikeTimes(
        [str(i) for i in range(bits.shape[1])], [np.flatnonzero(x) + 0.5 for x in bits.T], len(bits), **more
    )


# Bins.


@pytest.mark.parametrize("units", [1, 7, 8, 9, 128])
def test_packed_bits_are_those_of_numpy(units):
    bits = random_spikes(200, units, 0.3)
    packed = bin_spikes([make_spike_times(bits)], 1.0).packed()
    np.testing.assert_array_equal(packed, np.packbits(bits, axis=1, bitorder="little"))


def test_parts_are_joined_with_a_seam():
    one, other = random_spikes(300, 5, 0.1, 1), random_spikes(200, 5, 0.1, 2)
    binned = bin_spikes([make_spike_times(one), make_spike_times(other)], 1.0)
    assert binned.bins == 500 and binned.seams == (300,)
    np.testing.assert_array_equal(
        np.unpackbits(binned.packed(), axis=1, count=5, bitorder="little"), np.vstack([one, other])
    )
    with pytest.raises(DataError, match="5 and 4 units"):
        bin_spikes([make_spike_times(one), make_spike_times(other[:, :4])], 1.0)
    with pytest.raises(DataError, match="0 ms has no width"):
        bin_spikes([make_spike_times(one)], 0)


# Selection of units.


@pytest.fixture
def binned():
    counts = [0, 5, 10, 20, 40, 80]
    spikes = [np.arange(count) for count in counts]
    about = {"depth": np.arange(6) * 100.0, "quality": np.array([1, 1, 0, 1, np.nan, 1])}
    return BinnedSpikes([f"u{i}" for i in range(6)], spikes, 1000, 1.0, about=about)


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
def test_units_are_selected(binned, choice, kept):
    chosen = select_units(binned, (0, 1000), **choice)
    assert "".join(name[1:] for name in chosen.unit) == kept
    assert chosen.about["depth"].tolist() == [100.0 * int(i) for i in kept]
    assert [occupied.size for occupied in chosen.spikes] == [binned.spikes[int(i)].size for i in kept]


def test_the_rate_is_that_of_training_bins_only(binned):
    assert select_units(binned, (0, 10), rate=(999, 1001)).unit == ["u2", "u3", "u4", "u5"]
    with pytest.raises(DataError, match="0 to choose from"):
        select_units(binned, (500, 1000), rate=(1, 1000))


INVALID_CHOICES = [
    ({"skip": 100, "take": 128}, "skip 100, take 128 needs 228 units and the recording has 6 to choose from"),
    ({"skip": 6}, "skip 6 needs 7 units"),
    ({"take": 0}, "take 0 selects no units"),
    ({"skip": -1}, "skip -1 selects no units"),
]


@pytest.mark.parametrize(("choice", "message"), INVALID_CHOICES)
def test_fewer_units_than_requested_is_an_error(binned, choice, message):
    with pytest.raises(DataError, match=message):
        select_units(binned, (0, 1000), **choice)


def test_unknown_depth_cannot_select_units():
    with pytest.raises(DataError, match="does not contain the depth of its units: select them without --depth"):
        select_units(bin_spikes([make_spike_times(random_spikes(100))], 1.0), (0, 50), depth=(0, 1))


# Splits.


def test_minutes_include_their_gaps():
    splits = splits_by_minutes(600_000, 1.0, (5, 2.5, 2.5), 5.0)
    assert splits.tolist() == [[0, 300_000], [305_000, 450_000], [455_000, 600_000]]
    assert splits_by_minutes(1200, 500.0, (5, 2.5, 2.5), 5.0).tolist() == [[0, 600], [610, 900], [910, 1200]]


def test_a_recording_shorter_than_its_splits_is_an_error():
    with pytest.raises(
        DataError, match=r"has 6\.67 minutes .* need 10: give shorter ones \(--minutes 3\.33 1\.67 1\.67\)"
    ):
        splits_by_minutes(400_080, 1.0, (5, 2.5, 2.5), 5.0)
    with pytest.raises(DataError, match="minutes above 0"):
        splits_by_minutes(1000, 1.0, (5, 0, 1), 5.0)


# Copies.


def test_copied_chunk_is_found_at_any_bin_and_in_any_order_of_units():
    bits = random_spikes()
    assert not find_repeats(make_recording(bits).packed, SPLITS, within=True)
    bits[6000:7000] = bits[1203:2203][:, RNG.permutation(13)]
    (found,) = find_repeats(make_recording(bits).packed, SPLITS)
    assert found == ("train", 1203, "test", 6000, 1000)
    assert str(found) == "1000 bins of test from 6000 occur in train from 1203 as well"


def test_silence_is_not_a_copy_and_a_chunk_twice_in_one_split_is_found():
    bits = random_spikes()
    bits[500:1900], bits[6000:7000] = 0, 0
    assert not find_repeats(make_recording(bits).packed, SPLITS, within=True)
    bits[0:1000] = random_spikes(1000, 13, seed=9)
    bits[1900:2900] = bits[0:1000]
    assert not find_repeats(make_recording(bits).packed, SPLITS), "no other split contains it"
    bits[2000:3000] = bits[0:1000]
    assert find_repeats(make_recording(bits).packed, SPLITS, within=True) == [("train", 0, "train", 2000, 1000)]


# Build.


def test_build_refuses_copies_and_splits_without_spikes(tmp_path):
    bits = random_spikes(4000, 12)
    bits[3000:] = bits[500:1500]
    ticks = [np.flatnonzero(column) for column in bits.T]
    path = write_asdf(tmp_path / "a.mat", ticks, length=4000)
    ranges = {"tick_ms": 1.0, "train": (0, 2000), "validation": (2000, 3000), "test": (3000, 4000)}
    with pytest.raises(DataError, match="1000 bins of test from 3000 occur in train from 500 as well"):
        build_recording("x", "asdf", [path], BuildSettings(**ranges))
    made = build_recording("x", "asdf", [path], BuildSettings(**ranges | {"test": (3000, 3900), "train": (1500, 2000)}))
    assert made.provenance["sha256"]["train"] != made.provenance["sha256"]["test"]
    write_asdf(path, [np.arange(100)], length=4000)
    with pytest.raises(DataError, match="bins 2000 to 3000 hold no spike"):
        build_recording("x", "asdf", [path], BuildSettings(**ranges))


INVALID_SETTINGS = [
    ({"tick_ms": 1.0, "tick_hz": 1000.0}, "--tick-ms 1 and --tick-hz 1000 given"),
    ({"tick_ms": 0.0}, "a tick of 0 has no length"),
    ({"tick_ms": 1.0, "train": (0, 10)}, "lack --validation and --test"),
    ({"tick_ms": 1.0}, "need 10: give shorter ones"),
]


@pytest.mark.parametrize(("fields", "message"), INVALID_SETTINGS)
def test_invalid_settings_are_refused(tmp_path, fields, message):
    path = write_asdf(tmp_path / "a.mat")
    with pytest.raises(DataError, match=message):
        build_recording("x", "asdf", [path], BuildSettings(**fields))


# Registry.


def test_the_registry_finds_its_files_by_either_name(tmp_path):
    entry = find_entry("in_vitro_210511001")
    (tmp_path / "210511001").mkdir()
    for half in ("bh", "lh"):
        (tmp_path / "210511001" / f"asdf_{half}.mat").touch()
    assert [path.name for path in entry.paths(tmp_path)] == ["asdf_bh.mat", "asdf_lh.mat"]
    assert [path.name for path in entry.paths(tmp_path / "210511001")] == ["asdf_bh.mat", "asdf_lh.mat"]
    (tmp_path / "in_vitro_210511001_bh_copy.mat").touch()
    with pytest.raises(DataError, match="should hold one file .* and holds"):
        entry.paths(tmp_path)
    with pytest.raises(DataError, match="holds none: fetch in_vivo_NYU-40_2021-04-14 again"):
        find_entry("in_vivo_NYU-40_2021-04-14").paths(tmp_path)
    with pytest.raises(
        DataError, match="recording of the registry 'in_vitro_21051100': did you mean in_vitro_210511001"
    ):
        find_entry("in_vitro_21051100")
    with pytest.raises(DataError, match="is a collection of recordings"):
        build_entry(find_entry("mendeley_kf65cvmtbz"), tmp_path)
    assert len({entry.name for entry in ENTRIES}) == len(ENTRIES)


@pytest.mark.skipif(not REAL.is_dir(), reason="the published recordings are not here")
@pytest.mark.parametrize(
    ("name", "bins", "spikes", "silent"),
    [("in_vitro_210511001", 400_080, 943_716, 1), ("in_vivo_NYU-40_2021-04-14", 700_000, None, 1)],
)
def test_the_published_recordings(name, bins, spikes, silent):
    made = build_entry(find_entry(name), REAL)
    start, stop = made.span("test")
    prevalence = made.bits(start, stop).mean()
    assert made.units == 128 and stop - start == 50_000 and made.span("train") == (0, 300_000)
    if spikes:
        assert made.seams == (bins,) and start == bins + 10_000
        assert len(made.events(0, bins)[0]) == spikes and round(prevalence, 4) == 0.0178
    else:
        assert len(made.packed) == bins and made.bin_ms == 1.0 and round(prevalence, 4) == 0.0032
    assert (made.provenance["region"], made.provenance["identifier"]) == (
        find_entry(name).region,
        find_entry(name).identifier,
    )
    long = build_entry(find_entry(name), REAL, long_test=True)
    assert long.span("test") == (start, start + 150_000), "2.5 minutes"
    assert [long.span(split) for split in ("train", "validation")] == [made.span(s) for s in ("train", "validation")]


def test_longer_test_bins_are_those_of_the_registry(tmp_path):
    with pytest.raises(DataError, match="no longer test bins of ibl_SWC_038_2020-07-30"):
        build_entry(find_entry("ibl_SWC_038_2020-07-30"), tmp_path, long_test=True)
    with pytest.raises(DataError, match="--recipe replaces"):
        build_entry(find_entry("in_vitro_210511001"), tmp_path, BuildSettings(), long_test=True)


# Check.


def test_statistics_agree_with_the_bits():
    bits = random_spikes(8000, 6, 0.05)
    found = compute_statistics(make_recording(bits, seams=[5500]))
    np.testing.assert_allclose(found.rates["all"], bits.mean(axis=0) * 1000)
    np.testing.assert_allclose(found.rates["test"], bits[6000:8000].mean(axis=0) * 1000)
    expected = [
        np.concatenate([np.diff(np.flatnonzero(x)) for x in (column[:5500], column[5500:])]) for column in bits.T
    ]
    for unit, intervals in enumerate(expected):
        np.testing.assert_array_equal(found.intervals[found.interval_unit == unit], intervals)
        assert found.violations[unit] == pytest.approx(np.mean(intervals < 2))
    np.testing.assert_allclose(found.population, bits.reshape(80, -1).sum(axis=1) / (6 * 0.1))
    assert found.occupied == np.mean(bits.any(axis=1))


def test_inserted_problems_are_found():
    pytest.importorskip("statsmodels", reason="the test of stationarity needs the extra prep")
    splits = np.array([[0, 12000], [12000, 18000], [18000, 24000]])
    bits = random_spikes(24000, 10, 0.02)
    bits[1:][bits[:-1] > 0] = 0  # no unit fires in two bins in a row
    assert check_recording(make_recording(bits, splits)).findings == []
    bits[:, 3] = 0
    bits[::50, 4], bits[1::50, 4] = 1, 1
    bits[18000:, 5] = 0
    bits[18000:18005, 5] = [1, 0, 1, 0, 1]
    findings = " ".join(check_recording(make_recording(bits, splits)).findings)
    assert (
        "1 units have no spike in the recording" in findings
        and "1 units have more than 1 % of their intervals" in findings
    )
    assert "1 units fire in test more than 2 times" in findings and "2 units have fewer than 10 test spikes" in findings
    drift = np.random.default_rng(0).random((24000, 10)) < np.linspace(0.001, 0.1, 24000)[:, None]
    findings = " ".join(check_recording(make_recording(drift.astype(np.uint8), splits)).findings)
    assert "the population rate of all may wander like a random walk" in findings


def test_recording_with_three_spikes_is_described():
    bits = np.zeros((300, 2), np.uint8)
    bits[[5, 150, 250], 0] = 1
    made = make_recording(bits, np.array([[0, 100], [100, 200], [200, 300]]))
    assert any(line.startswith("rate (Hz)") for line in check_recording(made).lines())


# Fetch.


@pytest.fixture
def server(tmp_path):
    position = tmp_path / "served"
    position.mkdir()
    handler = partial(type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None}), directory=position)
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield position, f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()


def test_single_files_are_fetched_once(server, tmp_path):
    pytest.importorskip("requests", reason="the network needs the prep extra")
    position, url = server
    (position / "a.mat").write_bytes(b"spikes")
    entry = Entry("mine", "", {"mine_a.mat": f"{url}/a.mat"}, "")
    (path,) = fetching.fetch(entry, tmp_path / "got")
    assert path.read_bytes() == b"spikes" and [x.name for x in path.parent.iterdir()] == ["mine_a.mat"]
    (position / "a.mat").unlink()
    assert fetching.fetch(entry, tmp_path / "got") == [path], "what is there stays"
    with pytest.raises(DataError, match="mine was not fetched: mine_a.mat: the server answers 404"):
        fetching.fetch(entry, tmp_path / "other")


def test_a_mendeley_data_set_comes_with_its_folders_and_is_verified(server, tmp_path, monkeypatch):
    pytest.importorskip("requests", reason="the network needs the prep extra")
    position, url = server
    (position / "a.mat").write_bytes(b"spikes")
    digest = hashlib.sha256(b"spikes").hexdigest()

    def listed(name, sha256):
        return {"filename": name, "size": 6, "content_details": {"download_url": f"{url}/a.mat", "sha256_hash": sha256}}

    folders = [{"id": "f", "name": "slices"}, {"id": "g", "name": "left", "parent_id": "f"}]
    files = {"root": [listed("top.mat", digest)], "f": [], "g": [listed("a.mat", digest)]}

    def query_list(address):
        head, _, query = address.partition("?")
        return folders if head.endswith("/xyz/folders/2") else files[query.split("=")[1].split("&")[0]]

    monkeypatch.setattr(fetching, "query_list", query_list)
    entry = Entry("set", "", MendeleyDataset("xyz", 2), "")
    paths = fetching.fetch(entry, tmp_path / "got")
    assert [str(path.relative_to(tmp_path / "got")) for path in paths] == ["top.mat", "slices/left/a.mat"]
    files["g"] = [listed("a.mat", "0" * 64)]
    with pytest.raises(DataError, match=r"slices/left/a\.mat: the downloaded file differs .* \(sha256"):
        fetching.fetch(entry, tmp_path / "other")
    assert not list((tmp_path / "other").rglob("a.mat*"))
    files["root"] = [listed("../top.mat", digest)]
    with pytest.raises(DataError, match="outside of the folder"):
        fetching.fetch(entry, tmp_path / "other")


class OneMock:
    """What ``fetch_session`` needs of ONE, with the session of one mouse on one day."""

    requested = []  # noqa: RUF012

    def __init__(self, **fields):
        assert fields["base_url"].startswith("https://openalyx")

    def search(self, subject, date_range):
        return ["eid"] if (subject, date_range[0]) == ("NYU-40", "2021-04-13") else []

    def list_collections(self, eid, filename):
        return np.array(["alf/probe00", "alf/probe00/pykilosort", "alf/probe01/pykilosort"])

    def load_object(self, eid, name, collection, attribute, download_only):
        assert download_only
        self.requested.append((name, collection, attribute))
        return [Path(f"{name}.{x}") for x in attribute]


def test_sessions_of_the_ibl_come_through_one(tmp_path, monkeypatch):
    entry = find_entry("ibl_NYU-40_2021-04-13")
    monkeypatch.setitem(sys.modules, "one", None)
    with pytest.raises(DataError, match=r"pip install .*jaxephys\[ibl\]"):
        fetching.fetch(entry, tmp_path)
    exceptions = ModuleType("one.alf.exceptions")
    exceptions.ALFError = type("ALFError", (Exception,), {})
    for name, module in {"one": ModuleType("one"), "one.alf": ModuleType("one.alf")}.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "one.alf.exceptions", exceptions)
    monkeypatch.setitem(sys.modules, "one.api", SimpleNamespace(ONE=OneMock))
    files = fetching.fetch(entry, tmp_path)
    assert [path.name for path in files][:2] == ["spikes.times", "spikes.clusters"] and len(files) == 5
    assert {position for _, position, _ in OneMock.requested} == {"alf/probe00/pykilosort", "alf"}
    with pytest.raises(DataError, match="no public session of nobody on 2021-04-13"):
        fetching.fetch_session(IblSession("nobody", "2021-04-13"), tmp_path)


# Recipes of the published study.


def test_in_vitro_recipe_skips_half_an_hour_and_takes_ten_minutes(tmp_path, capsys):
    path, bins, generator = tmp_path / "asdf.mat", 41 * 60_000, np.random.default_rng(0)
    cells = [np.unique(generator.integers(1, bins, 500)).astype(float) for _ in range(130)]
    write_asdf(path, cells, length=bins)
    words = ("build", "slice", "--out", tmp_path, "--asdf", path, "--recipe", "in_vitro")
    assert "does not contain the length of a tick" in run(capsys, *words)[2]
    code, out, _ = run(capsys, *words, "--tick-ms", 1)
    recording = Recording.read(tmp_path / "slice.npz")
    assert code == 0 and "cut to 1800 to 2400 s" in out
    assert (recording.units, len(recording), recording.domain) == (128, 600_000, "in vitro")
    assert recording.splits.tolist() == [[0, 300_000], [305_000, 450_000], [455_000, 600_000]]
    inside = cells[0][(cells[0] >= 1_800_000) & (cells[0] < 2_400_000)] - 1_800_000
    np.testing.assert_array_equal(np.flatnonzero(recording.bits(0, 600_000)[:, 0]), inside)
    assert run(capsys, *words, "--tick-ms", 1, "--take", 16)[0] == 0
    assert Recording.read(tmp_path / "slice.npz").units == 16, "other options replace those of the recipe"
    code, _, err = run(capsys, *words, "--tick-ms", 0.5)
    assert code == 2 and "has 1230 s and the interval ends at 2400 s" in err


def test_ibl_recipe_takes_five_minutes_of_spontaneous_activity(tmp_path, capsys):
    generator = np.random.default_rng(0)
    folder = tmp_path / "alf" / "probe00"
    folder.mkdir(parents=True)
    times = np.sort(generator.uniform(0, 1200, 60_000))
    np.save(folder / "spikes.times.npy", times)
    np.save(folder / "spikes.clusters.npy", generator.integers(0, 230, 60_000))
    passive = "index,spontaneousActivity\nstart,500.0\nstop,{}\n"
    (tmp_path / "alf" / "_ibl_passivePeriods.intervalsTable.csv").write_text(passive.format(1110.0))
    words = ("build", "ibl_NYU-40_2021-04-14", "--out", tmp_path, "--data", folder)
    code, out, _ = run(capsys, *words)
    recording = Recording.read(tmp_path / "ibl_NYU-40_2021-04-14.npz")
    assert code == 0 and "cut to the first 300 s" in out
    assert (recording.units, len(recording), recording.unit_id[0]) == (128, 300_000, "100")
    assert recording.splits.tolist() == [[0, 150_000], [155_000, 225_000], [230_000, 300_000]]
    spikes = int(((times >= 500) & (times < 800)).sum())
    assert abs(int(recording.bits(0, 300_000).sum()) - spikes * 128 / 230) < 0.05 * spikes
    assert run(capsys, *words, "--recipe", "ibl_ten_minutes")[0] == 0
    assert len(Recording.read(tmp_path / "ibl_NYU-40_2021-04-14.npz")) == 610_000
    (tmp_path / "alf" / "_ibl_passivePeriods.intervalsTable.csv").write_text(passive.format(700.0))
    code, _, err = run(capsys, *words)
    assert code == 2 and "has 200 s and --duration needs 300" in err


def test_fetch_of_a_collection_shows_how_to_build_its_recordings(server, tmp_path, monkeypatch, capsys):
    pytest.importorskip("requests", reason="the network needs the prep extra")
    from data_prep.download import RemoteFile

    position, url = server
    for name in ("asdf.mat", "notes.txt"):
        (position / name).write_bytes(b"spikes")
    files = [RemoteFile(f"210126001/{name}", f"{url}/{name}") for name in ("asdf.mat", "notes.txt")]
    monkeypatch.setattr(fetching, "list_files", lambda source: files)
    code, out, _ = run(capsys, "fetch", "mendeley_kf65cvmtbz", "--out", tmp_path / "got")
    (line,) = [line for line in out.splitlines() if line.startswith("next: ")]
    command = (
        f"spikes build in_vitro_210126001_asdf --asdf {tmp_path / 'got/210126001/asdf.mat'} --recipe in_vitro --out DIR"
    )
    assert code == 0 and line == f"next: python -m data_prep {command}"


def test_a_duration_of_joined_files_is_refused(tmp_path):
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", np.stack([np.arange(900) % 8, np.linspace(0.001, 9, 900)], axis=1))
    paths = [tmp_path / "a.npy", tmp_path / "b.npy"]
    with pytest.raises(DataError, match="a duration of 5 s of 2 joined files"):
        build_recording("x", "npz", paths, BuildSettings(duration=5.0))
    with pytest.raises(DataError, match="no recipe 'in_vivo': choose one of in_vitro, ibl"):
        apply_recipe("in_vivo", BuildSettings())


# Commands.


def run(capsys, *arguments) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main([str(argument) for argument in ("spikes", *arguments)])
    output = capsys.readouterr()
    return code, output.out, output.err


def test_simulate_then_check(tmp_path, capsys):
    arguments = ("simulate", "--out", tmp_path, "--minutes", 0.15, "--units", 8, "--populations", "vivo_slow")
    code, out, err = run(capsys, *arguments)
    assert code == 0, err
    assert f"next: python -m data_prep spikes check {tmp_path / 'vivo_slow.npz'}" in out
    assert {x.name for x in tmp_path.iterdir()} == {"vivo_slow.npz", "truth", "truth.csv"}
    code, out, _ = run(capsys, "check", tmp_path / "vivo_slow.npz")
    assert code == 0 and "vivo_slow (in vivo)" in out and "9,000 bins of 1 ms" in out
    assert (tmp_path / "vivo_slow.png").read_bytes().startswith(b"\x89PNG")


def test_build_from_user_files(tmp_path, capsys):
    bits = random_spikes(9000, 12)
    for i, half in enumerate((bits[:5000], bits[5000:])):
        write_asdf(tmp_path / f"{i}.mat", [30 * np.flatnonzero(column) for column in half.T], length=30 * len(half))
    ranges = ("--train", 0, 3000, "--validation", 3500, 5000, "--test", 5500, 9000)
    arguments = ("build", "mine", "--out", tmp_path / "out", "--asdf", tmp_path / "0.mat", tmp_path / "1.mat", *ranges)
    code, out, err = run(capsys, *arguments, "--tick-hz", 30000, "--skip", 2, "--take", 10, "--domain", "in vivo")
    assert code == 0, err
    assert "10 units, 9000 bins of 1 ms; train [0, 3000)" in out
    made = Recording.read(tmp_path / "out" / "mine.npz")
    np.testing.assert_array_equal(made.bits(0, 9000), bits[:, 2:])
    assert made.seams == (5000,) and made.domain == "in vivo" and made.unit_id[0] == "2"
    assert json.loads(json.dumps(made.provenance))["recipe"]["tick_hz"] == 30000
    again = run(capsys, *arguments, "--tick-hz", 30000, "--skip", 2, "--take", 10)
    assert again[0] == 0 and Recording.read(tmp_path / "out" / "mine.npz").sha256 == made.sha256
    code, _, err = run(capsys, *arguments[:-4], "--validation", 3500, 5001, "--test", 5500, 9000, "--tick-hz", 30000)
    assert code == 2 and "contains the seam of two files at bin 5000" in err


MISTAKES = {
    ("build", "x", "--out", "o"): "no source given: give one of --data",
    ("build", "x", "--out", "o", "--npz", "a", "--alf", "b"): "--alf and --npz given",
    ("build", "x", "--out", "o", "--data", "."): "no recording of the registry 'x'",
    (
        "build",
        "in_vitro_210511001",
        "--out",
        "o",
        "--data",
        ".",
        "--take",
        "3",
    ): "the registry has the settings of in_vitro_210511001",
    ("build", "in_vitro_210511001", "--out", "o", "--data", "none"): "there is no folder none",
    ("build", "x", "--out", "o", "--asdf", "none.mat", "--tick-ms", "1"): "there is no file none.mat",
    ("check", "none.npz"): "there is no recording none.npz",
    (
        "build",
        "x",
        "--npz",
        "a.npz",
        "--out",
        "o",
        "--long-test",
    ): "--long-test is for recordings of the registry",
    ("fetch", "nothing", "--out", "o"): "no recording of the registry 'nothing'",
    ("simulate", "--out", "o", "--populations", "vivo_tetha"): "no population 'vivo_tetha': did you mean vivo_theta",
    ("simulate", "--out", "o", "--units", "3"): "3 units are too few",
    ("simulate", "--out", "o", "--minutes", "0.01"): "holds no bins",
}


@pytest.mark.parametrize("arguments", MISTAKES, ids=" ".join)
def test_each_mistake_gives_one_sentence(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, *arguments)
    lines = [line for line in err.splitlines() if not line.startswith("populations:")]
    assert code == 2 and len(lines) == 1 and MISTAKES[arguments] in lines[0]


def test_list_shows_what_needs_the_network(capsys):
    code, out, _ = run(capsys, "list")
    assert code == 0 and all(f"spikes fetch {entry.name} --out FOLDER" in out for entry in ENTRIES)
    assert out.count("the extra ibl, and the network") == 9 and "spikes build in_vitro_210511001 --data FOLDER" in out
    assert out.count("region: ") == out.count("identifier: ") == len(ENTRIES) and "unknown" in out
    assert out.count("test bins: 50 s, or with --long-test 150 s") == 2
