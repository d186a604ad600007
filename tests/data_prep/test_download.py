"""Downloads from a DANDI archive on the loopback: complete, interrupted, corrupted, refused, and read by ranges."""

import hashlib
import io
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

pytest.importorskip("dandi", reason="the archive needs the prep extra")

import h5py
import requests

from data_prep import download, progress
from data_prep.dandi_archive import MANIFEST, dandiset_number, fetch_dandiset, query_archive, read_manifest
from data_prep.download import DownloadError
from data_prep.patchseq.nwb import ids_from_path
from data_prep.remote_file import open_remote
from tests.data_prep import toy
from tests.data_prep.dandi_mock import Archive
from tests.data_prep.toy import HEAR_INTERRUPTS

ROOT = Path(__file__).parents[2]


def path_of(donor: int, cell: int) -> str:
    return f"sub-{donor}/sub-{donor}_ses-{cell}_icephys.nwb"


def content(seed: int, size: int = 30_000) -> bytes:
    return np.random.default_rng(seed).bytes(size)


FILES = {path_of(donor, cell): content(cell) for donor, cell in ((7, 71), (3, 31), (3, 32), (5, 51), (12, 121))}
ONE = path_of(3, 31)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(download, "RETRY_PAUSES", (0.0, 0.0))


@pytest.fixture
def archive():
    with Archive(FILES) as archive:
        yield archive


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.nwb")}


def parts_in(folder: Path) -> list[Path]:
    return list(folder.rglob("*.part"))


# Selection of files and content of the manifest.


def test_the_published_version_is_the_default_of_its_dandiset(tmp_path):
    newer = "0.990101.0000"
    for number, published in (("000020", "0.210913.1639"), ("000636", "0.241120.0510")):
        with Archive(FILES, number=number, version=published) as archive:
            assert query_archive(number, api=archive.api, limit=1).version == published
        with Archive(FILES, number=number, version=newer) as archive:
            with pytest.raises(DownloadError, match=f"No such version: '{published}'"):
                query_archive(number, api=archive.api, limit=1)
            for version in (newer, "latest"):
                assert query_archive(number, version=version, api=archive.api, limit=1).version == newer
    with Archive(FILES, number="000041", version=newer) as archive:
        assert fetch_dandiset("41", tmp_path, api=archive.api, limit=1).manifest.version == newer


def test_everything_is_fetched_and_the_manifest_describes_it(archive, tmp_path):
    out = tmp_path / "enregistrements été"
    summary = fetch_dandiset("mouse", out, api=archive.api)
    assert files_in(out) == FILES and not parts_in(out)
    assert list(summary.downloaded) == sorted(FILES) and not summary.present and not summary.failed
    manifest = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
    assert (manifest["dandiset"], manifest["version"]) == ("000020", archive.version)
    assert manifest["licence"] == ["spdx:CC-BY-4.0"] and "Nobody (2021)" in manifest["citation"] and manifest["date"]
    for asset in manifest["assets"]:
        body = FILES[asset["path"]]
        assert asset["size"] == len(body) and asset["sha256"] == hashlib.sha256(body).hexdigest()
        assert asset["asset_id"] == archive.ids[asset["path"]] and requests.get(asset["url"], timeout=5).content == body
    assert read_manifest(out) == summary.manifest


def test_limit_takes_the_first_paths_and_match_filters_them(archive, tmp_path):
    assert list(fetch_dandiset("20", tmp_path / "a", limit=2, api=archive.api).downloaded) == sorted(FILES)[:2]
    assert list(fetch_dandiset("20", tmp_path / "b", match="sub-3/*", api=archive.api).downloaded) == [
        path_of(3, 31),
        path_of(3, 32),
    ]
    assert list(fetch_dandiset("20", tmp_path / "c", match="*ses-1*", limit=9, api=archive.api).downloaded) == [
        path_of(12, 121)
    ]
    assert len(files_in(tmp_path / "a")) == 2


