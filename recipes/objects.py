"""Objects in S3, and in all that speaks its protocol: reading one, and copying folders up and down.

Endpoint, profile, region and credentials come from the environment, as boto3 reads them. A server that does not answer
is given up after a bounded time, and whatever boto3 raises becomes one error with the way out.
"""

import hashlib
import os
import re
import shutil
import tempfile
import zlib
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from sweeps.errors import InvalidInput, PodiumError, Problem, ServiceUnreachable

# Each request is tried three times, unless AWS_MAX_ATTEMPTS says otherwise.
CONNECT_S = 5.0
ANSWER_S = 15.0  # the longest silence before an answer
STALL_S = 60.0  # the same while a file is under way: a server may take long to put a large object together
PART_BYTES = 16 * 2**20  # larger files travel in parts of this size, several at once

_URL = re.compile(r"[a-z][a-z0-9+.-]*://|s3:", re.IGNORECASE)  # "s3:/bucket" is a slip, not a folder called "s3:"
_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}")
_UNAVAILABLE = ("SlowDown", "Throttling", "ThrottlingException", "RequestTimeout", "RequestLimitExceeded")
_RIGHTS = {
    "GetObject": "read there (s3:GetObject)",
    "HeadObject": "read there (s3:GetObject)",
    "ListObjectsV2": "list what is there (s3:ListBucket)",
}
_KEY_HINT = "check AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and the endpoint"
_RIGHT_HINT = "give these credentials the right, or choose others with AWS_PROFILE"
_REFUSALS = {
    "NoSuchBucket": ("there is no bucket {bucket!r}", "make it, or check its name and AWS_ENDPOINT_URL"),
    "NoSuchKey": ("there is no object {key!r} in bucket {bucket!r}", "check its name"),
    "InvalidAccessKeyId": ("the server does not know this access key", _KEY_HINT),
    "SignatureDoesNotMatch": ("the secret key does not fit the access key", _KEY_HINT),
    "ExpiredToken": ("the credentials have expired", "log in again"),
    "InvalidToken": ("the session token is not valid", "log in again, or unset AWS_SESSION_TOKEN"),
    "RequestTimeTooSkewed": ("this machine's clock differs too much from the server's", "set the clock"),
}


def is_url(text: str) -> bool:
    """Whether a text is meant as a URL and not as a path."""
    return bool(_URL.match(text))


