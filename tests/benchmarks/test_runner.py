"""Benchmarks are listed, measured in processes of their own, stored and summarized."""

import importlib
import importlib.util

import pytest

from benchmarks import runner
from benchmarks.__main__ import list_benchmarks, main


def test_list_names_the_benchmarks(capsys):
    main([])
    printed = capsys.readouterr().out
    for name in ("accelerator", "compiled", "scaling", "ablation", "extraction", "spikes_attention"):
        assert name in list_benchmarks() and name in printed


def test_report_summarizes_the_stored_measurements(capsys):
    main(["report", "ablation", "extraction", "spikes_attention"])
    printed = capsys.readouterr().out
    assert "with compilation" in printed and "torch fused" in printed and "MiB per worker" in printed
    with pytest.raises(SystemExit):
        main(["report", "nothing"])


def test_rows_survive_a_round_trip(tmp_path):
    rows = [{"what": "torch", "runs": 3, "seconds": 0.5}, {"what": "ours", "runs": 3, "seconds": 1 / 3}]
    runner.write_rows(rows, tmp_path / "results" / "rows.csv")
    assert runner.read_rows(tmp_path / "results" / "rows.csv") == rows
    assert runner.select(rows, what="ours", runs=3) == rows[1:]


def test_every_case_is_measured_in_every_round(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runner, "run_worker", lambda module, case: {"seconds": case["runs"], "batch": case["batch"]})
    cases = [{"what": "a", "runs": 2}, {"what": "b", "runs": 4}]
    rows = runner.measure_rounds(
        "module",
        cases,
        2,
        tmp_path / "rows.csv",
        fixed={"batch": 8},
        describe=lambda row: row["what"],
        extend=lambda row: {"rate": row["runs"] / row["seconds"]},
    )
    assert [(row["what"], row["round"]) for row in rows] == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert {row["batch"] for row in rows} == {8} and {row["rate"] for row in rows} == {1.0}
    assert runner.read_rows(tmp_path / "rows.csv") == rows
    assert "round 2: b" in capsys.readouterr().out


def test_cases_of_pytorch_are_left_out_without_it(monkeypatch, capsys):
    cases = [{"what": "torch fused"}, {"what": "jaxephys"}]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert runner.without_missing_pytorch(cases) == cases[1:]
    assert 'pip install "jaxephys[bench]" adds the comparison' in capsys.readouterr().out
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert runner.without_missing_pytorch(cases) == cases


def test_failed_measurement_is_reported_in_one_sentence():
    with pytest.raises(SystemExit, match="error: the measurement of x failed: .*no_such_module"):
        runner.run_worker("no_such_module", {"what": "x"})