def test_assets_are_listed_without_a_download(archive):
    assets = query_archive("DANDI:000020", match="sub-[37]/*", limit=2, api=archive.api).assets
    assert [(asset.path, *ids_from_path(asset.path)) for asset in assets] == [
        (path_of(3, 31), "31", "3"),
        (path_of(3, 32), "32", "3"),
    ]
    assert [asset.url for asset in assets] == [archive.url(asset.path) for asset in assets], "the store, not the API"
    assert not archive.sent


def test_a_second_fetch_verifies_and_downloads_only_what_is_new(archive, tmp_path):
    fetch_dandiset("20", tmp_path, limit=2, api=archive.api)
    sent, described = archive.sent.total(), [path for path in archive.api_requests if "/assets/0" in path]
    summary = fetch_dandiset("20", tmp_path, match="sub-7/*", api=archive.api)
    assert list(summary.downloaded) == [path_of(7, 71)] and archive.sent.total() == sent + 30_000
    assert len(summary.manifest.assets) == 3, "the manifest keeps what was fetched before"
    summary = fetch_dandiset("20", tmp_path, limit=3, api=archive.api)
    assert len(summary.present) == 2 and len(summary.downloaded) == 1
    assert all(archive.api_requests[path] == 1 for path in described), "known assets are not requested again"


def test_two_files_of_one_name_are_kept_in_their_folders(tmp_path):
    files = {"a/same.nwb": content(1), "b/same.nwb": content(2)}
    with Archive(files) as archive:
        fetch_dandiset("20", tmp_path, api=archive.api)
    assert files_in(tmp_path) == files


# Failures of one file.


def test_a_corrupted_answer_is_downloaded_once_more(archive, tmp_path):
    archive.corrupt[ONE] = 1
    assert not fetch_dandiset("20", tmp_path, api=archive.api).failed
    assert files_in(tmp_path) == FILES and archive.sent[ONE] == 2 * len(FILES[ONE])


def test_a_file_that_is_corrupted_twice_is_reported_and_not_written(archive, tmp_path):
    archive.corrupt[ONE] = 99
    summary = fetch_dandiset("20", tmp_path, api=archive.api)
    assert list(summary.failed) == [ONE] and "sha256" in summary.failed[ONE] and ONE in str(summary)
    assert files_in(tmp_path) == {path: body for path, body in FILES.items() if path != ONE}
    assert not parts_in(tmp_path) and archive.sent[ONE] == 2 * len(FILES[ONE])
    archive.corrupt.clear()
    assert list(fetch_dandiset("20", tmp_path, api=archive.api).downloaded) == [ONE]


def test_without_a_sha256_dandis_etag_decides(archive, tmp_path):
    archive.digests = ["dandi:dandi-etag"]
    archive.corrupt[ONE] = 99
    summary = fetch_dandiset("20", tmp_path, api=archive.api)
    assert list(summary.failed) == [ONE] and "etag" in summary.failed[ONE] and len(summary.downloaded) == 4


def test_a_file_without_a_checksum_is_refused(archive, tmp_path):
    archive.digests = []
    summary = fetch_dandiset("20", tmp_path, api=archive.api)
    assert set(summary.failed.values()) == {"the archive lists no checksum to verify it by"} and not archive.sent


def test_a_missing_file_does_not_stop_the_others(archive, tmp_path):
    archive.missing = {ONE}
    summary = fetch_dandiset("20", tmp_path, api=archive.api)
    assert summary.failed == {ONE: "the server answers 404 Not Found"} and len(summary.downloaded) == 4


def test_a_changed_file_is_reported_and_never_overwritten(archive, tmp_path):
    fetch_dandiset("20", tmp_path, api=archive.api)
    changed = FILES[ONE][:-1] + bytes([FILES[ONE][-1] ^ 1])
    (tmp_path / ONE).write_bytes(changed)
    summary = fetch_dandiset("20", tmp_path, api=archive.api)
    assert list(summary.failed) == [ONE] and "move it away" in summary.failed[ONE]
    assert (tmp_path / ONE).read_bytes() == changed


