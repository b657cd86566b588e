"""From a URL to a store: what is accepted, what is refused, and that nothing secret is repeated."""

import subprocess
import sys
from pathlib import Path

import pytest

from registry.blobs.filesystem import FolderStore
from registry.blobs.locate import open_store
from registry.blobs.memory import MemoryStore
from registry.blobs.s3 import S3Location, S3Store
from registry.domain.errors import InvalidSetting

S3_URLS = {
    "s3://bucket": S3Location("bucket"),
    "s3://my.bucket-1/": S3Location("my.bucket-1"),
    "s3://bucket/a/prefix/?region=eu-west-1": S3Location("bucket", "a/prefix", region="eu-west-1"),
    "s3://bucket?endpoint_url=http://127.0.0.1:9000": S3Location("bucket", endpoint_url="http://127.0.0.1:9000"),
    "s3://bucket/p?endpoint_url=http%3A%2F%2Frgw&public_endpoint_url=https://s3.example.org&region=x": S3Location(
        "bucket", "p", "http://rgw", "https://s3.example.org", "x"
    ),
}
REFUSED = [
    "",
    " memory:",
    "memory:x",
    "memory:///",
    "memory:?a=b",
    "folder",
    "/srv/blobs",
    "http://bucket",
    "file:relative",
    "file://host/folder",
    "file:///",
    "file:////",
    "file:///folder?x=y",
    "file:///folder#x",
    "file:///a%00b",
    "file:///a\nb",
    "s3:bucket",
    "s3://",
    "s3://ab",
    "s3://Bucket",
    "s3://bucket:9000",
    "s3://a..b",
    "s3://bucket/../x",
    "s3://bucket/a//b",
    "s3://bucket/.",
    "s3://bucket/a b",
    "s3://bucket/%2e%2e",
    "s3://bucket#x",
    "s3://bucket?endpoint=http://x",
    "s3://bucket?region",
    "s3://bucket?region=",
    "s3://bucket?region=a&region=b",
    "s3://bucket?region=Eu West",
    "s3://bucket?endpoint_url=",
    "s3://bucket?endpoint_url=rgw:9000",
    "s3://bucket?endpoint_url=file:///etc",
    "s3://bucket?endpoint_url=http://",
    "s3://bucket?endpoint_url=http://x:99999",
    "s3://bucket?endpoint_url=http://x:0",
    "s3://bucket?endpoint_url=http://x/path",
    "s3://bucket?endpoint_url=http://[x",
    "s3://bucket?public_endpoint_url=ftp://x",
    "s3://[x",
]


def test_memory_is_a_new_store_each_time() -> None:
    first = open_store("memory:")
    assert isinstance(first, MemoryStore)
    assert open_store("memory:") is not first


@pytest.mark.parametrize(
    ("url", "path"),
    [("file:///srv/blobs", "/srv/blobs"), ("file://localhost/a%20b%3F", "/a b?"), ("file:///a/b/", "/a/b")],
)
def test_a_folder_is_named_by_its_absolute_path(url: str, path: str) -> None:
    store = open_store(url)
    assert isinstance(store, FolderStore)
    assert store.root == Path(path)


@pytest.mark.parametrize(("url", "location"), S3_URLS.items())
def test_a_bucket_is_named_with_its_prefix_and_options(url: str, location: S3Location) -> None:
    store = open_store(url)
    assert isinstance(store, S3Store)
    assert store.location == location


@pytest.mark.parametrize("url", REFUSED)
def test_an_impossible_url_is_refused_with_a_reason(url: str) -> None:
    with pytest.raises(InvalidSetting) as refused:
        open_store(url)
    assert refused.value.name == "ADAPTERS_BLOBS_URL"
    assert refused.value.reason


@pytest.mark.parametrize(
    "url",
    [
        "s3://KEYID:sec/ret@bucket",
        "s3://bucket?aws_secret_access_key=sec/ret",
        "s3://bucket?endpoint_url=http://KEYID:sec%2Fret@host",
        "s3://bucket?endpoint_url=http%3A%2F%2FKEYID:sec/ret@host",
        "https://KEYID:sec/ret@host/bucket",
    ],
)
def test_credentials_in_a_url_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InvalidSetting) as refused:
        open_store(url)
    for shown in (str(refused.value), repr(refused.value.detail)):
        assert "KEYID" not in shown
        assert "ret" not in shown.replace("secret_access", "")


def test_opening_a_store_touches_nothing(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/store")
    assert list(store.list()) == []
    assert list(store.staged()) == []
    assert store.stat("0" * 64) is None
    assert list(tmp_path.iterdir()) == []


def test_boto3_is_not_imported_before_the_first_request() -> None:
    program = (
        "import sys; from registry.blobs.locate import open_store; open_store('s3://bucket'); "
        "sys.exit(any(name in sys.modules for name in ('boto3', 'botocore', 'urllib3')))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
