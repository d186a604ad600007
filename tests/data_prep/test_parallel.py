"""Parallel processing of items: what a kill, a crashing item and a changed file cost, counted in calls of the function."""

import ctypes
import functools
import os
import signal
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("distributed", reason="parallel processing needs the prep extra")

from data_prep import parallel
from data_prep.parallel import process_items
from data_prep.result_store import ParallelError, file_fingerprint, read_result, result_file_name, write_result
from tests.data_prep.toy import HEAR_INTERRUPTS

ROOT = Path(__file__).parents[2]
MODULE = "tests.data_prep.test_parallel"


# The work. An item is a file whose name determines what happens; every call appends a line to calls.txt beside it.


def process_file(path):
    with (path.parent / "calls.txt").open("a") as log:
        log.write(f"{path.name}\n")
    behavior = path.stem.split("-")[0]
    if behavior == "slow":
        time.sleep(0.2)
    if behavior == "raise":
        raise ValueError(f"no sweeps\nin {path.name}")
    if behavior == "quit":
        sys.exit("enough")
    if behavior == "exit":
        os._exit(7)
    if behavior == "crash":
        ctypes.string_at(0)
    if behavior == "hang":
        path.with_suffix(".pid").write_text(str(os.getpid()))
        time.sleep(600)
    if behavior == "lock":
        ctypes.PyDLL(None).sleep(600)  # does not release the interpreter lock
    if behavior == "object":
        return {"x": np.array([{}], dtype=object)}, {}
    if behavior == "unjson":
        return {}, {"x": np.float32(1)}
    return {"file": np.frombuffer(path.read_bytes(), np.uint8)}, {"pid": os.getpid()}


def square(number):
    """Some items take longer, so that results do not arrive in the order of the items."""
    time.sleep(0.01 if number % 7 == 0 else 0)
    values = {"allow_pickle": np.arange(number, dtype=np.float32), "a/b é": np.array(["µ", "x"])}
    return values, {"square": number**2, "none": float("nan"), "pid": os.getpid()}


def thread_limit(_):
    return {}, {"threads": os.environ["OMP_NUM_THREADS"]}


