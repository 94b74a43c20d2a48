"""An S3 server on this machine, as the tests of object stores need it: started by them, seen through boto3."""

from __future__ import annotations

import json
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}


@contextmanager
def serving() -> Iterator[str]:
    """The address of a server that lets everybody do everything."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def use(url: str, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Let the environment be that of a user of the server, and of nobody else's files and networks."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_SHARED_CREDENTIALS_FILE", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    named = {**KEYS, "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": url}
    named |= {"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(home), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    for name, value in named.items():
        monkeypatch.setenv(name, value)


def client(url: str, service: str = "s3") -> Any:
    """The outside eye."""
    import boto3

    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    return boto3.client(service, endpoint_url=url, region_name="us-east-1", **keys)


def objects(url: str, bucket: str, prefix: str = "") -> dict[str, bytes]:
    """Every object of a bucket below a prefix, by its name without it."""
    s3 = client(url)
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    names = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    return {name.removeprefix(prefix): s3.get_object(Bucket=bucket, Key=name)["Body"].read() for name in names}


def remove_bucket(url: str, bucket: str) -> None:
    """Let a bucket vanish with all that is in it."""
    s3 = client(url)
    for name in objects(url, bucket):
        s3.delete_object(Bucket=bucket, Key=name)
    s3.delete_bucket(Bucket=bucket)


def make_user(url: str) -> dict[str, str]:
    """The keys of a user who may do everything, once keys are looked at."""
    iam, name = client(url, "iam"), f"anna-{uuid.uuid4().hex}"
    iam.create_user(UserName=name)
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    iam.put_user_policy(UserName=name, PolicyName="all", PolicyDocument=json.dumps(policy))
    made = iam.create_access_key(UserName=name)["AccessKey"]
    return {"AWS_ACCESS_KEY_ID": made["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": made["SecretAccessKey"]}


@contextmanager
def keys_looked_at(url: str) -> Iterator[None]:
    """The server refuses whoever is none of its users."""
    _ask_for_keys(url, "0")
    try:
        yield
    finally:
        _ask_for_keys(url, "inf")


def _ask_for_keys(url: str, after: str) -> None:
    headers = {"Content-Type": "application/octet-stream"}
    request = urllib.request.Request(f"{url}/moto-api/reset-auth", data=after.encode(), headers=headers, method="POST")
    urllib.request.urlopen(request).close()
