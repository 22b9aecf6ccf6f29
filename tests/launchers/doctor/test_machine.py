"""``podium doctor``: each check on a machine, a service or a disk that is as it should be, and on one that is not."""

import fcntl
import http.server
import json
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launchers.doctor import check, machine, mlflow_service, s3_service, services, storage
from launchers.doctor.check import Check, Checked, Finding, Outcome, exit_code, failed, ok, run, unreachable
from sweeps.errors import InvalidInput
from tests.launchers.running import ROOT, command, environment, podium
from tests.storage import BUCKET, answering, free_port, moto, rclone, silent
from tracking.meters.latency.aiperf import VERSION

ALL = ["Python", "packages", "processor and memory", "GPU", "file system", "disk space", "clock", "Ray", "MLflow"]
ALL += ["S3", "AIPerf", "dashboard port"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PODIUM_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return tmp_path / "home"


# The checks themselves.


def test_a_check_that_breaks_or_hangs_is_a_finding_and_the_others_go_on() -> None:
    forever = threading.Event()

    def breaks() -> Finding:
        raise ZeroDivisionError("by nought")

    def hangs() -> Finding:
        forever.wait()
        return ok("never")

    checks = [
        Check("breaks", breaks),
        Check("hangs", hangs, limit_s=0.2),
        Check("service", hangs, limit_s=0.2, service=True),
        Check("goes on", lambda: ok("fine")),
    ]
    begun: list[str] = []
    found = {one.check: one.finding for one in run(checks, begun.append)}
    forever.set()
    assert begun == ["breaks", "hangs", "service", "goes on"]
    assert "ZeroDivisionError: by nought" in found["breaks"].says
    assert "no answer within 0.2 s" in found["hangs"].says
    assert not found["hangs"].unreachable
    assert found["service"].unreachable
    assert found["goes on"] == ok("fine")


FINDINGS = [ok("."), check.warning(".", "."), check.not_checked("."), failed(".", "."), unreachable(".", ".")]


@given(st.lists(st.sampled_from(FINDINGS)))
def test_the_exit_code_is_that_of_the_worst(findings: list[Finding]) -> None:
    code = exit_code([Checked("any", finding) for finding in findings])
    if any(finding.unreachable for finding in findings):
        assert code == 5
    else:
        assert code == (1 if any(finding.outcome is Outcome.FAILED for finding in findings) else 0)


# The machine.


def test_packages_that_are_missing_or_of_another_version_are_named() -> None:
    lines = ["rich>=999", "typer", "no-such-package>=1", 'numpy<0; python_version < "3"', "ray[tune,default]<1"]
    assert [text.split(" ")[0] for text in machine.mismatches(lines)] == ["rich", "no-such-package", "ray"]
    assert "is not installed" in machine.mismatches(lines)[1]
    assert len(machine.mismatches(lines, missing_too=False)) == 2


def test_this_machine_has_what_podium_declares() -> None:
    assert machine.python().outcome is Outcome.OK
    assert [one.outcome for one in machine.packages()] == [Outcome.OK]
    total, available = machine.memory()
    assert 0 < available <= total


def test_gpus_that_torch_cannot_use_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nprintf 'NVIDIA H200, 143771 MiB, 570.0\\nNVIDIA H200, 143771 MiB, 570.0\\n'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    [found] = machine.gpu()
    assert found.outcome is Outcome.WARNING
    assert found.says.count("NVIDIA H200, 143771 MiB") == 2


# Disks and clock.


def test_the_file_system_is_tried_and_left_as_it_was(home: Path) -> None:
    found = storage.file_system()
    assert found.outcome is Outcome.OK, found.says
    assert not home.exists()
    assert list(home.parent.iterdir()) == []


def test_a_home_that_cannot_be_written_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODIUM_HOME", "/proc/podium")
    found = storage.file_system()
    assert found.outcome is Outcome.FAILED
    assert "/proc (proc) cannot be used" in found.says
    assert "PODIUM_HOME" in found.way_out


def test_a_file_system_that_keeps_no_locks_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda file, how: None)  # as on a network disk that is mounted without locks
    found = storage.file_system()
    assert found.outcome is Outcome.FAILED
    assert "does not keep a lock" in found.says


