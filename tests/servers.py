"""Servers that tests talk to over HTTP, as fixtures for any room's conftest to import."""

import logging
import os
import uuid
from functools import cache
from urllib.parse import urlencode

import boto3
import pytest
from moto.server import ThreadedMotoServer

CEPH = "ADAPTERS_TEST_S3_ENDPOINT"


@cache
def moto_endpoint() -> str:
    """Start a fast local S3 on a free port, once a process; it ends with the process."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line a request buries what failed
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    return f"http://{host}:{port}"


@cache
def bucket_on(endpoint: str) -> str:
    """Create a bucket on a server, once a process; returns its name."""
    name = f"test-{uuid.uuid4().hex}"
    boto3.session.Session().client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket=name)
    return name


def new_s3_url(endpoint: str) -> str:
    """The URL of an empty store: a prefix of its own in the server's bucket."""
    options = urlencode({"endpoint_url": endpoint, "region": "us-east-1"})
    return f"s3://{bucket_on(endpoint)}/some/{uuid.uuid4().hex}?{options}"


@pytest.fixture
def s3_endpoint(monkeypatch: pytest.MonkeyPatch) -> str:
    """A local S3 that takes any credentials, and some in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return moto_endpoint()


@pytest.fixture
def s3_store_url(s3_endpoint: str) -> str:
    """An empty S3 store on the local server."""
    return new_s3_url(s3_endpoint)


@pytest.fixture
def ceph_endpoint() -> str:
    """The Ceph RGW that `make test-ceph` starts, with credentials in the environment. For tests marked `ceph`."""
    if CEPH not in os.environ:
        pytest.skip(f"{CEPH} names no server; `make test-ceph` starts one")
    return os.environ[CEPH]


@pytest.fixture
def ceph_store_url(ceph_endpoint: str) -> str:
    """An empty store on Ceph RGW."""
    return new_s3_url(ceph_endpoint)
