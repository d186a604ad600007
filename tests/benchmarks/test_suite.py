"""The suite compiles its cases together, times them in turn, stores what they give and writes it into a document."""

import pytest

from benchmarks import accelerator, cases, hlo, report, scaling
from benchmarks.runner import read_rows

WORKER = """
import json, sys
case = json.loads(sys.argv[1])
if case["kind"] == "broken":
    sys.exit("no such kind")
print(json.dumps({"device": "cpu", "precision": "float32", "compile_s": 1.5, "gib_step": 2.0, "gflop_step": 3.0}), flush=True)
for _ in sys.stdin:
    print("a line of a library")
    print(json.dumps({"copy_gb_s": 100.0, "float32_tflop_s": 1.0} if case["kind"] == "ceilings" else {"ms_step": 60.0}), flush=True)
"""


@pytest.fixture
def quick_worker(tmp_path, monkeypatch):
    """Workers that neither compile nor compute."""
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "__init__.py").touch()
    (tmp_path / "benchmarks" / "worker.py").write_text(WORKER)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_cases_are_compiled_together_and_measured_in_turn(quick_worker, capsys):
    some = {
        "ceilings": {"kind": "ceilings", "small": True},
        "broken": {"kind": "broken", "small": True},
        "patchseq-2": {"kind": "train", "system": "patchseq", "runs": 2, "small": True},
    }
    path = quick_worker / "results.csv"
    accelerator.run_cases(some, path, deadline=60, rounds=2, processes=2)
    rows = read_rows(path)
    assert [row["case"] for row in rows] == ["broken", "ceilings", "patchseq-2", "ceilings", "patchseq-2"]
    assert rows[0]["status"] == "failed: no such kind"
    measured = rows[2]
    assert measured["ms_step"] == 60 and measured["width"] == cases.SMALL_SIZES["patchseq"]["width"]
    assert measured["bandwidth"] == pytest.approx(2 * 2**30 / 100e9 / 0.06, rel=1e-3)
    assert measured["arithmetic"] == pytest.approx(3e9 / 1e12 / 0.06)
    assert "compiled after" in capsys.readouterr().out


def test_cases_that_are_late_are_noted(quick_worker):
    path = quick_worker / "results.csv"
    accelerator.run_cases({"patchseq-1": {"kind": "train", "system": "patchseq", "small": True}}, path, 0, 1, 1)
    assert read_rows(path)[0]["status"].startswith("late")


def test_cpu_has_no_cuda_graphs_and_small_sizes():
    adapted = accelerator.adapt(accelerator.make_cases(), on_cpu=True, small=True)
    assert not any(case.get("mode") == "graph" for case in adapted.values())
    assert {case.get("precision", "float32") for case in adapted.values()} == {"float32"}
    assert max(case.get("runs", 1) for case in adapted.values()) <= 4
    assert {case["system"] for case in adapted.values() if "system" in case} > set(scaling.SYSTEMS)


def test_points_of_a_curve_ascend():
    points = list(scaling.make_points(scaling.KINDS, scaling.SYSTEMS, (5, 1), small=True, on_cpu=True))
    assert [value for kind, value, case, _ in points if (kind, case["system"]) == ("runs", "patchseq")] == [1, 5]
    weak = [(value, case["runs"]) for kind, value, case, _ in points if (kind, case["system"]) == ("weak", "hippie")]
    assert weak == [(1, 4), (2, 8), (4, 16), (8, 32)]


def test_figure_shows_the_stored_curves(tmp_path):
    rows = [
        {
            "kind": kind,
            "value": value,
            "system": "patchseq",
            "status": "measured",
            "runs": value,
            "ms_step": 0.5 * value,
        }
        for kind in ("runs", "weak")
        for value in (1, 2, 4)
    ]
    assert scaling.draw(rows, tmp_path / "scaling.png").stat().st_size > 10_000


@pytest.mark.parametrize("system", cases.SYSTEMS)
def test_systems_are_built_at_small_size(system):
    problem = cases.build(system, 2, small=True)
    assert len(problem.grid) == 2 and problem.steps > 0
    assert set(cases.SMALL_SIZES[system]) <= set(cases.SIZES[system])


def test_unknown_systems_and_sizes_are_refused():
    with pytest.raises(ValueError, match="no system 'nothing'"):
        cases.build("nothing")
    with pytest.raises(ValueError, match="no size 'length'"):
        cases.build("hippie", length=3)


