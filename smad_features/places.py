"""Where a packed cache lies, a folder or a prefix of an object store: its files read, written, listed and removed.

A place is the absolute path of a folder, or s3://bucket/prefix. Credentials, region and endpoint of an object store
come from the usual environment (AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL ...), not from settings.
"""

from __future__ import annotations

import configparser
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smad_features.atomic import StorageError

if TYPE_CHECKING:
    from obstore.store import S3Store

SCHEME = "s3://"
# An object store that does not answer is named within a minute, not after the many retries that libraries make.
_RETRIES, _RETRY_FOR = 4, timedelta(seconds=30)
_CONNECT, _ANSWER = timedelta(seconds=10), timedelta(seconds=120)
_REFUSED = r"(InvalidAccessKeyId|SignatureDoesNotMatch|InvalidToken|ExpiredToken|AccessDenied|AllAccessDisabled)"
_METADATA_SERVICE = r"169\.254\.1\d\d\.\d+"  # asked for credentials where the environment names none
CREDENTIALS = "AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"


class ObjectStoreError(StorageError):
    """An object store cannot be used; the message names the place, why, and what to do."""


class NoBucketError(ObjectStoreError):
    """There is no such bucket, or none any more."""


def is_remote(place: str) -> bool:
    """Whether a place is one of an object store."""
    return place.startswith(SCHEME)


def read_file(place: str, name: str) -> bytes:
    """The content of a file of a place; FileNotFoundError where there is none."""
    if not is_remote(place):
        return Path(place, name).read_bytes()
    with _told(place):
        return bytes(_bucket(place).get(name).bytes())


def write_file(place: str, name: str, content: bytes, *, umask: int) -> None:
    """Write a file of a place, whole or not at all; on a disk with the mode that ``umask`` leaves, and synced.

    The mask is the one of the process that asked for it: a worker on another machine has its own.
    """
    if is_remote(place):
        with _told(place):
            _bucket(place).put(name, content)
        return
    path = Path(place, name)
    _make_folder(path.parent, umask=umask)
    # A name of its own: a scheduler may run a task twice where it has lost sight of a worker.
    number, draft = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(number, "wb") as file:
            file.write(content)
            os.fchmod(number, 0o666 & ~umask)
            file.flush()
            os.fsync(number)
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def list_files(place: str) -> list[str]:
    """The names of all files of a place, sorted; none where it is not there."""
    if not is_remote(place):
        return sorted(path.relative_to(place).as_posix() for path in Path(place).rglob("*") if path.is_file())
    with _told(place):
        return sorted(item["path"] for batch in _bucket(place).list() for item in batch)


def list_folders(place: str) -> list[str]:
    """The names of the folders right below a place, sorted."""
    if not is_remote(place):
        return sorted(path.name for path in Path(place).iterdir() if path.is_dir())
    with _told(place):
        found = _bucket(place).list_with_delimiter()["common_prefixes"]
        return sorted(folder.rstrip("/").rpartition("/")[2] for folder in found)


def remove_files(place: str, names: list[str]) -> None:
    """Remove files of an object store; those that are not there are as good as removed."""
    with _told(place):
        if names:
            _bucket(place).delete(names)


def keeps_versions(place: str, name: str) -> bool:
    """Whether the bucket of a file keeps what is written over or removed, as an older version."""
    with _told(place):
        return _bucket(place).head(name).get("version") not in (None, "null")


def _make_folder(folder: Path, *, umask: int) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent, umask=umask)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:  # another task was faster
        return
    folder.chmod(0o777 & ~umask)


def _bucket(place: str) -> S3Store:
    return _open_bucket(place, tuple(sorted(_settings().items())))


@lru_cache(maxsize=64)
def _open_bucket(place: str, settings: tuple[tuple[str, str], ...]) -> S3Store:
    # Kept open: a connection for each shard would take longer than the shard.
    from obstore.store import S3Store

    bucket, _, prefix = place.removeprefix(SCHEME).partition("/")
    config: Any = dict(settings)
    return S3Store(
        bucket,
        prefix=prefix or None,
        config=config,
        retry_config={
            "max_retries": _RETRIES,
            "retry_timeout": _RETRY_FOR,
            "backoff": {"init_backoff": timedelta(milliseconds=200), "max_backoff": timedelta(seconds=5)},
        },
        client_options={"allow_http": True, "connect_timeout": _CONNECT, "timeout": _ANSWER},
    )


def _settings() -> dict[str, str]:
    """What the environment says of an object store. The library reads no profiles, so that is done here."""
    found = {"region": os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"}
    if endpoint := endpoint_named():
        found["endpoint"] = endpoint
    keys = ("access_key_id", "secret_access_key", "session_token")
    found |= {key: value for key in keys if (value := os.environ.get(f"AWS_{key.upper()}"))}
    if "access_key_id" not in found:
        file = Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials").expanduser()
        parser = configparser.RawConfigParser()
        profile = os.environ.get("AWS_PROFILE") or "default"
        try:
            parser.read(file)
        except configparser.Error as error:
            raise ObjectStoreError(f"{file}: no table of credentials: {error}") from None
        if parser.has_section(profile):
            found |= {
                key: parser.get(profile, f"aws_{key}") for key in keys if parser.has_option(profile, f"aws_{key}")
            }
        elif "AWS_PROFILE" in os.environ:
            raise ObjectStoreError(f"{file}: has no profile {profile!r}, which AWS_PROFILE names")
    is_alone = os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true" and not any(
        name.startswith(("AWS_WEB_IDENTITY_", "AWS_CONTAINER_CREDENTIALS_")) for name in os.environ
    )
    if "access_key_id" not in found and is_alone:
        raise ObjectStoreError(f"no credentials of an object store were found: set {CREDENTIALS}")
    return found


def endpoint_named() -> str:
    """The address of the object store that the environment names; empty = Amazon's own."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""


@contextmanager
def _told(place: str) -> Iterator[None]:
    """Say of an error of the library which place it hit, and what to do. What is not there stays FileNotFoundError."""
    from obstore.exceptions import BaseError

    bucket = place.removeprefix(SCHEME).partition("/")[0]
    try:
        yield
    except (BaseError, FileNotFoundError) as error:
        said = str(error).partition("\n\nDebug source")[0]
        if "NoSuchBucket" in said:
            raise NoBucketError(
                f"{place}: there is no bucket {bucket} (any more): make it again, or mend `cache.store`"
            ) from None
        if isinstance(error, FileNotFoundError):
            raise
        if found := re.search(_REFUSED, said):
            why = f"the object store refuses these credentials ({found[1]}): mend {CREDENTIALS}"
        elif re.search(_METADATA_SERVICE, said):
            why = f"no credentials were found: set {CREDENTIALS}"
        elif "error sending request" in said or "timed out" in said or "HTTP error" in said:
            why = (
                f"{endpoint_named() or 'Amazon S3'} does not answer: is the network there, and AWS_ENDPOINT_URL right?"
                " Then run again"
            )
        else:
            why = f"the object store says: {said}"
        raise ObjectStoreError(f"{place}: {why}") from None
