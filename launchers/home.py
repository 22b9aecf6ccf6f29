"""Where Podium keeps things: ``$PODIUM_HOME``, by default ``./.podium``."""

import os
from pathlib import Path

from tracking.folders import folder_of

DRIVER_LOG = "driver.log"  # in a run folder: what the driver of a detached sweep says


def home() -> Path:
    """The folder of all sweeps, absolute. Not created by asking."""
    return Path(os.environ.get("PODIUM_HOME", ".podium")).expanduser().resolve()


def run_folder(name: str) -> Path:
    """The run folder of a sweep; that of an earlier stage, ``<sweep>/<stage>``, lies within its sweep's."""
    return folder_of(home(), name)


def cache_folder() -> Path:
    """Prepared data, shared by all sweeps."""
    return home() / "cache"


def bundle_folder(name: str) -> Path:
    """Where a sweep's champion is exported by default."""
    return home() / "champions" / name.replace("/", "-")  # a bundle lies in no other


def tracking_uri() -> str:
    """``$MLFLOW_TRACKING_URI``, or the SQLite file in the home."""
    from tracking.mlflow_view import default_uri

    return os.environ.get("MLFLOW_TRACKING_URI") or default_uri(home())