def make_files(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_text(name)
    return [folder / name for name in names]


def calls(folder):
    log = folder / "calls.txt"
    return sorted(log.read_text().split()) if log.exists() else []


def clear_calls(folder):
    (folder / "calls.txt").unlink()


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition was not met in time"
        time.sleep(0.02)


# Without errors.


def test_every_item_has_a_result_in_the_order_of_the_items(tmp_path, capsys):
    start = time.perf_counter()
    results = process_items(range(300), square, tmp_path, workers=2, title="squares")
    assert time.perf_counter() - start < 20, "a worker must start once, not once an item"

    assert [result.key for result in results] == [str(number) for number in range(300)]
    loaded = [result.load() for result in results]
    assert [facts["square"] for _, facts in loaded] == [number**2 for number in range(300)]
    assert len({facts["pid"] for _, facts in loaded} | {os.getpid()}) == 3
    arrays, facts = loaded[5]
    assert sorted(arrays) == ["a/b é", "allow_pickle"] and arrays["a/b é"].tolist() == ["µ", "x"]
    np.testing.assert_array_equal(arrays["allow_pickle"], np.arange(5, dtype=np.float32), strict=True)
    assert np.isnan(facts["none"])
    assert all(result.succeeded and not result.reused and result.memory > 10e6 for result in results)
    assert results[7].seconds >= 0.01
    assert capsys.readouterr().err.splitlines()[-1].startswith("squares: 300 of 300, 0 failed, ")
    assert len(list(tmp_path.iterdir())) == 300


def test_only_new_and_changed_items_are_processed(tmp_path):
    items, folder = make_files(tmp_path / "in", "a", "b", "c"), tmp_path / "results"
    process_items(items[:2], process_file, folder)
    assert calls(tmp_path / "in") == ["a", "b"]

    items[0].write_text("longer")
    clear_calls(tmp_path / "in")
    results = process_items(items, process_file, folder)
    assert calls(tmp_path / "in") == ["a", "c"]
    assert [result.reused for result in results] == [False, True, False]
    assert bytes(results[0].load()[0]["file"]) == b"longer"

    before = items[1].stat()
    os.utime(items[1], ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    clear_calls(tmp_path / "in")
    process_items(items, process_file, folder)
    assert calls(tmp_path / "in") == ["b"], "the same size, another modification time"

    clear_calls(tmp_path / "in")
    process_items(items, process_file, folder, fingerprint=lambda path: f"{file_fingerprint(path)}, features 2")
    assert calls(tmp_path / "in") == ["a", "b", "c"], "another version of the work"


def test_no_two_keys_share_a_file(tmp_path):
    keys = ["a/b", "a_b", "a:b", "A_b", "é", "e\u0301", "", "..", "/", "x" * 500, "x" * 501, "\udcff"]
    names = [result_file_name(key) for key in keys]
    assert len({name.lower() for name in names}) == len(keys)
    assert all(name.isascii() and len(name) < 100 and name[0] not in ".-" for name in names)
    paths = [tmp_path / name for name in names]
    for key, path in zip(keys, paths, strict=True):
        write_result(path, parallel._attempt_now(square, 3, key, ""))
    assert [result.key for path in paths if (result := read_result(path))] == keys


def test_functions_of_a_script_are_sent_by_value(tmp_path):
    (result,) = process_items([3], lambda number: ({}, {"double": 2 * number}), tmp_path)
    assert result.load()[1] == {"double": 6}


# An item that fails does not affect the others.


def test_a_failing_item_does_not_affect_the_others(tmp_path):
    expected = {
        "raise": "ValueError: no sweeps in raise-1",
        "quit": "SystemExit: enough",
        "object": "ValueError: Object arrays cannot be saved",
        "unjson": "TypeError: Object of type float32 is not JSON serializable",
        "exit": "worker died: exit code 7",
        "crash": "worker died: SIGSEGV",
        "hang": "timeout: longer than 2 s",
    }
    good = [f"good-{number}" for number in range(30)]
    names = [*good[:5], *(f"{behavior}-1" for behavior in expected), *good[5:]]
    items, folder = make_files(tmp_path / "in", *names), tmp_path / "results"
    results = dict(zip(names, process_items(items, process_file, folder, workers=2, timeout=2), strict=True))

    for behavior, reason in expected.items():
        failed = results[f"{behavior}-1"]
        assert failed.reason.startswith(reason) and "\n" not in failed.reason
        with pytest.raises(ParallelError, match=reason):
            failed.load()
    assert all(results[name].succeeded for name in good)
    assert results["hang-1"].seconds >= 2
    assert calls(tmp_path / "in") == sorted(names), "no item was processed twice"

    clear_calls(tmp_path / "in")
    again = process_items(items, process_file, folder, workers=2, timeout=2)
    assert calls(tmp_path / "in") == [] and all(result.reused for result in again)
    short = [path for path in items if not path.name.startswith("hang")]
    process_items(short, process_file, folder, workers=2, timeout=2, retry_failed=True)
    assert calls(tmp_path / "in") == sorted(f"{behavior}-1" for behavior in expected if behavior != "hang")


def test_an_item_that_holds_the_interpreter_lock_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "GRACE", 0.5)
    items = make_files(tmp_path / "in", "lock-1", "good-1", "good-2")
    results = process_items(items, process_file, tmp_path / "results", timeout=1)
    assert [result.reason for result in results] == ["timeout: longer than 1 s", "", ""]
    assert calls(tmp_path / "in") == ["good-1", "good-2", "lock-1"]


def test_a_damaged_result_is_computed_again(tmp_path):
    items = make_files(tmp_path / "in", "a", "b", "c")
    results = process_items(items, process_file, tmp_path / "results")
    results[0].path.write_bytes(results[0].path.read_bytes()[:-30])
    results[1].path.write_bytes(b"")
    with pytest.raises(ParallelError, match="delete it and run again"):
        results[0].load()
    clear_calls(tmp_path / "in")
    assert all(result.load() for result in process_items(items, process_file, tmp_path / "results"))
    assert calls(tmp_path / "in") == ["a", "b"]


def test_a_write_that_fails_keeps_the_previous_file(tmp_path, monkeypatch):
    path = tmp_path / "x.npz"
    write_result(path, parallel._attempt_now(square, 3, "x", ""))

    def disk_full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "replace", disk_full)
    with pytest.raises(OSError, match="No space"):
        write_result(path, parallel._attempt_now(square, 4, "x", ""))
    monkeypatch.undo()
    result = read_result(path)
    assert result is not None and result.load()[1]["square"] == 9
    assert list(tmp_path.iterdir()) == [path]