@dataclass(frozen=True)
class Place:
    """A bucket and a key in it; of a folder, the key without a slash at its end, empty for the whole bucket."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}".rstrip("/")

    def __truediv__(self, name: str) -> "Place":
        return Place(self.bucket, f"{self.prefix}{name}")

    @property
    def prefix(self) -> str:
        """What the keys of everything in this folder begin with."""
        return f"{self.key}/" if self.key else ""


def place_of(url: str) -> Place:
    """The object that a URL names.

    Raises:
        InvalidInput: It is not of the form ``s3://bucket/key``.
    """
    bucket, _, key = url.removeprefix("s3://").partition("/")
    if not url.startswith("s3://"):
        raise InvalidInput(Problem(url, "only s3:// URLs can be used here", "write s3://bucket/key, or a local path"))
    if not _BUCKET.fullmatch(bucket):
        rule = f"{bucket!r} is no name of a bucket"
        raise InvalidInput(Problem(url, rule, "write s3://bucket/key; letters, digits, '.', '-' and '_' name a bucket"))
    return Place(bucket, key)


def folder_of(url: str) -> Place:
    """The folder that a URL names: everything whose key begins with it.

    Raises:
        InvalidInput: It is not of the form ``s3://bucket/prefix``, or its key could not be a path.
    """
    place = place_of(url)
    key = place.key.removesuffix("/")
    if key and not is_plain(key):
        rule = f"the key {key!r} is no plain path"
        raise InvalidInput(Problem(url, rule, "leave out empty parts, '.', '..', backslashes and control characters"))
    return Place(place.bucket, key)


def is_plain(name: str) -> bool:
    """Whether a name is a relative path that is written plainly and stays below the folder that it is taken from."""
    parts = name.split("/")
    return name.isprintable() and "\\" not in name and not any(part in ("", ".", "..") for part in parts)


def read(url: str, cache: Path | None = None) -> bytes:
    """The content of an object. With a cache, the version that the server holds is downloaded once.

    Raises:
        InvalidInput: No such bucket or object, or no right to read it.
        ServiceUnreachable: The server does not answer, answers that it cannot, or sends something damaged.
    """
    if cache is not None:
        return fetch(url, cache).read_bytes()
    with tempfile.TemporaryDirectory() as scratch:
        return fetch(url, Path(scratch)).read_bytes()


def fetch(url: str, cache: Path) -> Path:
    """The object as a file of the cache, checked for its length and its checksum. Raises as :func:`read` does."""
    place = place_of(url)
    if not place.key or place.key.endswith("/"):
        raise InvalidInput(Problem(url, "names a folder, not an object", "write s3://bucket/key, the URL of one file"))
    with told(place):
        client = _connect(ANSWER_S)
        # A GET that is not read: the answer to a HEAD has no body, which would say what is wrong.
        seen = client.get_object(Bucket=place.bucket, Key=place.key, ChecksumMode="ENABLED")
        seen["Body"].close()
        size, etag = seen["ContentLength"], seen.get("ETag", "")
        version = "\n".join((client.meta.endpoint_url, str(place), etag, str(size)))
        path = cache / "objects" / hashlib.sha256(version.encode()).hexdigest()[:32]
        if etag and path.is_file() and path.stat().st_size == size:
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")  # two sweeps may read the same data at once
        try:
            _downloader().download_file(place.bucket, place.key, str(part), Config=_transfer())
            if client.head_object(Bucket=place.bucket, Key=place.key).get("ETag", "") != etag:
                raise InvalidInput(Problem(url, "the object was changed while it was read", "try again"))
            if part.stat().st_size != size or differs(part, seen):
                raise ServiceUnreachable(f"{url}: what arrived is not what the server holds (length or checksum)")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    return path


def differs(path: Path, answer: Mapping[str, Any]) -> bool:
    """Whether a file is not the object, by the checksums of the whole object that the server's answer tells.

    Where a server does not say, it is of the whole unless that was uploaded in parts, which a hyphen in its ETag shows.
    """
    kind = answer.get("ChecksumType", "COMPOSITE" if "-" in answer.get("ETag", "") else "FULL_OBJECT")
    if kind != "FULL_OBJECT":
        return False
    sha256, crc32 = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            sha256.update(chunk)
            crc32 = zlib.crc32(chunk, crc32)
    found = {"ChecksumSHA256": sha256.digest(), "ChecksumCRC32": crc32.to_bytes(4, "big")}
    return any(name in answer and answer[name] != b64encode(value).decode() for name, value in found.items())


def listing(folder: Place, most: int) -> dict[str, int]:
    """The sizes in bytes of the objects in a folder, ``most`` at the most, by their names in it.

    The empty objects that consoles put down as folders are passed over. Raises as :func:`read` does.
    """
    with told(folder):
        pages = _connect(ANSWER_S).get_paginator("list_objects_v2").paginate(Bucket=folder.bucket, Prefix=folder.prefix)
        found = (one for page in pages for one in page.get("Contents", ()))
        files = (one for one in found if one["Size"] or not one["Key"].endswith("/"))
        return {one["Key"].removeprefix(folder.prefix): one["Size"] for one in islice(files, most)}


def exists(place: Place) -> bool:
    """Whether there is such an object. Raises as :func:`read` does."""
    with told(place):
        found = _connect(ANSWER_S).list_objects_v2(Bucket=place.bucket, Prefix=place.key, MaxKeys=1)
        return any(one["Key"] == place.key for one in found.get("Contents", ()))  # the first of all that begin so


def upload(source: Path, names: Iterable[str], folder: Place) -> None:
    """Copy files of a local folder, one after the other in the order given.

    Each is sent with its SHA-256, which the server checks and keeps, unless ``AWS_REQUEST_CHECKSUM_CALCULATION`` says
    ``when_required``. Raises as :func:`read` does.
    """
    with told(folder):
        client = _connect(STALL_S)
        sent = client.meta.config.request_checksum_calculation != "when_required"
        options = {"ChecksumAlgorithm": "SHA256"} if sent else {}
        for name in names:
            key = f"{folder.prefix}{name}"
            client.upload_file(str(source / name), folder.bucket, key, ExtraArgs=options, Config=_transfer())


def download(folder: Place, names: Iterable[str], to: Path) -> None:
    """Copy objects into a new local folder, which has its name only when all are there. Raises as :func:`read` does.

    Checksums are the caller's to compare.
    """
    draft = Path(tempfile.mkdtemp(prefix=f".{to.name}.", dir=to.parent))
    try:
        with told(folder):
            client = _downloader()
            for name in names:
                if not is_plain(name):
                    raise InvalidInput(Problem(str(folder), f"the key {name!r} in it leads out of a folder"))
                path = draft / name
                path.parent.mkdir(parents=True, exist_ok=True)
                client.download_file(folder.bucket, f"{folder.prefix}{name}", str(path), Config=_transfer())
            draft.chmod(0o755)
            draft.rename(to)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def check_folder(folder: Place) -> None:
    """Whether files can be listed, read and written in a folder. Leaves nothing there.

    Writing is tried by beginning an upload in parts and giving it up, which needs no right to delete.

    Raises:
        InvalidInput: No such bucket, wrong credentials, or a right is missing.
        ServiceUnreachable: The server does not answer, or answers that it cannot.
    """
    probe = folder / "manifest.json"
    at = {"Bucket": probe.bucket, "Key": probe.key}
    with told(folder):
        client = _connect(ANSWER_S)
        client.list_objects_v2(Bucket=folder.bucket, Prefix=folder.prefix, MaxKeys=1)
        try:
            client.get_object(**at)["Body"].close()
        except client.exceptions.NoSuchKey:
            pass
        upload_id = client.create_multipart_upload(**at)["UploadId"]
        client.abort_multipart_upload(**at, UploadId=upload_id)


def _connect(answer_s: float, **options: Any) -> Any:
    import boto3
    from botocore.config import Config

    config = Config(connect_timeout=CONNECT_S, read_timeout=answer_s, retries={"mode": "standard"}, **options)
    try:
        return boto3.session.Session().client("s3", config=config)  # a session of its own reads the environment anew
    except ValueError as error:
        hint = "write AWS_ENDPOINT_URL as http://host:port or https://host"
        raise InvalidInput(Problem("AWS_ENDPOINT_URL", str(error), hint)) from None


def _downloader() -> Any:
    # boto3 would hold each part against the object's checksum, which some servers tell for the whole.
    return _connect(STALL_S, response_checksum_validation="when_required")


def _transfer() -> Any:
    from boto3.s3.transfer import TransferConfig

    return TransferConfig(
        multipart_threshold=PART_BYTES,
        multipart_chunksize=PART_BYTES,
        num_download_attempts=3,
        preferred_transfer_client="classic",  # what an AWS machine may choose instead knows no limits of time
    )


@contextmanager
def told(place: Place) -> Iterator[None]:
    """Turn whatever boto3 raises within into one error of ours about ``place``."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError
    from s3transfer.exceptions import RetriesExceededError, S3DownloadFailedError

    try:
        yield
    except S3DownloadFailedError:
        raise InvalidInput(Problem(str(place), "the object was changed while it was read", "try again")) from None
    except (BotoCoreError, ClientError, Boto3Error, ResponseParserError, RetriesExceededError) as error:
        raise _explained(place, error) from None
    except OSError as error:
        raise InvalidInput(
            Problem(str(error.filename or place), f"cannot be used: {error.strerror or error}")
        ) from None


