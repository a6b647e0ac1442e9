"""Policies: a folder of Word and Markdown documents becomes sections to answer from and findings for HR to mend.

A file is made safe (`safety`), read into blocks (`word`, `markdown`, with `styles`, `numbering`, `tables`), cleaned and
divided (`hygiene`, `structure`, `dates`), collected into a library (`folder`, `conflicts`), and followed (`follow`).
"""

from quantahr.policies.folder import load_document, load_folder
from quantahr.policies.follow import LibraryFollower
from quantahr.policies.model import Document, Finding, Library, Section, summarise

__all__ = ["Document", "Finding", "Library", "LibraryFollower", "Section", "load_document", "load_folder", "summarise"]
