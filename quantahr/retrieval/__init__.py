"""Retrieval: from a chat message to the sentences of the handbook that answer it.

`Index.build(sections, load_embedder())` makes an index, `index.search(question, audiences=…)` asks it.
"""

from quantahr.retrieval.embedder import Embedder, EmbeddingCache, load_embedder
from quantahr.retrieval.index import Index
from quantahr.retrieval.sections import Evidence, Hit, Retrieval, SectionLike

__all__ = ["Embedder", "EmbeddingCache", "Evidence", "Hit", "Index", "Retrieval", "SectionLike", "load_embedder"]