def _explained(place: Place, error: Any) -> PodiumError:
    from botocore import exceptions
    from botocore.parsers import ResponseParserError

    inner = getattr(error, "last_exception", None) or error.__context__  # transfers wrap what happened to a part
    if not isinstance(error, exceptions.BotoCoreError | exceptions.ClientError) and inner is not None:
        return _explained(place, inner)
    if isinstance(error, exceptions.ClientError):
        return _refused(place, error)
    if isinstance(error, ResponseParserError):
        rule = f"what answers does not speak S3: {str(error).splitlines()[0][:120]}"
        return InvalidInput(Problem(str(place), rule, "check AWS_ENDPOINT_URL"))
    lost = (exceptions.HTTPClientError, exceptions.ConnectionError, exceptions.IncompleteReadError, OSError)
    if isinstance(error, (*lost, exceptions.FlexibleChecksumError)):
        return ServiceUnreachable(f"{place}: {error}")
    without = (exceptions.NoCredentialsError, exceptions.PartialCredentialsError, exceptions.ProfileNotFound)
    hint = "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" if isinstance(error, without) else ""
    return InvalidInput(Problem(str(place), f"{error}", hint))


def _refused(place: Place, error: Any) -> PodiumError:
    """What the server's answer means, by its code."""
    answer, status = (
        error.response.get("Error", {}),
        error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0),
    )
    code, message = str(answer.get("Code", status)), str(answer.get("Message", ""))
    if status >= 500 or status == 429 or code in _UNAVAILABLE:
        tries = 1 + int(error.response["ResponseMetadata"].get("RetryAttempts", 0))
        times = f"{tries} times" if tries > 1 else "once"
        said = f"{status} {code}" if code != str(status) else code
        return ServiceUnreachable(f"{place}: the server answered {said} {times}: {message}")
    if status == 404 and error.operation_name == "HeadObject":  # whose answer has no body, so that it has no code
        code = "NoSuchKey"
    if code in _REFUSALS:
        rule, hint = _REFUSALS[code]
        return InvalidInput(Problem(str(place), rule.format(bucket=place.bucket, key=place.key), hint))
    if status == 403:
        right = _RIGHTS.get(error.operation_name, "write there (s3:PutObject)")
        return InvalidInput(Problem(str(place), f"the server answered {code}: no right to {right}", _RIGHT_HINT))
    rule = f"the server answered {code} to {error.operation_name}: {message}"
    return InvalidInput(Problem(str(place), rule, "check the URL, the credentials and AWS_ENDPOINT_URL"))
