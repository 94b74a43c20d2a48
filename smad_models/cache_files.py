"""Where a cache lies, a folder or an object store (s3://bucket/prefix), and how its files are reached by TensorStore.

Credentials, region and endpoint of an object store come from the usual environment: AWS_ACCESS_KEY_ID, AWS_PROFILE,
AWS_REGION, AWS_ENDPOINT_URL and the like.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import tensorstore as ts

Place = Path | str  # a folder or a link to one; or s3://bucket/prefix/cache.zarr

_SCHEME = "s3://"
# The cache pool is empty, since batches are read once and in no order. An object store that does not answer is named
# after seconds, not after the 32 tries of the library's own.
CONTEXT = {
    "cache_pool": {"total_bytes_limit": 0},
    "s3_request_retries": {"max_retries": 5, "initial_delay": "200ms", "max_delay": "4s"},
}
_PATIENCE = 300  # seconds that a batch may take to come
_REFUSED = r"(InvalidAccessKeyId|SignatureDoesNotMatch|InvalidToken|ExpiredToken|AccessDenied|AllAccessDisabled)"
_CREDENTIALS = "AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"


class CacheStoreError(ValueError):
    """An object store cannot be used; the message names the place, why, and what to do."""


def place(text: str) -> Place:
    """A place as it is written on a command line."""
    return text.rstrip("/") if text.startswith(_SCHEME) else Path(text)


def find_store(path: Place) -> Place:
    """The store itself, behind a link or, in an object store, behind the `cache.json` that stands for one.

    Raises
    ------
    FileNotFoundError
        The object store has no `cache.json` there.
    ValueError
        It is damaged, or the object store cannot be used.
    """
    if isinstance(path, Path):
        return path.resolve()
    folder, _, name = path.rpartition("/")
    if name != "cache.zarr":
        return path
    summary = read_file(folder, "cache.json")
    if summary is None:
        raise FileNotFoundError(f"{path}: no cache is there ({folder}/cache.json is absent)")
    try:
        return f"{folder}/cache-{json.loads(summary)['digest']}.zarr"
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{folder}/cache.json: damaged; `smad-features verify` says what mends it") from None


def read_file(store: Place, name: str) -> bytes | None:
    """The content of a file of a store; None where there is none."""
    if isinstance(store, Path):
        return (store / name).read_bytes() if (store / name).is_file() else None
    try:
        files = ts.KvStore.open(spec_of(store), context=ts.Context(CONTEXT)).result(timeout=_PATIENCE)
        found = files.read(name).result(timeout=_PATIENCE)
    except (ValueError, TimeoutError) as error:
        raise CacheStoreError(f"{store}: {_why(store, error)}") from None
    if found.state == "value":
        return bytes(found.value)
    if reason := _why_unusable(
        store, ValueError("missing")
    ):  # a bucket that is lost looks like a file that is not there
        raise CacheStoreError(f"{store}: {reason}")
    return None


def wait_for(future: Any, store: Place) -> Any:
    """What a read brings.

    Raises
    ------
    CacheStoreError
        The object store cannot be used, whatever is read of it.
    ValueError
        A chunk is missing or damaged.
    """
    if isinstance(store, Path):
        return future.result()
    try:
        return future.result(timeout=_PATIENCE)
    except (ValueError, TimeoutError) as error:
        if reason := _why_unusable(store, error):
            raise CacheStoreError(f"{store}: {reason}") from None
        raise


def spec_of(store: Place, folder: str = "") -> dict[str, Any]:
    """The key-value store of a store, or of a folder in it, as TensorStore wants it described."""
    if isinstance(store, Path):
        return {"driver": "file", "path": f"{store / folder}/"}
    bucket, _, prefix = store.removeprefix(_SCHEME).partition("/")
    path = "".join(f"{part}/" for part in (prefix, folder) if part)
    spec: dict[str, Any] = {"driver": "s3", "bucket": bucket, "path": path, "aws_credentials": _credentials(store)}
    if endpoint := _endpoint():
        spec["endpoint"] = endpoint
        spec["aws_region"] = _region() or "us-east-1"
    elif region := _region():
        spec["aws_region"] = region
    return spec


def _region() -> str:
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ""


def _endpoint() -> str:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""


def _credentials(store: str) -> dict[str, str]:
    """Where the library is to look. Told to look everywhere, it writes lines about each file that is not there."""
    if "AWS_ACCESS_KEY_ID" in os.environ:
        return {"type": "environment"}
    files = {
        key: Path(os.environ.get(variable) or default).expanduser()
        for key, variable, default in (
            ("credentials_file", "AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
            ("config_file", "AWS_CONFIG_FILE", "~/.aws/config"),
        )
    }
    if files["credentials_file"].is_file() or "AWS_PROFILE" in os.environ:
        named = {key: str(file if file.is_file() else os.devnull) for key, file in files.items()}
        return {"type": "profile", "profile": os.environ.get("AWS_PROFILE") or "default", **named}
    if os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        raise CacheStoreError(f"{store}: no credentials were found: set {_CREDENTIALS}")
    return {"type": "default"}


def _why_unusable(store: str, error: Exception) -> str:
    """Why nothing can be read of an object store, in words; empty = it is only this that cannot be read."""
    said = str(error)
    if isinstance(error, TimeoutError) or "CURL error" in said or "UNAVAILABLE" in said:
        return f"{_endpoint() or 'Amazon S3'} does not answer: is the network there, and AWS_ENDPOINT_URL right?"
    if found := re.search(_REFUSED, said):
        return f"the object store refuses these credentials ({found[1]}): mend {_CREDENTIALS}"
    if "credentials provider" in said or "from provider" in said or "PERMISSION_DENIED" in said:
        return f"no credentials that the object store takes were found: set {_CREDENTIALS}"
    if "NoSuchBucket" in said:
        return f"there is no bucket {store.removeprefix(_SCHEME).partition('/')[0]} (any more)"
    if "missing" in said:  # of a bucket that is lost, too
        try:
            files = ts.KvStore.open(spec_of(store), context=ts.Context(CONTEXT)).result(timeout=_PATIENCE)
            files.list(ts.KvStore.KeyRange("cache", "cache/")).result(timeout=_PATIENCE)
        except (ValueError, TimeoutError) as about:
            return _why_unusable(store, about) if "missing" not in str(about) else ""
    return ""


def _why(store: str, error: Exception) -> str:
    return _why_unusable(store, error) or f"the object store says: {str(error).partition(' [')[0]}"
