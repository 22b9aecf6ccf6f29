"""Rows from S3, against botocore's own stub of the service: requests are built and checked, none is sent."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.response import StreamingBody
from botocore.stub import Stubber

from recipes.data import s3
from recipes.data.splits import SPLITS, load
from recipes.schema import Data
from sweeps.errors import InvalidInput, ServiceUnreachable

URL = "s3://shop/rows/2026.jsonl"
ASKED = {"Bucket": "shop", "Key": "rows/2026.jsonl"}


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
    client = boto3.client("s3", region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x")
    monkeypatch.setattr(boto3, "client", lambda service: client)
    with Stubber(client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


def answer(stub: Stubber, data: bytes) -> None:
    body: Any = StreamingBody(io.BytesIO(data), len(data))
    stub.add_response("get_object", {"Body": body}, ASKED)


def lines(number: int) -> bytes:
    return b"".join(f'{{"prompt": "Question {n}", "completion": "Yes."}}\n'.encode() for n in range(number))


def test_an_object_is_split_as_a_file_is(stub: Stubber, tmp_path: Path) -> None:
    answer(stub, b"\xef\xbb\xbf" + lines(80))
    (tmp_path / "rows.jsonl").write_bytes(lines(80))
    assert load(Data(path=URL), tmp_path).sha256 == load(Data(path="rows.jsonl"), tmp_path).sha256
    assert len(SPLITS) == 4


def test_a_line_that_is_not_json_is_told_as_in_a_file(stub: Stubber) -> None:
    answer(stub, lines(2) + b"{\n")
    with pytest.raises(InvalidInput, match=rf"line 3: {URL}: not JSON: Expecting property name"):
        load(Data(path=URL), Path())


def test_another_encoding_is_refused(stub: Stubber) -> None:
    answer(stub, b'{"prompt": "Zw\xf6lf')
    with pytest.raises(InvalidInput, match=rf"{URL} is not UTF-8: byte 14 is 0xf6"):
        load(Data(path=URL), Path())


@pytest.mark.parametrize("code", ["NoSuchKey", "NoSuchBucket", "AccessDenied"])
def test_what_s3_refuses_is_the_users_to_mend(stub: Stubber, code: str) -> None:
    stub.add_client_error("get_object", code, expected_params=ASKED)
    with pytest.raises(InvalidInput) as caught:
        s3.read_bytes(URL)
    assert str(caught.value) == (
        f"{URL}: S3 answered {code} for bucket 'shop', key 'rows/2026.jsonl' (check the name and the credentials)"
    )


def test_an_endpoint_that_does_not_answer_is_a_service_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ServiceUnreachable, match="Could not connect to the endpoint URL"):
        s3.read_bytes(URL)
