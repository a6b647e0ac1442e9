"""Where model versions are kept: a folder, or a prefix in an S3 bucket. The same keys in both.

The one operation that needs care is `replace`: it changes a small document only if nobody else has changed it since it
was read. A folder does that under a file lock, with a rename that survives a power cut; S3 does it with a conditional
put. Everything else may be repeated without harm.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from quantahr.errors import QuantaHRError
from quantahr.gguf_header import cached_sha256


class RegistryError(QuantaHRError):
    """A model version cannot be stored, found, or made active."""


class Storage(Protocol):
    """Files by key ("versions/1a2b3c4d5e6f/adapter.gguf"). Every method raises RegistryError."""

    def read(self, key: str) -> tuple[bytes, str] | None:
        """A small document and its mark for `replace`; None if there is none."""

    def replace(self, key: str, data: bytes, mark: str | None) -> bool:
        """Write a document if its mark is still `mark` (None: if there is none yet). Returns whether it was written."""

    def upload(self, path: Path, key: str) -> None:
        """Store a file. It appears whole or not at all."""

    def local(self, key: str, sha256: str) -> Path:
        """The file on this machine's disk, fetched if it is not there with that hash."""

    def folders(self, prefix: str) -> list[str]:
        """Names directly under `prefix` ("versions/"), sorted."""


def open_storage(address: str, cache: Path) -> Storage:
    """The storage at `address`: a folder, or s3://bucket/prefix with `cache` for what is fetched from it."""
    if address.startswith("s3://"):
        bucket, _, prefix = address.removeprefix("s3://").partition("/")
        return S3Storage(bucket, prefix.strip("/"), cache)
    return FolderStorage(Path(address))


class FolderStorage:
    """A folder, which may be shared by several machines."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, key: str) -> tuple[bytes, str] | None:
        try:
            data = (self._root / key).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._refused("read", error) from error
        return data, _mark(data)

    def replace(self, key: str, data: bytes, mark: str | None) -> bool:
        try:
            with self._locked():
                now = self.read(key)
                if (now[1] if now else None) != mark:
                    return False
                self._put(self._root / key, data)
                return True
        except OSError as error:
            raise self._refused("written", error) from error

    def upload(self, path: Path, key: str) -> None:
        target = self._root / key
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with path.open("rb") as source, _partial(target) as stream:
                shutil.copyfileobj(source, stream)
        except OSError as error:
            raise self._refused("written", error) from error

    def local(self, key: str, sha256: str) -> Path:
        del sha256
        path = self._root / key
        if not path.is_file():
            raise RegistryError(f"{path} is missing. Add that version again, or activate another one.")
        return path

    def folders(self, prefix: str) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return sorted(path.name for path in (self._root / prefix).iterdir() if path.is_dir())
        return []

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._root.mkdir(parents=True, exist_ok=True)
        with (self._root / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _put(self, target: Path, data: bytes) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _partial(target) as stream:
            stream.write(data)

    def _refused(self, verb: str, error: OSError) -> RegistryError:
        return RegistryError(
            f"The model registry {self._root} cannot be {verb} ({error.strerror}). Check its rights and the free space."
        )


class S3Storage:
    """A prefix in a bucket, with the credentials that boto3 finds (environment, profile, instance role)."""

    def __init__(self, bucket: str, prefix: str, cache: Path, client: Any = None) -> None:
        if client is None:
            try:
                import boto3
            except ImportError:
                raise RegistryError(
                    "A registry in S3 needs boto3. Type: pip install boto3, or set `registry` to a folder."
                ) from None
            client = boto3.client("s3")
        self._client, self._bucket, self._cache = client, bucket, cache
        self._prefix = f"{prefix}/" if prefix else ""

    def read(self, key: str) -> tuple[bytes, str] | None:
        from botocore.exceptions import ClientError

        with self._explained("read"):
            try:
                found = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)
            except ClientError as error:
                if _code(error) in {"NoSuchKey", "404"}:
                    return None
                raise
            return found["Body"].read(), str(found["ETag"])

    def replace(self, key: str, data: bytes, mark: str | None) -> bool:
        from botocore.exceptions import ClientError

        condition = {"IfMatch": mark} if mark else {"IfNoneMatch": "*"}
        with self._explained("written"):
            try:
                self._client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=data, **condition)
            except ClientError as error:
                # 409: another conditional write to the same key was under way.
                if _code(error) in {"PreconditionFailed", "412", "ConditionalRequestConflict", "409"}:
                    return False
                raise
            return True

    def upload(self, path: Path, key: str) -> None:
        with self._explained("written"):
            self._client.upload_file(str(path), self._bucket, self._prefix + key)

    def local(self, key: str, sha256: str) -> Path:
        path = self._cache / key
        if not path.is_file() or cached_sha256(path) != sha256:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            os.close(handle)
            partial = Path(name)
            try:
                with self._explained("read"):
                    self._client.download_file(self._bucket, self._prefix + key, str(partial))
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
        return path

    def folders(self, prefix: str) -> list[str]:
        # A listing holds at most 1,000 entries a page.
        with self._explained("listed"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix, Delimiter="/"
            )
            found = [entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", ())]
        return sorted(name.removeprefix(self._prefix + prefix).rstrip("/") for name in found)

    @contextlib.contextmanager
    def _explained(self, verb: str) -> Iterator[None]:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (BotoCoreError, Boto3Error, ClientError) as error:
            reason = _code(error) if isinstance(error, ClientError) else type(error).__name__
            raise RegistryError(
                f"The model registry s3://{self._bucket}/{self._prefix} cannot be {verb} ({reason}). "
                "Check the bucket's name, the region and the credentials."
            ) from None


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", "refused"))


def _mark(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextlib.contextmanager
def _partial(target: Path) -> Iterator[Any]:
    """A stream whose content appears as `target` at the end, on the disk for good, or not at all."""
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    partial = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        partial.chmod(0o644)
        partial.replace(target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        partial.unlink(missing_ok=True)