def test_requests_are_repeated_after_a_busy_server_and_a_broken_connection(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "CHUNK", 1000)
    archive.busy[ONE], archive.broken[ONE] = 1, 1
    assert not fetch_dandiset("20", tmp_path, api=archive.api).failed
    assert files_in(tmp_path) == FILES
    assert [first for path, first in archive.ranges if path == ONE] == [0, 15_000], "the second half alone came again"


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_a_partial_file_is_resumed(archive, tmp_path, monkeypatch, ranges):
    monkeypatch.setattr(download, "CHUNK", 1000)
    archive.broken[ONE] = 1
    monkeypatch.setattr(download, "RETRY_PAUSES", ())
    assert list(fetch_dandiset("20", tmp_path, match=ONE, api=archive.api).failed) == [ONE]
    assert parts_in(tmp_path)[0].stat().st_size == 15_000 and not files_in(tmp_path)
    archive.takes_ranges = ranges
    archive.sent.clear()
    assert list(fetch_dandiset("20", tmp_path, match=ONE, api=archive.api).downloaded) == [ONE]
    assert files_in(tmp_path) == {ONE: FILES[ONE]}
    assert archive.sent[ONE] == (15_000 if ranges else 30_000)


def test_when_the_network_is_gone_the_rest_is_not_tried(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "MAX_CONSECUTIVE_FAILURES", 2)
    for path in FILES:
        archive.broken[path] = 99
    archive.pause = 0.05  # so that the fetch has counted a failure before the next file fails
    summary = fetch_dandiset("20", tmp_path, jobs=1, api=archive.api)
    assert len(summary.failed) == 5 and not summary.downloaded
    reasons = Counter(reason.partition(":")[0] for reason in summary.failed.values())
    assert set(reasons) == {"the connection failed", "not completed"}
    assert reasons["the connection failed"] in (2, 3), "one more may have ended before the stop"


def test_failures_that_are_not_consecutive_do_not_stop_the_fetch(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "MAX_CONSECUTIVE_FAILURES", 2)
    bad = sorted(FILES)[0:3:2]
    archive.broken.update(dict.fromkeys(bad, 99))
    archive.pause = 0.05
    assert list(fetch_dandiset("20", tmp_path, jobs=1, api=archive.api).failed) == bad


# Failures of the whole fetch.


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_a_stopped_fetch_resumes(tmp_path, stop):
    body = content(0, 4_000_000)
    with Archive({ONE: body}) as archive:
        archive.pause = 0.02
        program = f"{HEAR_INTERRUPTS}; import sys; from data_prep.dandi_archive import fetch_dandiset; fetch_dandiset('20', sys.argv[1], api=sys.argv[2])"
        command = [sys.executable, "-c", program, str(tmp_path), archive.api]
        child = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not (found := parts_in(tmp_path)) or found[0].stat().st_size < 1_000_000:
            assert child.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
        with pytest.raises(DownloadError, match="another fetch is running"):
            fetch_dandiset("20", tmp_path, api=archive.api)
        child.send_signal(stop)
        assert child.wait(timeout=10) != 0
        have = parts_in(tmp_path)[0].stat().st_size
        assert 1_000_000 <= have < len(body) and not files_in(tmp_path)
        archive.pause = 0
        assert list(fetch_dandiset("20", tmp_path, api=archive.api).downloaded) == [ONE]
        assert archive.ranges == [(ONE, 0), (ONE, have)], "only the rest is requested"
    assert files_in(tmp_path) == {ONE: body} and not parts_in(tmp_path)


def test_a_missing_network_is_reported_in_one_sentence(tmp_path):
    with pytest.raises(DownloadError, match=r"needs the network: no answer from .* or give the folder .* `extract`$"):
        fetch_dandiset("20", tmp_path / "out", api="http://127.0.0.1:9/api")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("dandiset", "choice", "sentence"),
    [
        ("000999", {}, "No such Dandiset: '000999'.*the numbers and versions"),
        ("20", {"version": "9.9"}, "No such version: '9.9'"),
        ("20", {"match": "*.abf"}, r"no file of dandiset 000020 matches '\*.abf' \(5 files, for example sub-12/"),
        ("20", {"limit": 0}, "limit is 0: give at least 1"),
        ("20", {"jobs": 0}, "jobs is 0"),
        ("rat", {}, "'rat' is not a dandiset: give mouse, human"),
    ],
)
def test_wrong_arguments_are_reported_in_one_sentence(archive, tmp_path, dandiset, choice, sentence):
    with pytest.raises(DownloadError, match=sentence) as caught:
        fetch_dandiset(dandiset, tmp_path / "out", api=archive.api, **choice)
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_a_path_that_leads_out_of_the_folder_is_refused(tmp_path):
    with Archive({"../evil.nwb": b"x"}) as archive, pytest.raises(DownloadError, match="outside of the folder"):
        fetch_dandiset("20", tmp_path, api=archive.api)


