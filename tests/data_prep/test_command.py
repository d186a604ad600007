"""The command line: the commands of the documentation from nothing to a table, and one sentence for each mistake."""

import re
import shlex
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("ipfx", reason="the commands need the prep extra")

from data_prep.__main__ import main
from data_prep.patchseq.collect import build_table
from data_prep.patchseq.drop_reasons import read_qc
from data_prep.patchseq.nwb import read_recording
from data_prep.patchseq.table import save_table
from data_prep.patchseq.tfds_dataset import read_dataset, register_dataset
from jaxephys.cli import main as run_jaxephys
from jaxephys.schemas.feature_table import FeatureTable
from jaxephys.schemas.storage import TableError
from tests.data_prep import toy
from tests.experiments.command import ROOT

PAGE = (ROOT / "docs" / "data_preparation.md").read_text()
BLOCK = next(
    block for block in re.findall(r"^```\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE) if "simulate nwb" in block
)
CHAIN = [line.split("#")[0].removeprefix("python -m data_prep ").strip() for line in BLOCK.splitlines()]
SMALLER = {"--mouse 60": "--mouse 3", "--human 30": "--human 2 --sweep-table"}  # the table is for IPFX's reader


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The commands of the documentation, in their order, on five cells."""
    here = tmp_path_factory.mktemp("chain")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        for line in CHAIN:
            for size, small in SMALLER.items():
                line = line.replace(size, small)
            assert main(shlex.split(line)) == 0, line
    return here


def run(capsys, *words) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main([str(word) for word in words])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_the_documentation_holds_the_four_commands():
    assert [line.split()[1] for line in CHAIN] == ["simulate", "extract", "table", "check"]


def test_documented_commands_produce_a_table(folder):
    table = FeatureTable.read(folder / "table")
    assert len(table) == 5 and set(table.species) == {"mouse", "human"} and len(table.families) == 14
    assert set(np.unique(table.label)) <= {"Lamp5", "Pvalb", "Sst", "Vip"}, "human cells have no Sncg"
    assert table.observed.mean() > 0.9


def test_nothing_is_done_twice_and_the_next_command_is_printed(folder, capsys):
    before = {path: path.stat().st_mtime_ns for path in (folder / "extracted/cells").iterdir()}
    code, out, _ = run(capsys, "patchseq", "extract", folder / "nwb", folder / "extracted")
    assert code == 0 and "next: python -m data_prep patchseq table" in out
    assert {path: path.stat().st_mtime_ns for path in (folder / "extracted/cells").iterdir()} == before


@pytest.mark.parametrize("reader", ["pynwb", "ipfx"])
def test_other_readers_read_the_same_sweeps(folder, reader):
    path = next((folder / "nwb").rglob("*.nwb"))
    ours, theirs = read_recording(path), read_recording(path, reader=reader)
    assert (ours.cell, ours.donor, ours.species) == (theirs.cell, theirs.donor, theirs.species)
    assert theirs.source["reader"] == reader and len(ours.sweeps) == len(theirs.sweeps) > 15
    for left, right in zip(ours.sweeps, theirs.sweeps, strict=True):
        assert (left.number, left.protocol, left.rate) == (right.number, right.protocol, right.rate)
        np.testing.assert_allclose(left.voltage, right.voltage, rtol=1e-9)
        np.testing.assert_allclose(left.current, right.current, atol=1e-6)


def test_tfds_data_set_is_registered_and_read_back_as_a_table(folder, capsys, tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets", reason="records need the tfds extra")
    table = FeatureTable.read(folder / "table")
    register_dataset()
    assert "patchseq" in tfds.list_builders(with_community_datasets=False)
    options = {"split": "cells", "data_dir": str(tmp_path)}
    assert len(tfds.data_source("patchseq", **options, builder_kwargs={"table": folder / "table"})) == len(table)
    assert len(tfds.data_source("patchseq", **options)) == len(table), "built once, read without the table"
    again = read_dataset(tmp_path / "patchseq" / "1.0.0")
    assert again.sha256 == table.sha256 and again.features == table.features
    assert again.provenance == table.provenance
    with pytest.raises(TableError, match="holds another table"):
        tfds.builder("patchseq", data_dir=str(tmp_path), table=table.rows(np.arange(2)))
    with pytest.raises(TableError, match="give the table to build it from"):
        tfds.builder("patchseq", data_dir=str(tmp_path / "none"))
    metadata = tmp_path / "patchseq" / "1.0.0" / "metadata.json"
    metadata.write_text(metadata.read_text().replace(table.sha256, "0" * 64))
    with pytest.raises(TableError, match="differ from the table that was written"):
        read_dataset(tmp_path / "patchseq" / "1.0.0")
    with pytest.raises(TableError, match="is no data set of"):
        read_dataset(tmp_path)


def test_documented_training_from_tfds_runs(folder, tmp_path, monkeypatch):
    pytest.importorskip("tensorflow_datasets", reason="records need the tfds extra")
    monkeypatch.chdir(tmp_path)
    cells = FeatureTable.read(folder / "table")
    rows = np.arange(30) % len(cells)
    values = cells.values[rows] + np.random.default_rng(0).normal(size=(30, 1)).astype(np.float32)
    families = {name: list(cells.features[columns]) for name, columns in cells.columns.items()}
    many = FeatureTable.from_arrays(values, families, np.array(["Sst", "Vip"])[rows % 2])
    many.write(tmp_path / "table")
    (code,) = [code for code in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL) if "register_dataset" in code]
    names: dict = {}
    exec(code.replace("max_epochs=50", "max_epochs=2, hidden=4, token=4").replace("seeds=10", "seeds=1"), names)
    assert names["model"].classes_.tolist() == ["Sst", "Vip"] and names["model"].families_ == cells.families


def run_components(capsys, *words) -> tuple[int, str, str]:
    capsys.readouterr()
    code = run_jaxephys(["components", *map(str, words)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_components_are_fitted_on_the_listed_cells(folder, capsys, tmp_path):
    save_table(*build_table([folder / "extracted"], features="old"), tmp_path)
    table = FeatureTable.read(tmp_path)
    (tmp_path / "train.txt").write_text("\n".join(table.cell[:4]))
    words = (tmp_path, tmp_path / "spca", "--train", tmp_path / "train.txt")
    code, out, _ = run_components(capsys, *words)
    made = FeatureTable.read(tmp_path / "spca")
    assert code == 0 and "from 4 cells" in out and list(made.cell) == list(table.cell) and len(made) == 5
    assert made.provenance["fitted_on"] == list(table.cell[:4]) and len(made.features) >= 5


COMPONENT_MISTAKES = {
    "too few training cells": (("good", "out"), "7 components requested from 5 rows"),
    "no training cells": (("good", "out", "--train", "none.txt"), "none.txt cannot be read"),
    "unknown training cells": (("good", "out", "--train", "ids.txt"), "ids.txt names zz"),
}


@pytest.mark.parametrize("mistake", COMPONENT_MISTAKES)
def test_mistake_in_components_prints_one_sentence(folder, capsys, tmp_path, monkeypatch, mistake):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good").symlink_to(folder / "table")
    (tmp_path / "ids.txt").write_text("zz")
    words, hint = COMPONENT_MISTAKES[mistake]
    code, _, err = run_components(capsys, *words)
    assert code == 2 and hint in err and err.count("\n") == 1


def test_tfds_data_set_equals_the_table(folder, capsys, tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets", reason="records need the tfds extra")
    assert run(capsys, "patchseq", "tfds", folder / "table", tmp_path)[0] == 0
    table = FeatureTable.read(folder / "table")
    source = tfds.builder_from_directory(str(tmp_path / "patchseq" / "1.0.0")).as_data_source()["cells"]
    assert len(source) == len(table)
    for example in source:
        row = list(table.cell).index(example["cell"].decode())
        values = np.concatenate([example[family] for family in table.families])
        observed = np.concatenate([example[f"{family}_observed"] for family in table.families])
        np.testing.assert_array_equal(values, table.values[row])
        np.testing.assert_array_equal(observed, table.observed[row])
        assert example["about_label"].decode() == table.about["label"][row]
    assert run(capsys, "patchseq", "tfds", folder / "table", tmp_path)[0] == 2, "it is not overwritten"


def test_table_from_csv(capsys, tmp_path):
    (tmp_path / "cells.csv").write_text(
        "cell_id,species,subclass4,subclass5,donor,vrest,ri,tau,threshold_i_long_square\n"
        "7,mouse,Vip,Sncg,d,-70,150,12,50\n8,mouse,Sst,Sst,d,-71,,13,60\n9,mouse,Sst,Sst,d,,,,\n10,mouse,Sst,Sst,e,-71,99,13,60\n"
    )
    code, out, _ = run(capsys, "patchseq", "table", tmp_path / "t", "--csv", tmp_path / "cells.csv")
    assert code == 0 and "3 cells" in out and "no value" in out
    table = FeatureTable.read(tmp_path / "t")
    assert list(table.label) == ["Sncg", "Sst", "Sst"] and np.isnan(table.values).sum() == 1
    words = ("patchseq", "table", tmp_path / "most", "--csv", tmp_path / "cells.csv", "--min-observed", 0.8)
    code, out, _ = run(capsys, *words)
    table = FeatureTable.read(tmp_path / "most")
    assert code == 0 and "too many missing values" in out and table.provenance["min_observed"] == 0.8
    assert list(table.cell) == ["7", "10"] and list(table.label) == ["Sncg", "Sst"]
    reasons = {cell: (row.reason, row.detail) for cell, row in read_qc(tmp_path / "most/qc.csv")}
    assert reasons["8"] == ("too many missing values", "75.0 % of the features measured")
    assert reasons["9"][0] == "no value"


def test_reasons_are_explained(capsys):
    code, out, _ = run(capsys, "patchseq", "reasons")
    assert code == 0 and "step of another length" in out


@pytest.mark.parametrize("command", ["patchseq reasons", "units list", "spikes --help", "--help"])
def test_a_reader_that_ends_early_gives_no_traceback(command):
    script = f"{shlex.quote(sys.executable)} -u -m data_prep {command} | true; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.stderr == "" and ended.returncode in (0, 141)


def test_list_of_systems_and_unknown_system(capsys):
    assert run(capsys)[0] == 0
    code, out, _ = run(capsys, "patchclamp")
    assert code == 2 and "there is no 'patchclamp'" in out


def test_version_of_a_dandiset_can_be_chosen(tmp_path, monkeypatch, capsys):
    requested = []

    def fetch_dandiset(dandiset, folder, **options):
        requested.append((dandiset, options.get("version")))
        return SimpleNamespace(failed={})

    monkeypatch.setattr("data_prep.dandi_archive.fetch_dandiset", fetch_dandiset)
    assert run(capsys, "patchseq", "fetch", tmp_path, "--dandiset", "human")[0] == 0
    assert run(capsys, "patchseq", "fetch", tmp_path, "--dandiset", "20", "--version", "latest")[0] == 0
    assert run(capsys, "units", "fetch", tmp_path, "watson", "--version", "0.1.2")[0] == 0
    assert requested == [("human", None), ("20", "latest"), ("000041", "0.1.2")]


MISTAKES = {
    "no recordings": (("extract", "nowhere", "out"), "there is no .nwb file in nowhere"),
    "no source": (("table", "out"), "no source given: give one of --from, --csv"),
    "two sources": (("table", "out", "--from", "x", "--csv", "y"), "--from and --csv given: give one of"),
    "not extracted": (("table", "out", "--from", "."), "holds no finished extraction"),
    "no csv": (("table", "out", "--csv", "cells.csv"), "cells.csv cannot be read"),
    "no table": (("check", "nowhere"), "there is no table nowhere"),
    "components": (("spca", "good", "out"), "python -m jaxephys components good out"),
    "share of measured features": (
        ("table", "out", "--from", "extracted", "--min-observed", "1.5"),
        "a smallest share of 1.5 is not possible",
    ),
    "no workers": (("extract", "one.nwb", "out", "--workers", "0"), "workers=0"),
    "no dandiset": (("fetch", "out", "--dandiset", "mice"), "mice"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_prints_one_sentence(folder, capsys, tmp_path, monkeypatch, mistake):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good").symlink_to(folder / "table")
    (tmp_path / "extracted").symlink_to(folder / "extracted")
    toy.write_nwb(tmp_path / "one.nwb", [])
    words, hint = MISTAKES[mistake]
    code, _, err = run(capsys, "patchseq", *words)
    assert code == 2 and hint in err and err.count("\n") == 1