def test_sessions_that_ray_left_are_told_when_they_take_much_room(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import subprocess
    import sys

    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    session = tmp_path / "ray" / "session_2026-01-02_03-04-05_678901_23"
    session.mkdir(parents=True)
    with (session / "raylet.out").open("wb") as file:
        file.truncate(2 * 2**30)  # sparse: it takes no room
    told = [one.says for one in storage.space() if "of no process any more" in one.says]
    assert len(told) == 1
    assert "take 2.0 GiB" in told[0]
    waits = [sys.executable, "-c", "print(flush=True); input()", str(session)]
    with subprocess.Popen(waits, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as raylet:
        assert raylet.stdout is not None
        raylet.stdout.readline()  # it runs: before that, the kernel may not show its command line yet
        assert not [one for one in storage.space() if "of no process any more" in one.says], "a process uses it"
        raylet.communicate(b"\n", timeout=60)


def test_a_ledger_from_the_future_shows_a_clock_that_is_behind(home: Path) -> None:
    assert storage.clock().outcome is Outcome.OK
    ledger = home / "runs" / "shop" / "ledger.jsonl"
    ledger.parent.mkdir(parents=True)
    ledger.touch()
    os.utime(ledger, (time.time() + 7200,) * 2)
    found = storage.clock()
    assert found.outcome is Outcome.WARNING
    assert "written 120 min later" in found.says


# Services.


@contextmanager
def dated(offset_s: float) -> Iterator[str]:
    """A server whose clock is off by so much."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.end_headers()

        def date_time_string(self, timestamp: float | None = None) -> str:
            return formatdate(time.time() + offset_s, usegmt=True)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/x"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("offset_s", "outcome"),
    [(0, Outcome.OK), (-120, Outcome.WARNING), (120, Outcome.WARNING), (-3600, Outcome.FAILED), (3600, Outcome.FAILED)],
)
def test_the_clock_is_compared_with_a_server(offset_s: float, outcome: Outcome) -> None:
    with dated(offset_s) as url:
        assert services.skew(url, "it").outcome is outcome


def test_a_server_that_is_away_compares_no_clock() -> None:
    assert services.skew(f"http://127.0.0.1:{free_port()}", "it").outcome is Outcome.NOT_CHECKED


def test_a_cluster_that_does_not_answer_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for address in (f"127.0.0.1:{free_port()}", f"ray://127.0.0.1:{free_port()}"):
        monkeypatch.setenv("RAY_ADDRESS", address)
        [found] = services.ray()
        assert found.unreachable
        assert address in found.says


def node(gpus: int, label: str | None) -> dict[str, Any]:
    labels = {"ray.io/accelerator-type": label} if label else {}
    return {"Alive": True, "Resources": {"CPU": 8, "GPU": gpus} if gpus else {"CPU": 8}, "Labels": labels}


def test_gpus_of_a_cluster_are_held_against_the_pools() -> None:
    assert services.accelerators([node(0, None)]) == []
    [good] = services.accelerators([node(8, "H100"), node(4, "B200"), node(0, None)])
    assert good.outcome is Outcome.OK
    assert "h100 8" in good.says
    assert "b200 4" in good.says
    [lost] = services.accelerators([node(8, "H100"), node(2, "T4"), node(1, None)])
    assert lost.outcome is Outcome.WARNING
    assert "3 of 11 GPUs belong to no pool" in lost.says
    assert "ray.io/accelerator-type=T4" in lost.says
    assert "no label" in lost.says


def test_who_has_the_port_of_the_dashboard_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        number = taken.getsockname()[1]
        monkeypatch.setattr(services, "DASHBOARD_PORT", number)
        taken.listen()
        found = services.port()
        assert found.outcome is Outcome.WARNING
        assert f"(pid {os.getpid()})" in found.says
        assert f"--port {number + 1}" in found.way_out
    assert services.port() == ok(f"port {number} is free")


def test_which_aiperf_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "aiperf"
    monkeypatch.setenv("PODIUM_AIPERF", str(program))

    def found(text: str) -> Finding:
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
        return services.aiperf()

    assert found("echo 0.13.0") == ok(f"AIPerf 0.13.0, {program}")
    old = found("echo 0.9.0")
    assert old.outcome is Outcome.WARNING
    assert "version 0.9.0, and Podium reads the records of 0.13.0" in old.says
    broken = found("echo no module named zmq >&2; exit 1")
    assert broken.outcome is Outcome.FAILED
    assert "no module named zmq" in broken.says
    program.unlink()
    [gone] = run([services.aiperf_check()])
    assert gone.finding.outcome is Outcome.FAILED
    assert "PODIUM_AIPERF" in gone.finding.says
    monkeypatch.delenv("PODIUM_AIPERF")
    monkeypatch.setattr(services, "find_aiperf", lambda: None)
    assert services.aiperf().outcome is Outcome.NOT_CHECKED


def test_the_version_that_is_installed_is_the_one_that_is_read() -> None:
    assert f"aiperf=={VERSION}" in (ROOT / "constraints-aiperf.txt").read_text().splitlines()


# MLflow.


@pytest.fixture
def database(home: Path) -> Path:
    """MLflow's database as the first sweep makes it."""
    from tracking.mlflow_client import check, default_uri

    check(default_uri(home))
    return home / "mlflow.db"


def test_a_database_that_is_not_there_is_not_made(home: Path) -> None:
    [found] = mlflow_service.look()
    assert found.outcome is Outcome.OK
    assert "the first sweep makes it" in found.says
    assert not home.exists()


def test_a_whole_database_is_well_and_an_old_one_is_told(database: Path) -> None:
    assert [one.outcome for one in mlflow_service.look()] == [Outcome.OK, Outcome.OK]
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0a8213491aaa'")
    schema = mlflow_service.look()[1]
    assert schema.outcome is Outcome.FAILED
    assert "0a8213491aaa" in schema.says
    assert "mlflow db upgrade" in schema.way_out


def test_a_database_that_is_damaged_or_locked_is_told(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_service, "LOCK_S", 0.1)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        [locked] = mlflow_service.look()
        assert locked.outcome is Outcome.WARNING
        assert "locked by another process" in locked.says
    database.write_bytes(b"this is no database" * 100)
    [damaged] = mlflow_service.look()
    assert damaged.outcome is Outcome.FAILED
    assert "no database" in damaged.says


def test_an_mlflow_that_does_not_answer_is_a_service_that_cannot_be_reached(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{free_port()}")
    checked = list(run([mlflow_service.mlflow_check()]))
    assert exit_code(checked) == 5
    assert "secret" not in checked[0].finding.says


# S3.


def test_a_bucket_that_can_be_written_and_one_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with moto() as server:
        server.use(monkeypatch)
        good, clock = s3_service.look(f"s3://{BUCKET}/champions")
        assert good == ok(f"s3://{BUCKET}/champions can be read and written, at {server.endpoint}")
        assert clock.outcome is Outcome.OK
        assert server.keys() == []
        assert s3_service.look(None)[0].outcome is Outcome.OK
        [missing] = run([s3_service.s3_check("s3://nowhere/champions")])
        assert missing.finding.outcome is Outcome.FAILED
        assert not missing.finding.unreachable
        assert "there is no bucket 'nowhere'" in missing.finding.says


def test_credentials_that_are_wrong_or_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with rclone(tmp_path) as server:
        server.use(monkeypatch)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
        for url in (f"s3://{BUCKET}/x", None):
            [wrong] = run([s3_service.s3_check(url)])
            assert wrong.finding.outcome is Outcome.FAILED
            assert "AWS_SECRET_ACCESS_KEY" in wrong.finding.way_out
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        [none] = run([s3_service.s3_check(f"s3://{BUCKET}/x")])
        assert none.finding.outcome is Outcome.FAILED
        assert "credentials" in none.finding.says


def test_an_s3_that_is_away_silent_or_ill_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_service, "ANSWER_S", 1)
    with answering(503) as (ill, _), silent() as mute:
        for server in (ill, mute):
            server.use(monkeypatch)
            [found] = run([s3_service.s3_check(None)])
            assert found.finding.unreachable, found.finding.says
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_port()}")
    [away] = run([s3_service.s3_check(None)])
    assert away.finding.unreachable


@pytest.mark.parametrize("url", ["models/champions", "http://x/y", "s3://", "s3:/b", "s3://b/../c"])
def test_a_place_that_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="--s3"):
        s3_service.s3_check(url)


