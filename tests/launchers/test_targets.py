"""Where a bundle may go, asked before a sweep starts."""

from pathlib import Path

import pytest

from launchers import targets
from launchers.targets import check_target, resolve
from recipes import objects
from sweeps.errors import InvalidInput, ServiceUnreachable
from tests.storage import BUCKET, moto_for, rclone, silent


@pytest.mark.parametrize(
    ("to", "place"),
    [
        ("s3://shop/champions/", "s3://shop/champions/small"),
        ("s3://shop/champions/best", "s3://shop/champions/best"),
        ("s3://shop", "s3://shop/small"),
        ("s3://shop/", "s3://shop/small"),
    ],
)
def test_a_url_that_ends_with_a_slash_takes_the_sweeps_name(to: str, place: str) -> None:
    assert resolve(to, "small") == place
    assert resolve(place, "small") == place


def test_a_folder_is_the_bundles_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve("out/", "small") == resolve("out", "small") == tmp_path / "out"


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "a.tex").write_text("")
    for name, words in {"file/bundle": "file is no folder", "file": "is no bundle", "thesis": "is no bundle"}.items():
        with pytest.raises(InvalidInput, match=words):
            check_target(str(tmp_path / name), "small")
    (tmp_path / "empty").mkdir()
    for name in ("empty", "new", "new/deep/er"):
        check_target(str(tmp_path / name), "small")
    check_target(None, "small")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "thesis"], "nothing is made by asking"


def test_a_bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with rclone(tmp_path) as server:
        server.use(monkeypatch)
        check_target(f"s3://{BUCKET}/champions/", "small")
        assert server.keys() == []
        with pytest.raises(InvalidInput, match="there is no bucket 'nowhere'"):
            check_target("s3://nowhere/champions/", "small")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        with pytest.raises(InvalidInput, match="the secret key does not fit"):
            check_target(f"s3://{BUCKET}/champions/", "small")


def test_a_bucket_without_the_right_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    with moto_for("s3:ListBucket", "s3:GetObject") as server:
        server.use(monkeypatch)
        with pytest.raises(InvalidInput, match=r"no right to write there \(s3:PutObject\)"):
            check_target(f"s3://{BUCKET}/champions/", "small")


def test_a_server_that_is_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "CHECK_S", 0.5)
    with silent() as server:
        server.use(monkeypatch)
        with pytest.raises(ServiceUnreachable, match=r"s3://shop/champions/small: no answer within 0\.5 s"):
            check_target("s3://shop/champions/", "small")
        monkeypatch.setattr(targets, "CHECK_S", 60.0)
        monkeypatch.setattr(objects, "ANSWER_S", 0.2)
        with pytest.raises(ServiceUnreachable, match="Read timeout"):
            check_target("s3://shop/champions/", "small")
