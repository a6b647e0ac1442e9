"""Checkpoints in S3: beyond one page of a listing, and with errors that say what to check."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from training.checkpoints import Checkpoints
from training.trainer import TrainingState
from training.uploads import S3Place, UploadError


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from moto import mock_aws

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        import boto3

        client = boto3.client("s3")
        client.create_bucket(Bucket="training")
        yield client


def test_a_listing_goes_beyond_the_first_thousand_keys(client: Any) -> None:
    for number in range(1005):
        client.put_object(Bucket="training", Key=f"runs/other/{number:05d}", Body=b"")
    place = S3Place("training", "runs", client)
    assert len(list(place.list("other/"))) == 1005


def test_checkpoints_are_kept_found_and_pruned_in_a_bucket(client: Any, tmp_path: Path) -> None:
    place = S3Place("training", "runs", client)
    here = Checkpoints(tmp_path / "here", "run", limit=2, uploads=place)
    for step in (3, 6, 9):
        here.save(TrainingState(step, {"a": torch.full((2,), float(step))}, {}, {}, 4))
    names = {key.split("/")[1] for key in place.list("run/")}
    assert names == {"checkpoint-000006", "checkpoint-000009"}
    client.delete_object(Bucket="training", Key="runs/run/checkpoint-000009/manifest.json")
    state = Checkpoints(tmp_path / "there", "run", limit=2, uploads=place).latest(from_uploads=True)
    assert state is not None
    assert (state.step, state.adapter["a"].tolist()) == (6, [6.0, 6.0])
    assert Checkpoints(tmp_path / "there", "other", limit=2, uploads=place).latest(from_uploads=True) is None


def test_a_bucket_that_is_not_there_says_what_to_check(client: Any, tmp_path: Path) -> None:
    with pytest.raises(UploadError, match=r"s3://missing/runs/ .*bucket"):
        list(S3Place("missing", "runs", client).list("run/"))