def test_tables_are_written_between_their_markers(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    row = accelerator.make_row(
        "patchseq-2", {"kind": "train", "system": "patchseq", "runs": 2, "small": False}, {"ms_run_step": 3.0}, {}
    )
    torch = {"kind": "torch", "system": "patchseq", "mode": "eager", "small": False, "precision": "float32"}
    other = accelerator.make_row("patchseq-torch", torch, {"ms_run_step": 9.0}, {})
    for some in (row, other):
        accelerator.append_row(some | {"status": "measured", "round": 0}, tmp_path / "gpu" / "accelerator.csv")
    document = tmp_path / "README.md"
    document.write_text("Before.\n<!-- report accelerator gpu -->\nold\n<!-- end -->\nAfter.\n")
    assert report.update_readme(document) == []
    text = document.read_text()
    assert text.startswith("Before.") and text.endswith("After.\n") and "old" not in text and "eager 3" in text
    document.write_text("no marker")
    assert report.update_readme(document) == ["accelerator gpu"]


PROGRAM = """HloModule jit_program

%fused (p: f32[8,4]) -> f32[2,4] {
  %p = f32[8,4]{1,0} parameter(0)
  ROOT %s = f32[2,4]{1,0} slice(%p), slice={[0:2], [0:4]}
}

%inner (t: (s32[], f32[2,4])) -> (s32[], f32[2,4]) {
  %t = (s32[], f32[2,4]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%t), index=0
  %x = f32[2,4]{1,0} get-tuple-element(%t), index=1
  %y = f32[2,4]{1,0} multiply(%x, %x), metadata={op_name="jit(program)/while/body/while/body/transpose(jvp(f))/while/body/mul"}
  ROOT %r = (s32[], f32[2,4]{1,0}) tuple(%i, %y)
}

%step (t: (s32[], f32[8,4], /*index=2*/f32[2,4])) -> (s32[], f32[8,4], f32[2,4]) {
  %t = (s32[], f32[8,4]{1,0}, f32[2,4]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%t), index=0
  %data = f32[8,4]{1,0} get-tuple-element(%t), index=1
  %batch = f32[2,4]{1,0} fusion(%data), kind=kLoop, calls=%fused
  %start = (s32[], f32[2,4]{1,0}) tuple(%i, %batch)
  %loop = (s32[], f32[2,4]{1,0}) while(%start), condition=%limit, body=%inner, backend_config={"known_trip_count":{"n":"12"}}
  %y = f32[2,4]{1,0} get-tuple-element(%loop), index=1
  %copies = f32[3,8,4]{2,1,0} broadcast(%data), dimensions={1,2}
  ROOT %r = (s32[], f32[8,4]{1,0}, f32[2,4]{1,0}) tuple(%i, %data, %y)
}

%epoch (t: (s32[], f32[8,4], f32[2,4])) -> (s32[], f32[8,4], f32[2,4]) {
  %t = (s32[], f32[8,4]{1,0}, f32[2,4]{1,0}) parameter(0)
  %steps = (s32[], f32[8,4]{1,0}, f32[2,4]{1,0}) while(%t), condition=%open, body=%step, metadata={op_name="jit(program)/while/body/while"}
  %validation = (s32[], f32[8,4]{1,0}, f32[2,4]{1,0}) custom-call(%steps), custom_call_target="cublas$gemm"
  ROOT %r = (s32[], f32[8,4]{1,0}, f32[2,4]{1,0}) get-tuple-element(%steps), index=0
}

%limit (t: (s32[], f32[2,4])) -> pred[] {
  %t = (s32[], f32[2,4]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%t), index=0
  %n = s32[] constant(5)
  ROOT %less = pred[] compare(%i, %n), direction=LT
}

ENTRY %main (data: f32[8,4]) -> f32[2,4] {
  %data = f32[8,4]{1,0} parameter(0)
  %start = (s32[], f32[8,4]{1,0}, f32[2,4]{1,0}) tuple(%data, %data, %data)
  %epochs = (s32[], f32[8,4]{1,0}, f32[2,4]{1,0}) while(%start), condition=%limit, body=%epoch, metadata={op_name="jit(program)/while"}
  ROOT %out = f32[2,4]{1,0} get-tuple-element(%epochs), index=2
}
"""


def test_kernels_of_a_step_are_counted_with_their_repetitions():
    program = hlo.Program(
        PROGRAM.replace("condition=%open", "condition=%unknown") + "\n%unknown (t: s32[]) -> pred[] {\n}\n"
    )
    loop = program.step_loop()
    assert loop.name == "steps" and program.repeats(loop) is None
    step = list(program.kernels(loop.called("body")[0]))
    assert sum(kernel.times for kernel in step) == 1 + 12 + 1, "the slice, the inner loop and the copies"
    assert [kernel.n_bytes for kernel in step] == [2 * 32, 2 * 32 + 32, 3 * 128 + 128]
    epoch = list(program.kernels(program.enclosing(loop), without=loop))
    assert [kernel.kind for kernel in epoch] == ["product"]
    assert hlo.count_copies(step, 3, [(8, 4)]) == 1 and hlo.count_copies(step, 2, [(8, 4)]) == 0
    assert program.repeats(program.step_loop()._replace(text="condition=%limit")) == 5, "as a TPU's loops are written"
