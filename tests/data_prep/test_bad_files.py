"""Damaged files give one sentence that names them and leave no output: text that is not UTF-8, unknown compression, truncated archives."""

import numpy as np
import pytest

from data_prep.__main__ import main
from jaxephys.schemas.recording import Recording
from jaxephys.schemas.storage import DataError
from jaxephys.schemas.unit_table import UnitTable

RNG = np.random.default_rng(0)
SPLITS = ("--train", "0", "1000", "--validation", "1000", "2000", "--test", "2000", "3000")


def write_sources(folder):
    """Write one small source of each kind, all of which can be built."""
    curves = folder / "csv"
    curves.mkdir()
    rows = [",".join(map(str, row)) for row in RNG.integers(0, 9, (4, 5)).tolist()]
    (curves / "isi_dist.csv").write_text("\n".join(["0,1,2,3,4", *rows]) + "\n")
    (curves / "labels.csv").write_text("label\na\nb\na\nb\n")
    (folder / "cells.csv").write_text("cell_id,label,vrest,f_i_curve_slope\nc1,Sst,-70,0.2\nc2,Vip,-65,0.3\n")
    times = np.sort(RNG.uniform(0, 4, 400))
    np.savez(folder / "spikes.npz", spike_times=times, spike_clusters=np.arange(400) % 3)
    np.savez(folder / "units.npz", spike_times=times, spike_times_index=[100, 400])
    np.save(folder / "array.npy", np.zeros((3, 2)))
    probe = folder / "alf"
    probe.mkdir()
    np.save(probe / "spikes.times.npy", times)
    np.save(probe / "spikes.clusters.npy", np.arange(400) % 3)
    np.save(probe / "clusters.waveforms.npy", RNG.normal(size=(3, 40, 2)))
    (probe / "clusters.metrics.csv").write_text("cluster_id,label\n0,1\n1,1\n2,1\n")


UNITS_CSV, UNITS_ALF = ("units", "build", "OUT", "--csv", "csv"), ("units", "build", "OUT", "--alf", "alf")
SPIKES_NPZ = ("spikes", "build", "one", "--npz", "spikes.npz", "--out", "OUT", *SPLITS)
SPIKES_ALF = ("spikes", "build", "one", "--alf", "alf", "--out", "OUT", *SPLITS)
UNITS_NPZ = ("units", "build", "OUT", "--npz", "units.npz")
PATCHSEQ = ("patchseq", "table", "OUT", "--csv", "cells.csv", "--others", "number")


def not_utf8(content):
    return content[:-4] + b"\xff\xfe" + content[-4:]


def truncated(content):
    return content[: len(content) // 2]


def unknown_compression(content):
    """Set the compression of every entry of an archive to a method that does not exist."""
    changed = bytearray(content)
    for signature, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        start = changed.find(signature)
        while start >= 0:
            changed[start + offset : start + offset + 2] = (97).to_bytes(2, "little")
            start = changed.find(signature, start + 4)
    return bytes(changed)


CASES = [
    ("csv/isi_dist.csv", not_utf8, UNITS_CSV),
    ("csv/labels.csv", not_utf8, UNITS_CSV),
    ("cells.csv", not_utf8, PATCHSEQ),
    ("alf/clusters.metrics.csv", not_utf8, UNITS_ALF),
    ("alf/clusters.metrics.csv", not_utf8, SPIKES_ALF),
    ("alf/spikes.times.npy", truncated, UNITS_ALF),
    *(
        (name, damage, build)
        for damage in (truncated, unknown_compression)
        for name, build in (("spikes.npz", SPIKES_NPZ), ("units.npz", UNITS_NPZ))
    ),
]


@pytest.mark.parametrize("build", [UNITS_CSV, UNITS_ALF, SPIKES_NPZ, SPIKES_ALF, UNITS_NPZ, PATCHSEQ], ids=" ".join)
def test_sources_can_be_built(tmp_path, monkeypatch, build):
    write_sources(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(list(build)) == 0 and (tmp_path / "OUT").is_dir()


@pytest.mark.parametrize(
    ("name", "damage", "build"), CASES, ids=[f"{name} {damage.__name__} {build[0]}" for name, damage, build in CASES]
)
def test_damaged_file_is_named_and_nothing_is_written(tmp_path, monkeypatch, capsys, name, damage, build):
    write_sources(tmp_path)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    path.write_bytes(damage(path.read_bytes()))
    assert main(list(build)) == 2
    message = capsys.readouterr().err.strip().split("\n")[-1]  # after lines of progress
    assert path.name in message and "Traceback" not in message and len(message) < 300
    assert not (tmp_path / "OUT").exists()


def test_archive_that_is_a_single_array_is_refused(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.zeros((3, 2)))
    assert main(["units", "build", str(tmp_path / "out"), "--npz", str(tmp_path / "x.npy")]) == 2
    assert "x.npy holds a single array: write named arrays with np.savez" in capsys.readouterr().err


@pytest.mark.parametrize("damage", [truncated, unknown_compression])
def test_damaged_tables_are_refused(tmp_path, damage):
    recording = Recording.from_array(RNG.random((200, 3)) < 0.2, name="one").write(tmp_path)
    table = UnitTable.from_arrays(isi=RNG.integers(0, 9, (4, 5))).write(tmp_path / "units")
    for path, read in ((recording, Recording.read), (table, UnitTable.read)):
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(DataError, match=f"{path.name} is not a readable .npz: build the .* again"):
            read(path)


def test_table_that_cannot_be_stored_leaves_no_file(tmp_path):
    units = UnitTable.from_arrays(isi=RNG.integers(0, 9, (4, 5)), provenance={"settings": np.zeros(3)})
    with pytest.raises(TypeError, match="JSON"):
        units.write(tmp_path / "new")
    assert not (tmp_path / "new").exists()