def test_a_folder_belongs_to_one_dandiset(archive, tmp_path):
    fetch_dandiset("20", tmp_path, limit=1, api=archive.api)
    with pytest.raises(DownloadError, match="holds files of dandiset 000020: give another folder for 000636"):
        fetch_dandiset("human", tmp_path, api=archive.api)
    with pytest.raises(DownloadError, match="is a file: give a folder"):
        fetch_dandiset("20", tmp_path / MANIFEST, api=archive.api)
    (tmp_path / MANIFEST).write_text("{}")
    with pytest.raises(DownloadError, match="is not a manifest of fetch"):
        fetch_dandiset("20", tmp_path, api=archive.api)


def test_a_fetch_that_does_not_fit_on_the_disk_is_refused(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: SimpleNamespace(free=100_000))
    with pytest.raises(DownloadError, match=r"150.0 kB do not fit .*\(100.0 kB free\)"):
        fetch_dandiset("20", tmp_path, api=archive.api)
    assert len(fetch_dandiset("20", tmp_path, limit=3, api=archive.api).downloaded) == 3
    assert len(fetch_dandiset("20", tmp_path, api=archive.api).downloaded) == 2, "existing files need no space"


def test_names_of_dandisets():
    assert [dandiset_number(name) for name in ("mouse", "Human", "20", "DANDI:000020")] == [
        "000020",
        "000636",
        "000020",
        "000020",
    ]


# Tables of labels.


def test_a_table_is_copied_beside_the_manifest(archive, tmp_path):
    text = b"cell_specimen_id,ephys_session_id\n1,31\n"
    (tmp_path / "labels.csv").write_bytes(text)
    archive.pages = {"/raw/mouse%20table.csv": text, "/blob/labels.csv": b"\n<!DOCTYPE html>"}
    out = tmp_path / "out"
    fetch_dandiset("20", out, limit=1, api=archive.api, metadata=tmp_path / "labels.csv")
    summary = fetch_dandiset("20", out, limit=1, api=archive.api, metadata=f"{archive.root}/raw/mouse%20table.csv")
    assert [entry["file"] for entry in summary.manifest.tables] == ["labels.csv", "mouse table.csv"]
    for entry in summary.manifest.tables:
        assert (out / entry["file"]).read_bytes() == text and entry["sha256"] == hashlib.sha256(text).hexdigest()
    for wrong, sentence in ((f"{archive.root}/blob/labels.csv", "no table"), (tmp_path / "absent.csv", "No such file")):
        with pytest.raises(DownloadError, match=sentence):
            fetch_dandiset("20", out, limit=1, api=archive.api, metadata=wrong)


# Progress.


def test_plain_lines_where_there_is_no_terminal(archive, tmp_path, capsys):
    archive.missing = {ONE}
    fetch_dandiset("20", tmp_path, api=archive.api)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "files: 0 of 5, 0 failed, 0 bytes of 150.0 kB",
        f"{ONE}: the server answers 404 Not Found",
        "files: 5 of 5, 1 failed, 120.0 kB of 150.0 kB",
    ]


def test_a_bar_of_bytes_on_a_terminal(archive, tmp_path, monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda **_: Console(file=screen, force_terminal=True, width=100))
    fetch_dandiset("20", tmp_path, api=archive.api)
    assert "files: 5 of 5, 0 failed, 150.0 kB of 150.0 kB" in screen.getvalue()


