"""Object storage on real servers: moto for S3's semantics, rclone for real signatures, and servers that misbehave."""

import base64
import hashlib
import random
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes import objects
from recipes.objects import Place
from sweeps.errors import InvalidInput, ServiceUnreachable
from tests.storage import BUCKET, Server, answering, free_port, moto, moto_for, rclone, silent

BIG = random.Random(0).randbytes(objects.PART_BYTES * 2 + 12_345)  # three parts


def place(key: str) -> Place:
    return objects.folder_of(f"s3://{BUCKET}/{key}")


def test_a_large_object_comes_in_parts_and_once(server: Server, tmp_path: Path) -> None:
    server.put("data/big.bin", BIG)
    url = f"s3://{BUCKET}/data/big.bin"
    path = objects.fetch(url, tmp_path)
    assert path.read_bytes() == BIG
    kept = path.stat().st_mtime_ns
    assert objects.fetch(url, tmp_path) == path
    assert path.stat().st_mtime_ns == kept
    assert objects.read(url) == BIG
    server.put("data/big.bin", BIG[::-1])
    assert objects.fetch(url, tmp_path).read_bytes() == BIG[::-1], "another version is another file"
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("key", ["empty", "a b+%ü/#?&=.jsonl"])
def test_any_key_and_an_empty_object(server: Server, tmp_path: Path, key: str) -> None:
    server.put(f"keys/{key}", b"" if key == "empty" else b"{}\n")
    assert objects.read(f"s3://{BUCKET}/keys/{key}", tmp_path) == (b"" if key == "empty" else b"{}\n")


def test_a_folder_goes_up_in_its_order_and_comes_down_the_same(server: Server, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "merged").mkdir(parents=True)
    files = {"w.safetensors": BIG, "merged/ü b.txt": b"b", "empty.json": b"", "manifest.json": b"{}"}
    for name, data in files.items():
        (source / name).write_bytes(data)
    folder = place("up/bundle")
    objects.upload(source, files, folder)
    assert objects.listing(folder, 100) == {name: len(data) for name, data in files.items()}
    assert len(objects.listing(folder, 2)) == 2
    assert objects.listing(place("up/bun"), 100) == {}, "a prefix ends where a folder does"
    copy = tmp_path / "copy"
    objects.download(folder, files, copy)
    assert {path.relative_to(copy).as_posix(): path.read_bytes() for path in copy.rglob("*") if path.is_file()} == files
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_download_that_fails_leaves_nothing(server: Server, tmp_path: Path) -> None:
    server.put("half/a", b"a")
    with pytest.raises(InvalidInput, match="there is no object"):
        objects.download(place("half"), ["a", "b"], tmp_path / "copy")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil"])
def test_a_name_that_leads_out_is_not_written(server: Server, tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="leads out of a folder"):
        objects.download(place("out"), [name], tmp_path / "copy")
    assert not list(tmp_path.rglob("*evil*"))


def test_a_place_that_can_be_written_is_left_as_it_was(server: Server) -> None:
    objects.check_folder(place("probe/champion"))
    assert server.keys("probe/") == []
    assert server.client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []) == []


def test_what_is_missing_is_told(server: Server, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"there is no object 'gone\.jsonl' in bucket 'shop'"):
        objects.read(f"s3://{BUCKET}/gone.jsonl", tmp_path)
    with pytest.raises(InvalidInput, match="there is no bucket 'nowhere'"):
        objects.read("s3://nowhere/rows.jsonl", tmp_path)
    with pytest.raises(InvalidInput, match="there is no bucket 'nowhere'"):
        objects.check_folder(objects.folder_of("s3://nowhere/champion"))


def test_sha256_goes_along(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"hello")
    with moto() as server:
        server.use(monkeypatch)
        objects.upload(tmp_path, ["a"], place("x"))
        head = server.client.head_object(Bucket=BUCKET, Key="x/a", ChecksumMode="ENABLED")
        assert base64.b64decode(head["ChecksumSHA256"]) == hashlib.sha256(b"hello").digest()
        monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
        objects.upload(tmp_path, ["a"], place("y"))
        assert "ChecksumSHA256" not in server.client.head_object(Bucket=BUCKET, Key="y/a", ChecksumMode="ENABLED")


