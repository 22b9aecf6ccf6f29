"""Real object storage for tests: servers on loopback, each ended with its block."""

import json
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

KEY, SECRET = "PODIUM", "only-for-tests"
BUCKET = "shop"
START_S = 30.0


@dataclass(frozen=True)
class Server:
    """A server with one bucket, and how to reach it."""

    endpoint: str
    key: str = KEY
    secret: str = SECRET

    @property
    def environment(self) -> dict[str, str]:
        """What a user of this server sets, and nothing of the machine's own settings."""
        return {
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Point this process at the server."""
        for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN", "AWS_MAX_ATTEMPTS", "AWS_REGION"):
            monkeypatch.delenv(name, raising=False)
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)

    @cached_property
    def client(self) -> Any:
        """A client of the test's own, to look behind Podium's back."""
        import boto3

        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
            region_name="eu-west-1",
        )

    def put(self, key: str, data: bytes) -> None:
        """Store an object in the bucket."""
        self.client.put_object(Bucket=BUCKET, Key=key, Body=data)

    def get(self, key: str) -> bytes:
        """An object's content."""
        return bytes(self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read())

    def keys(self, prefix: str = "") -> list[str]:
        """The keys in the bucket."""
        found = self.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
        return sorted(one["Key"] for one in found)


@contextmanager
def moto() -> Iterator[Server]:
    """moto's server: the whole of S3's semantics in memory, any signature."""
    port = free_port()
    with _serving(port, "moto_server", "-H", "127.0.0.1", "-p", str(port)) as server:
        server.client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        yield server


@contextmanager
def moto_for(*actions: str) -> Iterator[Server]:
    """moto's server, which from now on lets its user do nothing but ``actions``, such as ``s3:GetObject``."""
    import boto3

    with moto() as server:
        everything = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET, "region_name": "eu-west-1"}
        iam = boto3.session.Session().client("iam", endpoint_url=server.endpoint, **everything)
        iam.create_user(UserName="somebody")
        allowed = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
        iam.put_user_policy(UserName="somebody", PolicyName="some", PolicyDocument=policy)
        key = iam.create_access_key(UserName="somebody")["AccessKey"]
        enforce = urllib.request.Request(
            f"{server.endpoint}/moto-api/reset-auth", data=b"0", headers={"Content-Type": "text/plain"}
        )
        urllib.request.urlopen(enforce, timeout=START_S).close()
        yield Server(server.endpoint, key["AccessKeyId"], key["SecretAccessKey"])


@contextmanager
def rclone(folder: Path, *options: str) -> Iterator[Server]:
    """rclone over a local folder: real signatures, objects are files in ``folder/shop``."""
    (folder / BUCKET).mkdir(parents=True, exist_ok=True)
    port = free_port()
    options = ("--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}", "--config", "/dev/null", *options)
    with _serving(port, "rclone", "serve", "s3", *options, str(folder)) as server:
        yield server


@contextmanager
def _serving(port: int, program: str, *arguments: str) -> Iterator[Server]:
    """A program of the environment's that serves on a port."""
    command = [str(Path(sys.executable).with_name(program)), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port, process)
        yield Server(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(timeout=START_S)


@contextmanager
def answering(status: int, body: bytes = b"", **headers: str) -> Iterator[tuple[Server, list[str]]]:
    """A server that gives every request the same answer; with the requests that it saw."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(f"{self.command} {self.path}")
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else body)

        do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            """Tests are quiet."""

    serving = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=serving.serve_forever, daemon=True)
    thread.start()
    try:
        yield Server(f"http://127.0.0.1:{serving.server_address[1]}"), seen
    finally:
        serving.shutdown()
        serving.server_close()
        thread.join(START_S)


@contextmanager
def silent(first: bytes = b"") -> Iterator[Server]:
    """A server that takes every connection, sends ``first``, and then nothing."""
    listening = socket.create_server(("127.0.0.1", 0))
    taken: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                connection = listening.accept()[0]
            except OSError:  # closed below
                return
            taken.append(connection)
            connection.sendall(first)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield Server(f"http://127.0.0.1:{listening.getsockname()[1]}")
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        for connection in taken:
            connection.close()
        thread.join(START_S)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        assert process.poll() is None, "the server ended at once"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"nothing listens on port {port} after {START_S:g} s")
