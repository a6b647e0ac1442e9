"""Taking out of a question what may point to a person, before anybody else reads it."""

import re
from typing import Final

_PRIVATE: Final = re.compile(
    r"[\w.+-]+@[\w-]+\.[\w.-]+|@\w[\w.-]*|https?://\S+|\+?\d[\d\s()/-]{6,}\d|"
    r"(?<=[a-z,;:]\s)(?!I\b|HR\b)[A-Z][a-zà-ÿ]+(?:\s+[A-Z][a-zà-ÿ]+)*"
)


def without_names(text: str) -> str:
    """A question without names, addresses and long numbers; at most 300 characters."""
    return " ".join(_PRIVATE.sub("…", text).split())[:300]