# The command.


@pytest.fixture
def no_s3(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in s3_service.CONFIGURED:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_s3")
def test_on_the_command_line_with_a_new_home(tmp_path: Path) -> None:
    done = podium(tmp_path / "home", "doctor", "-o", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    entries = json.loads(done.stdout)["checks"]
    assert list(dict.fromkeys(entry["check"] for entry in entries)) == ALL
    assert all(set(entry) == {"check", "outcome", "says", "way_out", "mendable"} for entry in entries)
    assert "ran a task" in next(entry["says"] for entry in entries if entry["check"] == "Ray")
    assert not (tmp_path / "home").exists(), "looking creates nothing"


@pytest.mark.usefixtures("no_s3")
def test_a_service_that_is_away_is_exit_code_5(tmp_path: Path) -> None:
    import subprocess

    away = f"127.0.0.1:{free_port()}"
    done = subprocess.run(
        command("doctor", "-o", "csv"),
        cwd=ROOT,
        env={**environment(tmp_path / "home"), "MLFLOW_TRACKING_URI": f"http://{away}", "RAY_ADDRESS": away},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 5, done.stdout + done.stderr
    rows = [line for line in done.stdout.splitlines() if ",failed," in line]
    assert [row.split(",")[0] for row in rows] == ["Ray", "MLflow"]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fix"], "podium doctor SWEEP --fix"),
        (["nothing-here"], "nothing-here"),
        (["../../etc"], "../../etc"),
        (["--s3", "models"], "s3://bucket/key"),
        (["a", "--s3", "s3://b/c"], "podium doctor --s3 s3://b/c"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_nonsense_is_refused(tmp_path: Path, arguments: list[str], words: str) -> None:
    done = podium(tmp_path, "doctor", *arguments)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
