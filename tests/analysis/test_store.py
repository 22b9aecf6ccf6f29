"""Bundles in object storage, on real servers: up and back the same, and every way in which one can be wrong there."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from analysis import manifest, store
from analysis.champion import choose
from analysis.export import export
from recipes import objects
from sweeps.errors import InvalidInput, VerificationFailed
from tests.analysis.synthetic import Tiny
from tests.storage import BUCKET, Server, moto
from tracking.ledger import SweepState

_places = (f"place{number}" for number in count())


@pytest.fixture(scope="module")
def any_key() -> Iterator[Server]:
    """A server that takes any key, as S3 does; rclone refuses those that are no path."""
    with moto() as server:
        yield server


@pytest.fixture
def lenient(any_key: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    any_key.use(monkeypatch)
    return any_key


@pytest.fixture
def bundle(with_adapters: SweepState, tiny: Tiny, tmp_path: Path) -> Path:
    return export(
        with_adapters,
        choose(with_adapters),
        tmp_path / "bundle",
        base_path=tiny.base,
        base_name="acme/tiny",
        tokenizer_from=tiny.base,
    )


@pytest.fixture
def url() -> str:
    """A folder that no other test uses."""
    return f"s3://{BUCKET}/{next(_places)}/champion"


def key(url: str, name: str = "") -> str:
    return f"{objects.folder_of(url).prefix}{name}"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_up_and_back_the_same(server: Server, bundle: Path, url: str) -> None:
    assert store.publish(bundle, url) == url
    with store.fetched(url) as copy:
        assert contents(copy) == contents(bundle)
        assert manifest.problems(copy) == []
    assert not copy.exists(), "a temporary folder is gone with its block"
    assert store.publish(bundle, url) == url, "it is there already"
    assert store.publish(bundle, f"{url}/") == url


def test_another_bundle_is_never_overwritten(server: Server, bundle: Path, url: str) -> None:
    store.publish(bundle, url)
    before = server.get(key(url, "champion.json"))
    path = bundle / "champion.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "note": "extended"}))
    manifest.write(bundle)
    with pytest.raises(InvalidInput, match="holds something else"):
        store.publish(bundle, url)
    assert store.publish(bundle, url, numbered=True) == f"{url}-2"
    assert store.publish(bundle, url, numbered=True) == f"{url}-2"
    assert server.get(key(url, "champion.json")) == before
    assert json.loads(server.get(key(f"{url}-2", "champion.json")))["note"] == "extended"


def test_a_bundle_made_again_at_another_time_is_the_same(server: Server, bundle: Path, url: str) -> None:
    store.publish(bundle, url)
    path = bundle / "champion.json"
    text = path.read_text()
    created = json.loads(text)["created"]
    path.write_text(text.replace(created, created.replace(created[:4], "2001")))
    manifest.write(bundle)
    assert store.publish(bundle, url, numbered=True) == url


def test_something_else_is_never_touched(server: Server, bundle: Path, url: str) -> None:
    server.put(key(url, "README.md"), b"mine")
    assert store.publish(bundle, url, numbered=True) == f"{url}-2"
    assert server.keys(key(url)) == [key(url, "README.md")]
    assert server.get(key(url, "README.md")) == b"mine"


def test_half_an_upload_is_no_bundle_and_is_gone_on_with(server: Server, bundle: Path, url: str) -> None:
    """The upload breaks off at a file that is gone; the manifest was to come last."""
    last = max(json.loads((bundle / manifest.FILE_NAME).read_bytes())["files"])
    content = (bundle / last).read_bytes()
    place = objects.folder_of(url)
    names = sorted(contents(bundle).keys() - {manifest.FILE_NAME})
    (bundle / last).unlink()
    with pytest.raises(InvalidInput, match="No such file"):
        objects.upload(bundle, [*names, manifest.FILE_NAME], place)
    (bundle / last).write_bytes(content)
    assert server.keys(key(url)) == [key(url, name) for name in names if name != last]
    with pytest.raises(VerificationFailed, match=r"manifest\.json is missing"), store.fetched(url):
        pass
    assert store.publish(bundle, url) == url
    with store.fetched(url) as copy:
        assert contents(copy) == contents(bundle)


def flip(server: Server, url: str) -> None:
    data = bytearray(server.get(key(url, "adapter_model.safetensors")))
    data[-1] ^= 1
    server.put(key(url, "adapter_model.safetensors"), bytes(data))


def cut(server: Server, url: str) -> None:
    server.put(key(url, "items.jsonl"), server.get(key(url, "items.jsonl"))[:-1])


def remove(server: Server, url: str) -> None:
    server.client.delete_object(Bucket=BUCKET, Key=key(url, "tokenizer.json"))


def add(server: Server, url: str) -> None:
    server.put(key(url, "merged/extra.bin"), b"x")


def break_manifest(server: Server, url: str) -> None:
    server.put(key(url, manifest.FILE_NAME), server.get(key(url, manifest.FILE_NAME)).replace(b"  ", b" "))


def list_outside(server: Server, url: str) -> None:
    content = json.loads(server.get(key(url, manifest.FILE_NAME)))
    content["files"]["../../secret"] = {"sha256": "0" * 64, "bytes": 1}
    server.put(key(url, manifest.FILE_NAME), (json.dumps(content, indent=2, sort_keys=True) + "\n").encode())


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (flip, "adapter_model.safetensors was changed: its SHA-256"),
        (cut, "items.jsonl was changed: its size"),
        (remove, "tokenizer.json is missing"),
        (add, "merged/extra.bin is not in the manifest"),
        (break_manifest, "manifest.json was changed"),
        (list_outside, "'../../secret' leads out of the bundle"),
    ],
)
def test_what_is_wrong_is_found(
    server: Server, bundle: Path, url: str, harm: Callable[[Server, str], None], words: str
) -> None:
    store.publish(bundle, url)
    harm(server, url)
    try:
        with store.fetched(url) as copy:
            found = "; ".join(manifest.problems(copy))
    except VerificationFailed as error:
        found = str(error)
        assert found.startswith(f"{url} is not what it claims to be.\nfiles: ")
    assert words in found


def list_too(server: Server, url: str, name: str) -> None:
    """Store a file of one byte, and list it in the manifest as if it belonged there."""
    server.put(key(url) + name, b"x")
    content = json.loads(server.get(key(url, manifest.FILE_NAME)))
    content["files"][name] = {"sha256": hashlib.sha256(b"x").hexdigest(), "bytes": 1}
    server.put(key(url, manifest.FILE_NAME), (json.dumps(content, indent=2, sort_keys=True) + "\n").encode())


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "a//b", "./c", "a\\b"])
def test_keys_that_lead_out_are_refused(lenient: Server, bundle: Path, tmp_path: Path, url: str, name: str) -> None:
    store.publish(bundle, url)
    lenient.put(key(url) + name, b"x")
    with pytest.raises(VerificationFailed, match="is not in the manifest"), store.fetched(url):
        pass
    list_too(lenient, url, name)
    with pytest.raises(VerificationFailed, match="leads out of the bundle"), store.fetched(url):
        pass
    assert not list(tmp_path.rglob("*evil*"))


def test_a_file_that_is_a_folder_too_is_refused(lenient: Server, bundle: Path, url: str) -> None:
    store.publish(bundle, url)
    list_too(lenient, url, "a")
    list_too(lenient, url, "a/b")
    with pytest.raises(VerificationFailed, match="a is listed as a file and as a folder"), store.fetched(url):
        pass


def test_nothing_there(server: Server, url: str) -> None:
    with pytest.raises(InvalidInput, match="nothing is there"), store.fetched(url):
        pass


def test_a_bucket_full_of_other_things_is_not_downloaded(server: Server, url: str) -> None:
    for number in range(3):
        server.put(key(url, f"logs/{number}.txt"), b"x")
    with pytest.raises(VerificationFailed, match=r"manifest\.json is missing"), store.fetched(url.rsplit("/", 1)[0]):
        pass


def test_folders_that_a_console_made_do_not_count(lenient: Server, bundle: Path, url: str) -> None:
    lenient.put(key(url), b"")
    assert store.publish(bundle, url) == url
    lenient.put(key(url, "merged/"), b"")
    with store.fetched(url) as copy:
        assert manifest.problems(copy) == []


def test_the_local_copy_is_not_changed(server: Server, bundle: Path, url: str, tmp_path: Path) -> None:
    before = shutil.copytree(bundle, tmp_path / "before")
    store.publish(bundle, url)
    assert contents(bundle) == contents(before)
