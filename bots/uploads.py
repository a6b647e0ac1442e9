"""Fetching a document that somebody dropped into a chat: so much of it, from its platform's own hosts, and no further.

A size that an event tells is believed only when it is too large; what counts is what arrives. A redirect or a page is
how platforms say that the file may not be had, so neither is ever taken for the document.
"""

import logging
from collections.abc import Mapping
from typing import Final

import aiohttp

from quantahr.errors import QuantaHRError

log = logging.getLogger(__name__)

UPLOAD_BYTES: Final = 5 * 2**20
UPLOAD_SECONDS: Final = 900
"""How long a document waits in Redis for a worker."""
FETCH_SECONDS: Final = 30
ONE_AT_A_TIME: Final = "One document at a time, please: drop the one that I shall read."
_PAGES: Final = frozenset({"text/html", "application/xhtml+xml"})


class UploadError(QuantaHRError):
    """The document cannot be had; the message says what to do."""


def too_large(size: int) -> str:
    """What to tell about a document of `size` bytes; 0 if that is not known."""
    told = f"has {size / 2**20:.0f} MB" if size else "is too large"
    return f"This document {told}; I take up to {UPLOAD_BYTES // 2**20} MB. Remove its pictures, or split it."


async def fetch(url: str, platform: str, headers: Mapping[str, str] | None = None) -> bytes:
    """The bytes at `url`, at most UPLOAD_BYTES. Raises UploadError."""
    gone = UploadError(f"I could not get this document from {platform}. Please drop it here again.")
    data = b""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=FETCH_SECONDS)) as session,
            session.get(url, headers=headers, allow_redirects=False) as answer,
        ):
            if answer.status != 200 or answer.content_type in _PAGES:
                log.info("a file could not be fetched (%d)", answer.status)
                raise gone
            while len(data) <= UPLOAD_BYTES and (more := await answer.content.read(UPLOAD_BYTES + 1 - len(data))):
                data += more
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        log.info("a file could not be fetched (%s)", type(error).__name__)
        raise gone from None
    if len(data) > UPLOAD_BYTES:
        raise UploadError(too_large(0))
    return data
