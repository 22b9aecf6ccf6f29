"""Cases of bundles that are not what they were, of object storage that does not do what it should, and of MLflow."""

import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from analysis import manifest
from tests.launchers.stage import Arrange, Case, Stage, plan, submit
from tests.storage import BUCKET, Server, answering, free_port, moto, rclone, silent


def bundle(change: Callable[[Path], Any]) -> Arrange:
    """A bundle in the sweep's folder, changed after it was made."""

    def arrange(stage: Stage) -> None:
        folder = stage.here / "bundle"
        for name in ("adapter_model.safetensors", "adapter_config.json", "champion.json", "README.md"):
            stage.write(f"bundle/{name}", f"what {name} holds")
        manifest.write(folder)
        change(folder)

    return arrange


def flip(folder: Path) -> None:
    """Change one byte and not the length."""
    path = folder / "adapter_model.safetensors"
    content = bytearray(path.read_bytes())
    content[5] ^= 1
    path.write_bytes(content)


def shorten(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:10])


def lead_out(folder: Path) -> None:
    """The manifest speaks of a file above the bundle."""
    path = folder / manifest.FILE_NAME
    content = json.loads(path.read_bytes())
    content["files"]["../small.yaml"] = next(iter(content["files"].values()))
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def link(folder: Path) -> None:
    """A file of the bundle is a link to one beside it."""
    shutil.copyfile(folder / "README.md", folder.parent / "elsewhere")
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to(folder.parent / "elsewhere")


def served(
    serve: Callable[[Path], AbstractContextManager[Any]], **environment: str
) -> Callable[[Callable[[Server], Any]], Arrange]:
    """Object storage on this machine, with what a user of it sets; ``environment`` changes that."""

    def with_(fill: Callable[[Server], Any]) -> Arrange:
        def arrange(stage: Stage) -> None:
            folder = stage.here / "storage"
            folder.mkdir()
            found = stage.stack.enter_context(serve(folder))
            server: Server = found[0] if isinstance(found, tuple) else found
            stage.environment |= {**server.environment, **environment}
            stage.values["storage"] = server.endpoint
            fill(server)

        return arrange

    return with_


def empty(server: Server) -> None:
    """Nothing is in the bucket."""


def nobody(stage: Stage) -> None:
    """The environment names a server that is not there."""
    endpoint = f"http://127.0.0.1:{free_port()}"
    stage.environment |= {**Server(endpoint).environment, "AWS_MAX_ATTEMPTS": "1"}
    stage.values["storage"] = endpoint


def half_uploaded(server: Server) -> None:
    server.put("champions/small/adapter_model.safetensors", b"what came before the line was cut")


def mlflow_away(stage: Stage) -> None:
    stage.values["mlflow"] = stage.environment["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{free_port()}"


def verify(what: str, change: Callable[[Path], Any], message: str) -> Case:
    return Case(what, message, "", ("verify", "{here}/bundle"), 7, bundle(change))


_MOTO = served(lambda folder: moto())
_TO = (f"export.to=s3://{BUCKET}/champions/",)
_DATA = f"set.data.path=s3://{BUCKET}/rows.jsonl"
_PLACE = f"s3://{BUCKET}/champions/small"

BUNDLES = (
    verify(
        "One byte of it was changed",
        flip,
        "files: adapter_model.safetensors was changed: its SHA-256 is not the manifest's",
    ),
    verify(
        "A file was cut short", shorten, "files: adapter_model.safetensors was changed: its size is not the manifest's"
    ),
    verify("A file is missing", lambda folder: (folder / "README.md").unlink(), "files: README.md is missing"),
    verify("A file was added", lambda folder: (folder / "run.py").touch(), "files: run.py is not in the manifest"),
    verify("Its manifest names a path outside", lead_out, "files: '../small.yaml' leads out of the bundle"),
    verify(
        "A file is a link to another place",
        link,
        "files: README.md is a link or a special file, which a bundle never holds",
    ),
    verify(
        "It has no manifest: it was downloaded by half",
        lambda folder: (folder / manifest.FILE_NAME).unlink(),
        "files: manifest.json is missing",
    ),
    Case(
        "It was uploaded by half",
        "files: manifest.json is missing",
        "its upload was not finished, or it is no bundle",
        ("verify", _PLACE),
        7,
        _MOTO(half_uploaded),
    ),
)

STORAGE = (
    submit(
        "The bucket is missing",
        ("export.to=s3://nowhere/champions/",),
        "s3://nowhere/champions/small: there is no bucket 'nowhere'",
        "make it, or check its name and AWS_ENDPOINT_URL",
        _MOTO(empty),
    ),
    submit(
        "The credentials are wrong",
        _TO,
        f"{_PLACE}: the secret key does not fit the access key",
        "check AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and the endpoint",
        served(rclone, AWS_SECRET_ACCESS_KEY="no-longer-this")(empty),
    ),
    submit(
        "There are no credentials",
        _TO,
        f"{_PLACE}: Unable to locate credentials",
        "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        served(rclone, AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")(empty),
    ),
    submit(
        "Nothing answers there",
        _TO,
        f'{_PLACE}: Could not connect to the endpoint URL: "{{storage}}/shop',
        arrange=nobody,
        code=5,
    ),
    submit(
        "The server answers that it cannot",
        _TO,
        f"{_PLACE}: the server answered 503 once: Service Unavailable",
        arrange=served(lambda folder: answering(503), AWS_MAX_ATTEMPTS="1")(empty),
        code=5,
    ),
    submit(
        "The server takes the question and does not answer",
        _TO,
        f'{_PLACE}: Read timeout on endpoint URL: "{{storage}}/shop',
        arrange=served(lambda folder: silent(), AWS_MAX_ATTEMPTS="1")(empty),
        code=5,
    ),
    submit(
        "The place is no URL of S3",
        ("export.to=s3:/shop",),
        "s3:/shop: only s3:// URLs can be used here",
        "write s3://bucket/key, or a local path",
    ),
    plan(
        "The rows are not in the bucket",
        _DATA,
        f"s3://{BUCKET}/rows.jsonl: there is no object 'rows.jsonl' in bucket '{BUCKET}'",
        "check its name",
        _MOTO(empty),
    ),
)

MLFLOW = (
    submit(
        "MLflow does not answer at the start",
        (),
        "MLflow at {mlflow} cannot be reached: Connection refused",
        "",
        mlflow_away,
        code=5,
    ),
)