# Reading by ranges.


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """20 MB: 49 voltage-clamp sweeps, and one current-clamp sweep among them."""
    path = tmp_path_factory.mktemp("nwb") / "recording.nwb"
    with h5py.File(path, "w") as file:
        for number in range(50):
            group = file.create_group(f"acquisition/data_{number:05d}_AD0")
            group.attrs["neurodata_type"] = "CurrentClampSeries" if number == 20 else "VoltageClampSeries"
            group["data"] = np.random.default_rng(number).normal(size=100_000).astype(np.float32)
    return path.read_bytes()


def test_one_sweep_costs_a_fraction_of_the_file(recording):
    assert len(recording) > 20e6
    with Archive({ONE: recording}) as archive:
        with open_remote(archive.url(ONE)) as remote, h5py.File(remote, "r") as file:
            sweep = np.asarray(file["acquisition/data_00020_AD0/data"])
        np.testing.assert_array_equal(sweep, np.random.default_rng(20).normal(size=100_000).astype(np.float32))
        assert archive.sent[ONE] < 0.05 * len(recording)
        assert len(archive.ranges) < 12, "neighbouring blocks come in one request"


def test_a_remote_file_reads_as_the_local_one(recording):
    body, draws = recording[:100_001], np.random.default_rng(0)
    with Archive({ONE: body}) as archive, open_remote(archive.url(ONE), block_size=1000) as remote:
        for start, count in zip(draws.integers(0, 100_001, 60), draws.integers(0, 5_000, 60), strict=True):
            remote.seek(start)
            assert remote.read(count) == body[start : start + count] and remote.tell() == min(start + count, len(body))
        assert remote.seek(-5, io.SEEK_END) == len(body) - 5 and remote.read() == body[-5:] and remote.read(1) == b""
        requests_before = len(archive.ranges)
        remote.seek(0)
        assert remote.read() == body
        known = len(archive.ranges)
        remote.seek(0)
        assert remote.read() == body and len(archive.ranges) == known > requests_before


def test_a_remote_file_repeats_requests_after_a_busy_server_and_a_broken_answer(recording):
    body = recording[:50_000]
    with Archive({ONE: body}) as archive:
        archive.busy[ONE], archive.broken[ONE] = 1, 1
        with open_remote(archive.url(ONE)) as remote:
            assert remote.read() == body


def test_blocks_that_did_not_arrive_are_requested_again():
    body = content(1, 50_000)
    with Archive({ONE: body}) as archive, open_remote(archive.url(ONE), block_size=1000) as remote:
        archive.missing = {ONE}
        with pytest.raises(OSError, match="404"):
            remote.read(5000)
        archive.missing = set()
        remote.seek(0)
        assert remote.read() == body


def test_a_remote_file_that_cannot_be_read_in_parts_is_refused(archive):
    archive.takes_ranges = False
    with pytest.raises(OSError, match="does not support range requests: download the file instead"):
        open_remote(archive.url(ONE))
    archive.takes_ranges, archive.missing = True, {ONE}
    with pytest.raises(OSError, match="404"):
        open_remote(archive.url(ONE))


def test_a_recording_in_the_archive_is_extracted_without_a_download(tmp_path):
    """The same numbers as from the file; a lost connection is an error, so that the cell is tried again and not dropped."""
    pytest.importorskip("ipfx", reason="recordings are extracted with IPFX")
    from data_prep.patchseq.collect import RecordingFile, extract_recording
    from data_prep.patchseq.families import Layout

    local = toy.write_nwb(tmp_path / "sub-3_ses-31_icephys.nwb", toy.sweeps()[:8])
    how = {"preset": "ipfx", "layout": Layout(), "reader": "h5py"}
    with Archive({ONE: local.read_bytes()}) as archive:
        (asset,) = query_archive("mouse", api=archive.api).assets
        remote, facts = extract_recording(RecordingFile(asset.path, asset=asset), **how)
    with pytest.raises(OSError):
        extract_recording(RecordingFile(asset.path, asset=asset), **how)
    here, same = extract_recording(RecordingFile("x", str(local)), **how)
    for name in here:
        np.testing.assert_array_equal(remote[name], here[name])
    assert (facts["cell"], facts["donor"]) == ("31", same["donor"])
