"""The pages a user opens, in a real Chromium: MLflow on a finished sweep, and the report."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.launchers.running import ROOT, Finished, command, environment

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None and not os.environ.get("CI"), reason="no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """A page that keeps what goes wrong on it in ``page.errors``, and leaves a screenshot behind."""
    page = browser.new_page(viewport={"width": 1440, "height": 1000})
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    yield page
    page.screenshot(path=str(tmp_path / "page.png"))
    page.close()


@pytest.fixture(scope="module")
def mlflow_address(finished: Finished) -> Iterator[str]:
    """``podium dashboard`` on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        command("dashboard", "--port", str(port)),
        cwd=ROOT,
        env=environment(finished.home),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=2):
                break
        except OSError:
            assert process.poll() is None, process.stdout.read() if process.stdout else ""
            time.sleep(0.5)
    yield address
    process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise


def test_mlflow_shows_the_sweep_with_its_trials(finished: Finished, mlflow_address: str, page: Any) -> None:
    experiment = finished.state.mlflow
    from mlflow import MlflowClient

    uri = f"sqlite:///{finished.home / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    found = next(one for one in client.search_experiments() if client.search_runs([one.experiment_id]))
    assert experiment
    page.goto(f"{mlflow_address}/#/experiments/{found.experiment_id}/runs")
    page.get_by_text("small", exact=True).first.wait_for(timeout=60_000)
    parent = next(run for run in client.search_runs([found.experiment_id]) if "mlflow.parentRunId" not in run.data.tags)
    page.goto(f"{mlflow_address}/#/experiments/{found.experiment_id}/runs/{parent.info.run_id}")
    page.get_by_text("small").first.wait_for(timeout=60_000)
    champion = finished.state.champion
    assert champion is not None
    child = next(
        run
        for run in client.search_runs([found.experiment_id])
        if run.data.tags.get("podium.trial") == champion["champion"]
    )
    page.goto(f"{mlflow_address}/#/experiments/{found.experiment_id}/runs/{child.info.run_id}")
    for text in ("optimizer.lr", "val/loss"):
        page.get_by_text(text).first.wait_for(timeout=60_000)
    page.goto(f"{mlflow_address}/#/models/small")
    page.get_by_text(re.compile("champion")).first.wait_for(timeout=60_000)
    assert page.errors == []


def test_the_report_draws_every_figure_without_a_network(finished: Finished, page: Any) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((finished.home / "runs" / "small" / "report.html").as_uri())
    page.wait_for_selector(".js-plotly-plot .main-svg", timeout=30_000)
    assert page.errors == []
    assert [url for url in asked if url.startswith("http")] == []
    assert page.locator(".js-plotly-plot").count() >= 4
    assert page.get_by_text("Champion").count() >= 1
