"""Units: checks find inserted problems, the registry holds out siblings, simulated units have true values, commands work together."""

import json
import socketserver
import threading
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from http.server import SimpleHTTPRequestHandler

import numpy as np
import pytest

from data_prep.__main__ import main
from data_prep.units.check import check_units
from data_prep.units.fetch import fetch_dataset, instruction
from data_prep.units.registry import DATASETS, annotate_units, find_dataset, held_out
from data_prep.units.simulate import CELL_CLASSES, PASS_BANDS, simulate_units
from jaxephys.schemas.storage import DataError
from jaxephys.schemas.unit_features import N_LAGS, TROUGH_SAMPLE
from jaxephys.schemas.unit_table import MODALITIES, TECHNOLOGIES, UnitTable


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Print nothing."""


@pytest.fixture(scope="module")
def simulated():
    return simulate_units(90, 15, seed=3)


# Check.


def changed(units, **changes):
    return replace(
        units, raw={**units.raw, **{name: change(units.raw[name].copy()) for name, change in changes.items()}}
    )


def put(row, values):
    def change(rows):
        rows[row] = values(rows) if callable(values) else values
        return rows

    return change


INSERTED = {
    "index column": {"isi": lambda rows: np.column_stack([np.arange(len(rows)), rows])},
    "zero rows": {"wave": put(7, 0)},
    "constant rows": {"wave": put(7, 3)},
    "missing rows": {"acg": put(7, np.nan)},
    "empty units": {name: put(7, np.nan) for name in MODALITIES},
    "repeated rows": {"isi": put(7, lambda rows: rows[2])},
    "misaligned": {"wave": lambda rows: np.stack([np.roll(row, 3 * (i % 5)) for i, row in enumerate(rows)])},
    "damaged rows": {"wave": put(7, lambda rows: np.where(rows[7] < np.median(rows[7]) - 20, rows[7], 0))},
    "mixed scales": {"isi": put(slice(0, 30), lambda rows: rows[:30] / rows[:30].sum(axis=1, keepdims=True))},
}


@pytest.mark.parametrize("kind", INSERTED)
def test_inserted_problem_is_found(simulated, kind):
    assert kind not in {finding.kind for finding in check_units(simulated).findings}
    found = {finding.kind: finding for finding in check_units(changed(simulated, **INSERTED[kind])).findings}
    assert kind in found
    if kind not in ("index column", "misaligned", "mixed scales"):
        assert list(found[kind].units) == ["unit 7"], "and no other unit is named"


def test_simulated_units_have_nothing_wrong(simulated):
    assert {finding.kind for finding in check_units(simulated).findings} <= {"few groups"}


def test_copies_in_other_folds_and_groups_are_named(simulated):
    folds = {**simulated.about, "fold": np.array([str(i % 5) for i in range(90)])}
    copied = replace(changed(simulated, isi=put(7, lambda rows: rows[2])), about=folds)
    text = next(finding.text for finding in check_units(copied).findings if finding.kind == "repeated rows")
    assert "isi: 1 rows repeat" in text and "nothing across" not in text and "across subjects" in text
    assert "across folds" not in text, "units 2 and 7 are of one fold of five"


def test_scales_and_small_classes(simulated):
    facts = check_units(simulated).facts
    assert facts["scale"] == {"isi": "counts", "acg": "counts"} and facts["groups"] == {"subject": 15, "session": 15}
    density = changed(simulated, isi=lambda rows: rows / rows.sum(axis=1, keepdims=True))
    assert check_units(density).facts["scale"]["isi"] == "density"
    assert "mixed scales" in {finding.kind for finding in check_units(density).findings}, "the other is still counts"
    few = {**simulated.about, "label": np.array(["rare"] * 3 + simulated.label[3:].tolist())}
    found = [
        finding for finding in check_units(replace(simulated, about=few)).findings if finding.kind == "small class"
    ]
    assert list(found[0].units) == ["unit 0", "unit 1", "unit 2"]


def test_a_report_is_text_and_json(simulated):
    found = check_units(changed(simulated, wave=put(7, 0)))
    assert json.loads(json.dumps(found.json()))["findings"][0]["units"] == ["unit 7"]
    assert any("rows hold only zeros: unit 7" in line for line in found.lines())


# Registry.


def test_the_eleven_data_sets():
    assert len(DATASETS) == 11 == len({dataset.name for dataset in DATASETS})
    names = [name for dataset in DATASETS for name in dataset.names]
    assert len(names) == len(set(names)), "a name means one data set"
    for dataset in DATASETS:
        assert dataset.technology in TECHNOLOGIES and sum(dataset.classes.values()) <= dataset.units
        for sibling in dataset.siblings:
            assert dataset.name in find_dataset(sibling).siblings, "siblings name each other"


def test_spelling_of_data_set_names_does_not_matter():
    assert find_dataset("Juxtacellular-Mouse-S1-Area") is find_dataset("s1")
    assert find_dataset("DANDI_000041_cell_type").name == "watson"
    with pytest.raises(DataError, match="no data set 'justacellular_mouse_s1_area': did you mean s1"):
        find_dataset("justacellular_mouse_s1_area")
    with pytest.raises(DataError, match="did you mean hausser or hull"):
        find_dataset("zzz")


def test_siblings_of_a_held_out_data_set_are_held_out():
    assert held_out(["cellexplorer_area"]) == {"cellexplorer", "allen"} and held_out(["hull"]) == {"hull"}


def test_differences_from_the_published_table_are_reported(simulated):
    named = annotate_units(simulated, find_dataset("hull"))
    assert set(named.column("species")) == {"simulated"}, "the species of the file is kept"
    text = next(finding.text for finding in check_units(named).findings if finding.kind == "unexpected")
    assert "90 units, 103 expected" in text and "class GoC: 0 units, 2 expected" in text


def test_every_data_set_can_be_fetched_or_has_steps(capsys, tmp_path):
    by_hand = {dataset.name for dataset in DATASETS if dataset.download}
    assert by_hand == {"hausser", "hull", "lisberger"}
    for dataset in DATASETS:
        ways = (bool(dataset.dandisets), bool(dataset.urls), bool(dataset.download), dataset.name == "ibl")
        assert sum(ways) == 1, dataset.name
        steps = instruction(dataset)
        assert steps[-1].startswith(f"python -m data_prep units build TABLE --{dataset.reader} FILES")
        assert steps[-1].endswith(f"--name {dataset.name}")
        assert all(url.startswith("https://") for url in dataset.urls.values())
    code, out, _ = run(capsys, "fetch", tmp_path, "lisberger")
    assert code == 2 and f"store C4_database_lisberger.h5 in {tmp_path}" in out


def test_each_dandiset_has_its_folder(tmp_path, monkeypatch):
    requested = []
    monkeypatch.setattr("data_prep.cli.fetch_recordings", lambda *words, **options: requested.append((*words, options)))
    fetch_dataset(find_dataset("allen"), tmp_path, limit=2, match=None, jobs=1, version=None)
    fetch_dataset(find_dataset("watson"), tmp_path, match="sub-1*", jobs=1, version="draft")
    assert [(number, folder) for number, folder, _ in requested] == [
        *((number, tmp_path / number) for number in ("000021", "000022")),
        ("000041", tmp_path),
    ]
    assert requested[0][2] == {"limit": 2, "match": "*_ses-?????????.nwb", "jobs": 1, "version": None}
    pattern = requested[0][2]["match"]
    assert fnmatchcase("sub-699733573/sub-699733573_ses-715093703.nwb", pattern)
    assert not fnmatchcase("sub-699733573/sub-699733573_ses-715093703_probe-810755797_ecephys.nwb", pattern)
    assert requested[2][2] == {"limit": None, "match": "sub-1*", "jobs": 1, "version": "draft"}


def test_files_of_the_release_are_fetched_and_built(tmp_path, monkeypatch, capsys):
    rows = {"waveforms": "1,2\n-3,1\n0,1\n", "isi_dist": "0,1\n1,2\n3,4\n", "labels": "label\nE  4.0\nSOMnan\n"}
    folder = tmp_path / "served"
    folder.mkdir()
    for name, text in rows.items():
        (folder / f"{name}.csv").write_text(text)
    with socketserver.TCPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_address[1]}"
        s1 = find_dataset("s1")
        assert set(s1.urls) == {f"{name}.csv" for name in rows}
        local = replace(s1, urls={name: f"{base}/{name}" for name in s1.urls})
        monkeypatch.setattr("data_prep.units.cli.find_dataset", lambda name: local)
        code, out, _ = run(capsys, "fetch", tmp_path / "files", "s1")
        assert code == 0 and "3 files downloaded" in out
        words = (
            out.splitlines()[-1].removeprefix("next: python -m data_prep units ").replace("TABLE", str(tmp_path / "t"))
        )
        assert run(capsys, *words.split())[0] == 0
        assert UnitTable.read(tmp_path / "t").label.tolist() == ["E_L4", "SOM"]
        broken = replace(s1, urls={"acg.csv": f"{base}/acg.csv"})
        with pytest.raises(DataError, match=r"s1 was not fetched: acg.csv: the server answers 404"):
            fetch_dataset(broken, tmp_path / "files")
        server.shutdown()


def test_regions_are_the_labels_of_data_sets_by_region(simulated):
    regions = np.array(["VISp", "CA1", "nowhere"])[np.arange(len(simulated)) % 3]
    units = replace(simulated, about={"region": regions, "label": np.full(len(simulated), "")})
    assert annotate_units(units, find_dataset("allen")).label[:3].tolist() == ["VISp", "CA1", ""]
    assert annotate_units(units, find_dataset("watson")).label[:3].tolist() == ["", "", ""]
    units = replace(units, about={**units.about, "region": np.full(len(units), "isocortex")})
    assert set(annotate_units(units, find_dataset("ibl")).label) == {"Isocortex"}


# Simulated units.


def test_simulated_unit_does_not_depend_on_the_number_of_units(simulated):
    fewer = simulate_units(30, 15, seed=3)
    for name in MODALITIES:
        np.testing.assert_array_equal(fewer.raw[name], simulated.raw[name][:30])
    assert not np.array_equal(simulate_units(30, 15, seed=4).raw["isi"], fewer.raw["isi"])
    with pytest.raises(DataError, match="2 units of 3 subjects"):
        simulate_units(2, 3)


def test_intervals_keep_the_refractory_time_and_rates_differ(simulated):
    parameter = dict(zip(simulated.provenance["parameters"], simulated.truth["parameter"].T, strict=True))
    for row, refractory in zip(simulated.raw["isi"], parameter["refractory"], strict=True):
        assert not row[: int(refractory)].any() and row.any()
    labels, isi, acg = simulated.label, simulated.raw["isi"], simulated.raw["acg"]
    counts = {label: np.median(acg[labels == label].sum(axis=1)) for label in CELL_CLASSES}
    assert counts["pacemaker"] > counts["fast"] > counts["regular"] > counts["sparse"]
    bursts = isi[:, :15].sum(axis=1) / isi.sum(axis=1)
    assert np.median(bursts[labels == "bursting"]) > 2 * np.median(bursts[labels == "regular"])
    np.testing.assert_array_equal(acg, acg[:, ::-1])
    assert acg[:, N_LAGS].sum() == 0


def test_true_waveforms_are_those_under_each_technology(simulated):
    under, names = simulated.truth["waveform_under"], simulated.provenance["technologies"]
    assert names == list(PASS_BANDS) and under.shape == (90, 3, 50)
    recorded = np.array([names.index(name) for name in simulated.column("technology")])
    assert sorted(np.bincount(recorded)) == [30, 30, 30]
    noise = simulated.raw["wave"] - under[np.arange(90), recorded]
    assert 1.2 < noise.std() < 1.8
    other = simulated.raw["wave"] - under[np.arange(90), (recorded + 1) % 3]
    assert np.median(other.std(axis=1)) > 2 * noise.std(), "technologies differ"
    assert np.all(np.argmin(under, axis=2) == TROUGH_SAMPLE)


def test_classes_can_be_predicted_in_other_subjects(simulated):
    rows = np.column_stack([row / np.linalg.norm(row, axis=1, keepdims=True) for row in simulated.raw.values()])
    labels, subjects = simulated.label, simulated.column("subject")
    train = np.isin(subjects, [f"subject {i}" for i in range(9)])
    centers = {label: rows[train & (labels == label)].mean(axis=0) for label in CELL_CLASSES}
    distance = np.stack([np.linalg.norm(rows[~train] - center, axis=1) for center in centers.values()])
    right = np.array(list(centers))[distance.argmin(axis=0)] == labels[~train]
    assert 0.6 < right.mean() < 1.0, "neither hopeless nor trivial"


# Commands.


def run(capsys, *arguments) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main([str(argument) for argument in ("units", *arguments)])
    output = capsys.readouterr()
    return code, output.out, output.err


def test_simulate_then_check(tmp_path, capsys):
    code, out, _ = run(capsys, "simulate", tmp_path / "t", "--units", 12, "--subjects", 3)
    assert code == 0 and f"next: python -m data_prep units check {tmp_path / 't'}" in out and "12 units" in out
    assert len(UnitTable.read(tmp_path / "t")) == 12
    code, out, _ = run(capsys, "check", tmp_path / "t", "--json", tmp_path / "report.json")
    assert code == 0 and "technology     neuropixels 4, silicon_probe 4, juxtacellular 4" in out
    assert json.loads((tmp_path / "report.json").read_text())["facts"]["units"] == 12


def test_build_fills_in_the_facts_of_the_registry(tmp_path, capsys):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "isi_dist.csv").write_text("Unnamed: 0,0,1,2\n" + "".join(f"{i},{i % 3},4,{i}\n" for i in range(6)))
    (folder / "labels.csv").write_text("label\n" + "SOMnan\nE  4.0\nFS 5.0\n" * 2)
    arguments = ("build", tmp_path / "t", "--csv", folder, "--name", "s1")
    code, out, _ = run(capsys, *arguments)
    assert code == 0 and "'Unnamed: 0' is a row index and was dropped" in out and "next: " in out
    units = UnitTable.read(tmp_path / "t")
    assert units.label[:3].tolist() == ["SOM", "E_L4", "FS_L5"] and units.technology_codes.tolist() == [2] * 6
    assert units.raw["isi"].shape == (6, 3) and units.provenance["dataset"] == "s1"
    before = units.sha256
    assert run(capsys, *arguments)[0] == 0 and UnitTable.read(tmp_path / "t").sha256 == before
    assert "not the published s1: 6 units, 224 expected" in run(capsys, "check", tmp_path / "t")[1]


MISTAKES = {
    ("build", "t"): "no source given: give one of --csv",
    ("build", "t", "--csv", "a", "--npz", "b"): "--csv and --npz given",
    ("build", "t", "--csv", "none"): "there is no folder none",
    ("build", "t", "--npz", "none"): "there is no file none",
    ("build", "t", "--csv", "a", "--name", "hul"): "no data set 'hul': did you mean hull",
    ("check", "none"): "there are no units in none",
    ("fetch", "t", "hull"): "hull cannot be fetched by a program: follow the steps above",
    ("fetch", "t", "a1", "--limit", "2", "--version", "latest"): "a1 does not take --limit, --version",
    ("fetch", "t", "ibl", "--match", "x"): "ibl does not take --match",
    ("simulate", "t", "--units", "0"): "0 units of 6 subjects",
}


@pytest.mark.parametrize("arguments", MISTAKES, ids=" ".join)
def test_each_mistake_gives_one_sentence(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, *arguments)
    assert code == 2 and MISTAKES[arguments] in err and err.count("\n") == 1


def test_list_shows_where_to_get_the_data_sets(capsys):
    code, out, _ = run(capsys, "list")
    assert code == 0 and all(f"\n{dataset.name}\n" in f"\n{out}" for dataset in DATASETS)
    assert "units fetch FILES watson" in out
    assert "store C4_database_lisberger.h5 in FILES" in out
    assert "build TABLE --h5 FILES/C4_database_lisberger.h5 --name lisberger" in out