def test_a_call_that_cannot_work_is_refused_in_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(ParallelError, match="cannot be sent to a worker"):
        process_items([1], functools.partial(square, lock=threading.Lock()), tmp_path)
    with pytest.raises(ParallelError, match="2 items have the key 'a'"):
        process_items(["b", "a", "a"], square, tmp_path)
    with pytest.raises(ParallelError, match="workers=0"):
        process_items([1], square, tmp_path, workers=0)
    # A module that only this process has: no worker can import it, and no item is recorded as failed.
    missing = types.ModuleType("missing_module")
    exec("def work(item): return {}, {}", missing.__dict__)
    monkeypatch.setitem(sys.modules, "missing_module", missing)
    with pytest.raises(ParallelError, match="a worker cannot import the work .*No module named 'missing_module'"):
        process_items([1, 2], missing.work, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_script_without_a_main_guard_is_named(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        f"from data_prep.parallel import process_items\nprocess_items([1], str, {str(tmp_path / 'results')!r})\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment, timeout=120)
    assert ended.returncode == 1 and "a worker cannot start" in ended.stderr and "__main__" in ended.stderr
    assert not list(tmp_path.glob("results/*.npz"))


# Kills.


def start(expression):
    """A run in a separate process with its own process group."""
    code = (
        f"{HEAR_INTERRUPTS}\nfrom pathlib import Path\nfrom {MODULE} import process_file\n"
        f"from data_prep.parallel import process_items\n{expression}"
    )
    command = [sys.executable, "-c", code]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)


def processes_of(group):
    """Living processes of a process group."""
    alive = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
        alive += [stat] * (int(its_group) == group and state != "Z")
    return alive


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_killed_run_resumes(tmp_path):
    names = [f"slow-{number:02}" for number in range(20)]
    (_, *items), folder = make_files(tmp_path / "in", "hang-1", *names), tmp_path / "results"
    inputs = f"sorted(Path({str(tmp_path / 'in')!r}).iterdir())"
    parent = start(f"process_items({inputs}, process_file, {str(folder)!r}, workers=2)")
    wait_for(lambda: len(list(folder.glob("*.npz"))) >= 4)
    parent.kill()
    parent.communicate()
    wait_for(lambda: not processes_of(parent.pid))  # the workers end with their parent, even one that hangs

    kept = [path.name for path in items if read_result(folder / result_file_name(str(path)))]
    assert 4 <= len(kept) < 20
    clear_calls(tmp_path / "in")
    results = process_items(items, process_file, folder, workers=2)
    assert calls(tmp_path / "in") == sorted(set(names) - set(kept))
    assert [Path(result.key).name for result in results if result.reused] == kept
    assert [bytes(result.load()[0]["file"]).decode() for result in results] == names


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_ctrl_c_stops_the_workers_and_prints_how_to_resume(tmp_path):
    folder = tmp_path / "results"
    make_files(tmp_path / "in", "good-1", "hang-1", "hang-2")
    inputs = f"sorted(Path({str(tmp_path / 'in')!r}).iterdir())"
    parent = start(
        f"try: process_items({inputs}, process_file, {str(folder)!r}, workers=2)\n"
        "except KeyboardInterrupt as stop: raise SystemExit(str(stop))"
    )
    wait_for(lambda: calls(tmp_path / "in") == ["good-1", "hang-1", "hang-2"] and list(folder.glob("*.npz")))
    os.killpg(parent.pid, signal.SIGINT)  # as a terminal does: to the parent and the workers
    _, errors = parent.communicate(timeout=20)
    assert parent.returncode == 1 and "Traceback" not in errors
    assert errors.splitlines()[-1] == f"stopped with 1 of 3 items in {folder}: the same call resumes from there"
    wait_for(lambda: not processes_of(parent.pid))
    assert [result.succeeded for path in folder.iterdir() if (result := read_result(path))] == [True]


# The workers.


def test_workers_compute_with_one_thread_and_report_their_memory(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    environment = dict(os.environ)
    ballast = np.ones(60_000_000)  # 480 MB, which ru_maxrss would count to the workers too
    (result,) = process_items([0], thread_limit, tmp_path)
    assert result.load()[1]["threads"] == "1"
    assert os.environ["OMP_NUM_THREADS"] == "5" and dict(os.environ) == environment
    assert parallel.peak_memory() > ballast.nbytes
    assert 10e6 < result.memory < 400e6


# A remote cluster.


@pytest.fixture(scope="module")
def cluster():
    dask = pytest.importorskip("dask")
    distributed = pytest.importorskip("distributed")
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs="CRITICAL"
        ) as cluster,
    ):
        yield cluster