# Credentials ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with rclone(tmp_path_factory.mktemp("strict")) as server:
        yield server


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("AWS_SECRET_ACCESS_KEY", "wrong", "the secret key does not fit the access key"),
        ("AWS_ACCESS_KEY_ID", "NOBODY", "the server does not know this access key"),
        ("AWS_SECRET_ACCESS_KEY", None, "Partial credentials found in env, missing: AWS_SECRET_ACCESS_KEY"),
        ("AWS_PROFILE", "nobody", r"The config profile \(nobody\) could not be found"),
        ("AWS_ENDPOINT_URL_S3", "localhost:9000", "Invalid endpoint: localhost:9000"),
    ],
)
def test_wrong_settings_are_the_users_to_mend(
    strict: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str | None, words: str
) -> None:
    strict.use(monkeypatch)
    strict.put("rows.jsonl", b"{}")
    monkeypatch.delenv(name, raising=False)
    if value is not None:
        monkeypatch.setenv(name, value)
    for attempt in (
        lambda: objects.read(f"s3://{BUCKET}/rows.jsonl", tmp_path),
        lambda: objects.listing(place("x"), 1),
        lambda: objects.check_folder(place("x")),
    ):
        with pytest.raises(InvalidInput, match=words) as caught:
            attempt()
        assert "wrong" not in str(caught.value).replace("wrong.", ""), "a secret is never quoted"
        assert "AWS_" in str(caught.value), "the way out is named"


def test_no_credentials_at_all(strict: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    strict.use(monkeypatch)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(InvalidInput, match=r"Unable to locate credentials \(set AWS_PROFILE, or AWS_ACCESS_KEY_ID"):
        objects.read(f"s3://{BUCKET}/rows.jsonl", tmp_path)


@pytest.mark.parametrize(
    ("allowed", "words"),
    [
        (["s3:GetObject"], r"no right to list what is there \(s3:ListBucket\)"),
        (["s3:ListBucket"], r"no right to read there \(s3:GetObject\)"),
        (["s3:ListBucket", "s3:GetObject"], r"no right to write there \(s3:PutObject\)"),
    ],
)
def test_a_right_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, allowed: list[str], words: str) -> None:
    with moto_for(*allowed) as server:
        server.use(monkeypatch)
        with pytest.raises(InvalidInput, match=words):
            objects.check_folder(place("champion"))


