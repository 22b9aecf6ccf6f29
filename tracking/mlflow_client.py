"""Reaching MLflow: where it is by default, whether it answers, and a client that waits no longer than a sweep can."""

import fcntl
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps.errors import ServiceUnreachable
from tracking.deadline import call_within

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

# MLflow's defaults wait up to two minutes and try seven times, four minutes in all: too long inside a sweep's loop,
# where the next sync tries again anyway. And a sweep calls nobody whom the user did not name.
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
}
_IMPATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "4", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}


def default_uri(home: Path) -> str:
    """SQLite in the run home; artifacts lie beside it in ``artifacts/``."""
    return f"sqlite:///{home.resolve() / 'mlflow.db'}"


def without_password(uri: str) -> str:
    """The address as it may be shown and kept."""
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", uri)


def check(tracking_uri: str, limit_s: float = 30.0) -> None:
    """See that MLflow can be reached. A new SQLite database is created, which takes a few seconds.

    Raises:
        ServiceUnreachable: It does not answer, within about 4 s for a server and ``limit_s`` for a database.
    """
    try:
        with _alone(tracking_uri):
            connect(tracking_uri)  # asks nothing yet, but loads MLflow, which takes seconds, before the clock starts
            call_within(limit_s, lambda: _ask(tracking_uri))
    except Exception as error:
        # Whatever the client raises (HTTP, SQL, an unknown scheme): the way out is the same.
        where = f"MLflow at {without_password(tracking_uri)}"
        raise ServiceUnreachable(f"{where} cannot be reached: {told(error)}") from error


@contextmanager
def _alone(tracking_uri: str) -> Iterator[None]:
    """One process at a time: two that make the same new database would each find half of the other's tables."""
    folder = sqlite_folder(tracking_uri)
    if folder is None:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".mlflow.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _ask(tracking_uri: str) -> None:
    if "://" in tracking_uri and not tracking_uri.startswith(("http", "databricks", "file", "uc")):
        import sqlalchemy

        # MLflow tries a database that is down for many minutes; this tries once.
        engine = sqlalchemy.create_engine(tracking_uri)
        try:
            engine.connect().close()
        finally:
            engine.dispose()
    with _environment(_IMPATIENCE):
        connect(tracking_uri).search_experiments(max_results=1)


def connect(tracking_uri: str) -> "MlflowClient":
    """A client of this server and of its registry, apart from MLflow's global state."""
    for key, value in _SETTINGS.items():
        os.environ.setdefault(key, value)
    for name in ("alembic", "mlflow.store.db.utils"):  # or a new database prints how it is made
        logging.getLogger(name).setLevel(logging.WARNING)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)


def sqlite_folder(tracking_uri: str) -> Path | None:
    """The folder of a SQLite database; None for any other address."""
    if not tracking_uri.startswith("sqlite:///"):
        return None
    return Path(tracking_uri.removeprefix("sqlite:///").partition("?")[0]).parent


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before: dict[str, Any] = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def told(error: BaseException) -> str:
    """The error in a line: the system's own words where a connection is at the bottom of it."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror
        inner = inner.__cause__ or inner.__context__
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def search_runs(client: "MlflowClient", experiment_id: str, tags: Mapping[str, str]) -> "Iterator[Run]":
    """Every run with these tags, the oldest first."""
    query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    token = None
    while True:
        page = client.search_runs([experiment_id], query, order_by=["attributes.start_time ASC"], page_token=token)
        yield from page
        token = page.token
        if not token:
            return
