"""The champion in MLflow's model registry."""

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from sweeps.errors import ServiceUnreachable
from tracking.mlflow_client import connect, told, without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

BUNDLE_TAG = "podium.bundle"  # SHA-256 of a registered bundle's manifest


def register_champion(
    tracking_uri: str,
    folder: Path,
    run_id: str,
    model_name: str,
    alias: str = "champion",
    tags: dict[str, str] | None = None,
) -> str:
    """Make an exported bundle a version of a registered model, and point an alias at it.

    ``mlflow.artifacts.download_artifacts("models:/<model_name>@<alias>")`` then fetches the folder.

    Args:
        tracking_uri: Of the server that the run belongs to.
        folder: The bundle; all of it is uploaded.
        run_id: Of the trial that made it.
        model_name: Of the registered model, made where there is none.
        alias: Moved here from any older version.
        tags: Of the version.

    Returns:
        The version's number. A bundle that is registered already, by its manifest, keeps the one it has.

    Raises:
        ServiceUnreachable: MLflow does not answer or refuses.
    """
    client = connect(tracking_uri)
    from mlflow.entities import LoggedModelOutput
    from mlflow.exceptions import MlflowException

    try:
        marked = {**(tags or {}), BUNDLE_TAG: _fingerprint(folder)}
        versions = _versions(client, model_name)
        known = next((one for one in versions if one.tags.get(BUNDLE_TAG) == marked[BUNDLE_TAG]), None)
        if known is not None:
            client.set_registered_model_alias(model_name, alias, known.version)
            return str(known.version)
        run = client.get_run(run_id)
        # "runs:/…" of a plain folder cannot be registered; a logged model can.
        logged = re.sub(r"[^\w-]", "_", model_name)  # which may hold less than a registered model's name
        model = client.create_logged_model(run.info.experiment_id, logged, run_id, model_type="lora-adapter")
        client.log_model_artifacts(model.model_id, str(folder))
        client.finalize_logged_model(model.model_id, "READY")
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
        try:
            client.create_registered_model(model_name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        # Its location, not "models:/<id>": on a database MLflow resolves that through its global tracking URI.
        version = client.create_model_version(
            model_name, model.artifact_location, run_id, marked, model_id=model.model_id
        )
        client.set_registered_model_alias(model_name, alias, version.version)
    except (MlflowException, OSError) as error:
        raise ServiceUnreachable(
            f"MLflow at {without_password(tracking_uri)} did not register the champion: {told(error)}"
        ) from error
    return str(version.version)


def _versions(client: "MlflowClient", model_name: str) -> "list[ModelVersion]":
    quoted = model_name.replace("'", "''")
    return list(client.search_model_versions(f"name = '{quoted}'"))


def _fingerprint(folder: Path) -> str:
    """Names a bundle's contents: its manifest holds the hash of every other file."""
    manifest = folder / "manifest.json"
    files = [manifest] if manifest.is_file() else sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
