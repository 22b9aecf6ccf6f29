"""Data from ``s3://bucket/key``. Endpoint, profile and region come from the environment, as boto3 reads them."""

from sweeps.errors import InvalidInput, Problem, ServiceUnreachable


def read_bytes(url: str) -> bytes:
    """The object at an ``s3://`` URL.

    Raises:
        InvalidInput: No such bucket or object, or no right to read it, or boto3 is not installed.
        ServiceUnreachable: The endpoint does not answer.
    """
    try:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        raise InvalidInput(Problem(url, "reading s3:// needs boto3", "pip install 'podium[s3]'")) from None
    bucket, _, key = url.removeprefix("s3://").partition("/")
    try:
        return bytes(boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())
    except ClientError as error:
        rule = f"S3 answered {error.response['Error']['Code']} for bucket {bucket!r}, key {key!r}"
        raise InvalidInput(Problem(url, rule, "check the name and the credentials")) from None
    except BotoCoreError as error:
        raise ServiceUnreachable(f"{url}: {error}") from None