def test_writing_needs_no_right_to_delete(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    with moto_for("s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload") as server:
        server.use(monkeypatch)
        objects.check_folder(place("champion"))
        objects.upload(tmp_path, ["a"], place("champion"))
        assert objects.listing(place("champion"), 9) == {"a": 1}


def test_a_server_that_only_reads_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with rclone(tmp_path, "--read-only") as server:
        server.use(monkeypatch)
        with pytest.raises(ServiceUnreachable, match="answered 500 InternalError"):
            objects.check_folder(place("champion"))


# Servers that misbehave -----------------------------------------------------------------------------------------------


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Server(f"http://127.0.0.1:{free_port()}").use(monkeypatch)
    with pytest.raises(ServiceUnreachable, match="Could not connect to the endpoint URL"):
        objects.read(f"s3://{BUCKET}/a", tmp_path)


def test_503_for_ever_is_given_up_after_three_tries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    body = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
    with answering(503, body) as (server, seen):
        server.use(monkeypatch)
        with pytest.raises(ServiceUnreachable, match="answered 503 SlowDown 3 times: Please reduce"):
            objects.read(f"s3://{BUCKET}/a", tmp_path)
        assert len(seen) == 3
        (tmp_path / "a").write_bytes(b"a")
        with pytest.raises(ServiceUnreachable, match="answered 503 SlowDown"):
            objects.upload(tmp_path, ["a"], place("x"))


def test_what_is_no_s3_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(404, b"<html><p>Welcome to nginx!</html>") as (server, _):
        server.use(monkeypatch)
        with pytest.raises(InvalidInput, match=r"answered 404 to ListObjectsV2.*AWS_ENDPOINT_URL"):
            objects.listing(place("x"), 1)
    with answering(200, b"<html><p>Welcome to nginx!</html>") as (server, _):
        server.use(monkeypatch)
        with pytest.raises(ServiceUnreachable, match="answered 500 3 times"):  # as botocore takes such a page
            objects.listing(place("x"), 1)


@pytest.mark.slow
def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(objects, "ANSWER_S", 0.3)
    monkeypatch.setattr(objects, "STALL_S", 0.3)
    (tmp_path / "a").write_bytes(b"a")
    with silent() as server:
        server.use(monkeypatch)
        for attempt in (
            lambda: objects.read(f"s3://{BUCKET}/a", tmp_path),
            lambda: objects.check_folder(place("x")),
            lambda: objects.upload(tmp_path, ["a"], place("x")),
            lambda: objects.download(place("x"), ["a"], tmp_path / "copy"),
        ):
            with pytest.raises(ServiceUnreachable, match="Read timeout on endpoint URL"):
                attempt()
    assert [path.name for path in tmp_path.iterdir() if path.name != "objects"] == ["a"]


def test_a_body_that_stops_in_its_middle_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(objects, "STALL_S", 0.3)
    with silent(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nETag: "x"\r\n\r\nhalf') as server:
        server.use(monkeypatch)
        with pytest.raises(ServiceUnreachable, match="x"):
            objects.download(place("x"), ["a"], tmp_path / "copy")
    assert list(tmp_path.iterdir()) == []


def test_damage_on_the_way_is_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    crc32 = base64.b64encode(zlib.crc32(b'{"a": 1}').to_bytes(4, "big")).decode()
    with answering(200, b'{"a": 2}', ETag='"x"', x_amz_checksum_crc32=crc32) as (server, _):
        server.use(monkeypatch)
        with pytest.raises(ServiceUnreachable, match="what arrived is not what the server holds"):
            objects.read(f"s3://{BUCKET}/rows.jsonl", tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@given(data=st.binary(min_size=1, max_size=300), place=st.integers(0), bit=st.integers(0, 7))
def test_a_whole_objects_checksum_shows_every_flipped_bit(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, place: int, bit: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "flipped"
    changed = bytearray(data)
    changed[place % len(data)] ^= 1 << bit
    sums = {
        "ChecksumSHA256": hashlib.sha256(data).digest(),
        "ChecksumCRC32": zlib.crc32(data).to_bytes(4, "big"),
    }
    for name, value in sums.items():
        answer = {"ChecksumType": "FULL_OBJECT", name: base64.b64encode(value).decode()}
        path.write_bytes(data)
        assert not objects.differs(path, answer)
        path.write_bytes(changed)
        assert objects.differs(path, answer)
        assert objects.differs(path, {name: answer[name], "ETag": '"0af2"'})
        assert not objects.differs(path, {name: answer[name], "ETag": '"0af2-3"'}), "that is of the parts"
        assert not objects.differs(path, {**answer, "ChecksumType": "COMPOSITE"})


# URLs -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("gs://shop/rows.jsonl", "only s3:// URLs can be used here"),
        ("https://example.com/rows.jsonl", "only s3:// URLs can be used here"),
        ("S3://shop/rows.jsonl", "only s3:// URLs can be used here"),
        ("s3:/shop/rows.jsonl", "only s3:// URLs can be used here"),
        ("s3:///rows.jsonl", "'' is no name of a bucket"),
        ("s3://my shop/rows.jsonl", "'my shop' is no name of a bucket"),
        ("s3://shop/", "names a folder, not an object"),
        ("s3://shop", "names a folder, not an object"),
        ("s3://shop/rows/", "names a folder, not an object"),
    ],
)
def test_a_url_that_names_no_object(url: str, words: str) -> None:
    assert objects.is_url(url)
    with pytest.raises(InvalidInput) as caught:
        objects.read(url)
    assert str(caught.value).startswith(f"{url}: ")
    assert words in str(caught.value)


@pytest.mark.parametrize("key", ["../x", "a/../b", "a//b", "/a", "./a", "a/.", "a\\b", "a\nb", "a//"])
def test_a_folder_with_an_odd_key(key: str) -> None:
    with pytest.raises(InvalidInput, match="is no plain path"):
        objects.folder_of(f"s3://shop/{key}")


@given(st.lists(st.text("abü.-_ %", min_size=1).filter(lambda part: part not in (".", "..")), max_size=4))
def test_a_folders_url_reads_back(parts: list[str]) -> None:
    folder = Place("shop", "/".join(parts))
    assert objects.folder_of(str(folder)) == folder
    assert objects.folder_of(f"{folder}/") == folder
    assert (folder / "manifest.json").key == "/".join([*parts, "manifest.json"])


@pytest.mark.parametrize("text", ["rows.jsonl", "./s3/rows.jsonl", "/data/a:b.jsonl", "~/rows", "C3PO"])
def test_a_path_is_no_url(text: str) -> None:
    assert not objects.is_url(text)
