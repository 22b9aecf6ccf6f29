"""Checks of S3: the endpoint answers, the credentials are taken, and a place can be written."""

import os

from launchers.doctor.check import Check, Finding, not_checked, ok
from launchers.doctor.services import skew
from recipes import objects
from sweeps.errors import InvalidInput, Problem

CONFIGURED = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_ACCESS_KEY_ID")
CONNECT_S, ANSWER_S = 3, 5


def s3_check(url: str | None) -> Check:
    """The place that ``url`` names, or what the environment says of S3.

    Raises:
        InvalidInput: ``url`` is not ``s3://bucket/prefix``.
    """
    if url is not None:
        try:
            objects.folder_of(url)
        except InvalidInput as error:
            problems = [Problem(f"--s3 {problem.where}", problem.rule, problem.hint) for problem in error.problems]
            raise InvalidInput(problems) from None
    return Check("S3", lambda: look(url), limit_s=90, service=True)


def look(url: str | None) -> list[Finding]:
    """Ask S3 with short time limits, as an export would. Leaves nothing there.

    Raises:
        InvalidInput: Wrong credentials, no such bucket, or a right is missing.
        ServiceUnreachable: It does not answer, or answers that it cannot.
    """
    if url is None and not any(os.environ.get(name) for name in CONFIGURED):
        return [not_checked("no S3 is configured", "--s3 s3://bucket/prefix checks a place there")]
    if url is not None:
        objects.check_folder(objects.folder_of(url))
    endpoint = _ask()
    says = f"{endpoint} answers and takes the credentials; --s3 s3://bucket/prefix checks a place there"
    if url is not None:
        says = f"{url} can be read and written, at {endpoint}"
    return [ok(says), skew(endpoint, "S3")]


def _ask() -> str:
    """Ask for the list of buckets, which every server knows; return the address that was asked."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import ClientError

    limits = Config(connect_timeout=CONNECT_S, read_timeout=ANSWER_S, retries={"total_max_attempts": 2})
    with objects.told(objects.Place("", "")):
        client = boto3.session.Session().client("s3", config=limits)
        try:
            client.list_buckets()
        except ClientError as error:
            if error.response["Error"].get("Code") != "AccessDenied":  # few may list buckets, and they need not
                raise
    return str(client.meta.endpoint_url)