def test_a_cluster_survives_the_death_of_a_worker(tmp_path, cluster):
    names = [f"slow-{number:02}" for number in range(20)]
    items, folder = make_files(tmp_path / "in", *names), tmp_path / "results"
    left_at_kill = []

    def kill():
        wait_for(lambda: len(list(folder.glob("*.npz"))) >= 4)
        os.kill(cluster.workers[0].pid, signal.SIGKILL)
        left_at_kill.append(20 - len(list(folder.glob("*.npz"))))

    killer = threading.Thread(target=kill)
    killer.start()
    results = process_items(items, process_file, folder, scheduler=cluster.scheduler_address)
    killer.join()
    assert left_at_kill[0] > 4
    assert [result.reason for result in results] == [""] * 20
    assert [bytes(result.load()[0]["file"]).decode() for result in results] == names
    assert len({result.load()[1]["pid"] for result in results}) >= 2

    clear_calls(tmp_path / "in")
    again = process_items(items, process_file, folder, scheduler=cluster.scheduler_address)
    assert all(result.reused for result in again)
    assert calls(tmp_path / "in") == []


def test_a_failing_item_does_not_affect_the_others_on_a_cluster(tmp_path, cluster):
    names = ["good-1", "exit-1", "good-2", "raise-1", *(f"good-{number}" for number in range(3, 12))]
    items = make_files(tmp_path / "in", *names)
    results = process_items(items, process_file, tmp_path / "results", scheduler=cluster.scheduler_address)
    assert [Path(result.key).name for result in results] == names
    failed = {Path(result.key).name: result.reason for result in results if not result.succeeded}
    assert failed == {"exit-1": "worker died: 2 workers in turn", "raise-1": "ValueError: no sweeps in raise-1"}


def test_an_item_that_hangs_on_a_cluster_is_given_up_and_its_worker_restarted(tmp_path, cluster):
    items = make_files(tmp_path / "in", "good-1", "hang-1", "good-2", "good-3")
    results = process_items(items, process_file, tmp_path / "results", scheduler=cluster.scheduler_address, timeout=2)
    assert [result.reason for result in results] == ["", "timeout: longer than 2 s", "", ""]
    assert calls(tmp_path / "in").count("hang-1") == 1, "Dask must not try it again"
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "in" / "hang-1.pid").read_text()), 0)


def test_items_that_dask_gave_up_are_repeated_alone_and_few_items_are_in_flight(tmp_path, cluster, monkeypatch):
    distributed = pytest.importorskip("distributed")

    deaths = iter([True] * 3)  # three items that were blamed for the death of a worker beside another item
    submitted, finished, in_flight = [], [], []
    submit = distributed.Client.submit

    def counting_submit(self, *arguments, **options):
        submitted.append(arguments)
        return submit(self, *arguments, **options)

    def killed_error(future):
        finished.append(future.key)
        in_flight.append(len(submitted) - len(finished))
        return distributed.scheduler.KilledWorker("x", None, 1) if next(deaths, False) else None

    monkeypatch.setattr(distributed.Client, "submit", counting_submit)
    monkeypatch.setattr(parallel, "_killed_error", killed_error)
    results = process_items(range(40), square, tmp_path, scheduler=cluster.scheduler_address)
    assert [result.reason for result in results] == [""] * 40
    assert len(submitted) == 43 and max(in_flight[:40]) < 2 and in_flight[40:] == [0, 0, 0]


def test_a_cluster_that_does_not_answer_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "START_TIMEOUT", 0.5)
    with pytest.raises(ParallelError, match="no Dask scheduler answers at tcp://127.0.0.1:9"):
        process_items([1], square, tmp_path, scheduler="tcp://127.0.0.1:9")


@pytest.mark.parametrize("scheduler", [None, "tcp://127.0.0.1:8786"])
def test_without_dask_the_extra_is_named(tmp_path, monkeypatch, scheduler):
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "distributed.scheduler", raising=False)
    with pytest.raises(ParallelError, match=r'pip install "jaxephys\[prep\]"'):
        process_items([1], square, tmp_path, scheduler=scheduler)
