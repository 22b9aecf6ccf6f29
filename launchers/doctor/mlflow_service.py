"""Checks of MLflow: it answers, it takes what is written, and its version fits the one installed here."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from launchers import home
from launchers.doctor.check import Check, Finding, Outcome, failed, not_checked, ok, warning
from launchers.doctor.services import skew
from tracking.mlflow_client import check, connect, without_password
from tracking.mlflow_view import EXPERIMENT

PROBE_TAG = "podium.doctor"
LOCK_S = 5.0


def mlflow_check() -> Check:
    """MLflow at ``$MLFLOW_TRACKING_URI``, or in the home's SQLite file."""
    return Check("MLflow", look, limit_s=90, service=bool(os.environ.get("MLFLOW_TRACKING_URI")))


def look() -> list[Finding]:
    """Ask MLflow where it is configured; create nothing."""
    uri = home.tracking_uri()
    if uri.startswith("sqlite:///"):
        path = Path(uri.removeprefix("sqlite:///").partition("?")[0])
        if not path.exists():
            return [ok(f"{path} is not there yet: the first sweep makes it")]
        found = sqlite(path)
        return [found, _schema(uri)] if found.outcome is Outcome.OK else [found]
    check(uri)
    shown = without_password(uri)
    if not uri.startswith("http"):
        return [ok(f"{shown} answers"), _schema(uri)]
    parts = urlsplit(uri)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return [_server(uri, shown), skew(bare, "MLflow")]


def sqlite(path: Path) -> Finding:
    """A SQLite file is whole, and can be written now."""
    try:
        with closing(sqlite3.connect(path, timeout=LOCK_S)) as database:
            state = database.execute("PRAGMA quick_check").fetchone()[0]
            if state != "ok":
                return failed(f"{path} is damaged: {state.splitlines()[0]}", _REBUILD)
            database.execute("BEGIN IMMEDIATE")
            database.execute("ROLLBACK")
            (runs,) = database.execute("SELECT count(*) FROM runs WHERE lifecycle_stage = 'active'").fetchone()
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            rule = f"{path} was locked by another process for {LOCK_S:g} s"
            return warning(rule, "a sweep or the dashboard writes much, or hangs; sweeps catch up by themselves")
        return failed(f"{path} cannot be written: {error}", "see who owns the file, and whether the disk is full")
    except sqlite3.DatabaseError as error:
        return failed(f"{path} is no database: {error}", _REBUILD)
    return ok(f"{path} can be read and written, and holds {runs} runs")


_REBUILD = "move it away, and `podium doctor SWEEP --fix` writes each sweep's runs again from its ledger"


def _schema(uri: str) -> Finding:
    """A database's schema is the installed MLflow's."""
    import mlflow
    import sqlalchemy
    from mlflow.store.db.utils import _get_latest_schema_revision, _get_schema_version

    engine = sqlalchemy.create_engine(uri)
    try:
        here, wanted = _get_schema_version(engine), _get_latest_schema_revision()
    finally:
        engine.dispose()
    if here is None:
        return ok("the database is empty: the first sweep makes MLflow's tables")
    if here == wanted:
        return ok(f"its schema ({here}) is that of MLflow {mlflow.__version__}")
    rule = f"its schema ({here}) is not that of MLflow {mlflow.__version__} ({wanted})"
    way_out = f"`mlflow db upgrade {without_password(uri)}` after a backup, or install the MLflow that wrote it"
    return failed(rule, way_out)


def _server(uri: str, shown: str) -> Finding:
    """A server answers, and takes a tag on the experiment; the tag is taken away again."""
    import mlflow
    from mlflow.exceptions import MlflowException

    client = connect(uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return not_checked(f"{shown} answers; whether it can be written was not tried: no sweep was run there yet")
    try:
        client.set_experiment_tag(experiment.experiment_id, PROBE_TAG, "can be written")
        client.delete_experiment_tag(experiment.experiment_id, PROBE_TAG)
    except MlflowException as error:
        rule = f"{shown} answers, and does not take what is written: {str(error).splitlines()[0][:200]}"
        return failed(rule, "see the rights of the user that MLFLOW_TRACKING_URI or MLFLOW_TRACKING_TOKEN names")
    return ok(f"{shown} can be read and written (client {mlflow.__version__})")
