"""onnxruntime counts and reports its use unless it is told not to: it must not."""

import os
import subprocess
import sys
from pathlib import Path

LOAD = "from quantahr.retrieval import load_embedder; print(load_embedder().embed(['leave']).shape)"


def test_loading_the_embedding_model_leaves_nothing_to_report(tmp_path: Path) -> None:
    told = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-c", LOAD], env={**told, "HOME": str(tmp_path), "XDG_CACHE_HOME": ""},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "(1, 384)"
    # With telemetry on, an identifier of this machine and a database of events lie there now.
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
