"""Where checkpoints are uploaded to: a folder (a network disk, a bucket's mount) or an S3 prefix."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from quantahr.errors import QuantaHRError


class UploadError(QuantaHRError):
    """The place for uploads cannot be reached or refuses them."""


class Place(Protocol):
    """Files by key ("run/checkpoint/name"). Every method raises UploadError."""

    def put(self, path: Path, key: str) -> None: ...
    def get(self, key: str, path: Path) -> None: ...
    def list(self, prefix: str) -> Iterator[str]: ...
    def delete(self, key: str) -> None: ...


def open_place(address: str, *, patience: float = 300.0) -> Place:
    """The place of `training.upload_to`: "s3://bucket/prefix" or a folder.

    A bucket that cannot be reached is tried again for `patience` seconds: hours of training must not end with it.
    """
    if address.startswith("s3://"):
        bucket, _, prefix = address.removeprefix("s3://").partition("/")
        return Patient(S3Place(bucket, prefix.strip("/")), patience)
    return FolderPlace(Path(address))


class FolderPlace:
    """A folder. Each file appears whole: it is copied beside its place and renamed."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, path: Path, key: str) -> None:
        target = self._root / key
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f".{target.name}.partial")
            shutil.copyfile(path, partial)
            partial.rename(target)
        except OSError as error:
            raise UploadError(
                f"{self._root} does not take uploads ({error.strerror}). Check that it is writable and not full."
            ) from None

    def get(self, key: str, path: Path) -> None:
        try:
            shutil.copyfile(self._root / key, path)
        except OSError as error:
            raise UploadError(f"{self._root / key} cannot be read ({error.strerror}).") from None

    def list(self, prefix: str) -> Iterator[str]:
        for path in sorted((self._root / prefix).rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                yield path.relative_to(self._root).as_posix()

    def delete(self, key: str) -> None:
        path = self._root / key
        path.unlink(missing_ok=True)
        if path.parent != self._root and not any(path.parent.iterdir()):
            path.parent.rmdir()


class S3Place:
    """A prefix in a bucket, with the credentials that boto3 finds (environment, profile, instance role)."""

    def __init__(self, bucket: str, prefix: str, client: Any = None) -> None:
        import boto3

        self._bucket, self._prefix = bucket, f"{prefix}/" if prefix else ""
        self._client = client or boto3.client("s3")

    def put(self, path: Path, key: str) -> None:
        with self._explained("written"):
            self._client.upload_file(str(path), self._bucket, self._prefix + key)

    def get(self, key: str, path: Path) -> None:
        with self._explained("read"):
            self._client.download_file(self._bucket, self._prefix + key, str(path))

    def list(self, prefix: str) -> Iterator[str]:
        # A listing holds at most 1,000 keys a page.
        with self._explained("listed"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            keys = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
        yield from sorted(key.removeprefix(self._prefix) for key in keys)

    def delete(self, key: str) -> None:
        with self._explained("deleted"):
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key)

    def _explained(self, verb: str) -> "_Explained":
        return _Explained(f"s3://{self._bucket}/{self._prefix}", verb)


class Patient:
    """Another place, tried again for `seconds` before its error is raised."""

    def __init__(self, place: Place, seconds: float, *, pause: float = 3.0) -> None:
        self._place, self._seconds, self._pause = place, seconds, pause

    def put(self, path: Path, key: str) -> None:
        self._again(lambda: self._place.put(path, key))

    def get(self, key: str, path: Path) -> None:
        self._again(lambda: self._place.get(key, path))

    def list(self, prefix: str) -> Iterator[str]:
        found: list[str] = []
        self._again(lambda: found.extend(self._place.list(prefix)))
        yield from found

    def delete(self, key: str) -> None:
        self._again(lambda: self._place.delete(key))

    def _again(self, action: Callable[[], object]) -> None:
        deadline = time.monotonic() + self._seconds
        while True:
            try:
                action()
            except UploadError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(self._pause)
            else:
                return


class _Explained:
    """Turns what boto3 raises into an UploadError that says what to check."""

    def __init__(self, address: str, verb: str) -> None:
        self._address, self._verb = address, verb

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        if isinstance(error, ClientError):
            reason = error.response.get("Error", {}).get("Code", "refused")
        elif isinstance(error, BotoCoreError | Boto3Error):
            reason = type(error).__name__
        else:
            return
        raise UploadError(
            f"{self._address} cannot be {self._verb} ({reason}). "
            "Check the bucket's name, the region and the credentials."
        ) from None
