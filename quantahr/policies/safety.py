"""Getting bytes out of a file that may be damaged, hostile or half written, without trusting anything it says.

Three ideas. The bytes are read once and everything (hash, checks, parsing) works on them, so a file that changes
meanwhile cannot be seen in two states. Of a docx only the parts we read are inflated, in small steps and with a budget,
whatever its directory claims. And what passes is packed anew with only those parts: python-docx never meets the rest.
"""

import io
import os
import posixpath
import stat
import struct
import time
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.parsers import expat

from lxml import etree

from quantahr.errors import PolicyError

MAX_FILE_BYTES = 100 * 2**20
MAX_XML_BYTES = 64 * 2**20
MAX_MARKUP = 1_500_000
"""Tags and attributes together: what decides the memory that a parsed document takes (about 200 bytes each)."""
MAX_RATIO = 200
MAX_PARTS = 10_000
_RATIO_FREE_BYTES = 8 * 2**20
_CHUNK = 64 * 2**10
_SETTLE_SECONDS = 0.25
_READ_ATTEMPTS = 4

_RELATIONSHIPS = "http://schemas.openxmlformats.org/package/2006/relationships"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/"
_STRICT = "http://purl.oclc.org/ooxml/officeDocument/relationships/"
_CORE = "http://schemas.openxmlformats.org/package/2006/relationships/metadata/core-properties"
_KEPT = {_OFFICE + kind for kind in ("officeDocument", "custom-properties", "styles", "numbering")}
_KEPT |= {_OFFICE + kind for kind in ("footnotes", "endnotes")} | {_CORE}


@dataclass(frozen=True, slots=True)
class Package:
    """A docx reduced to what is read. `linked` counts external pictures and templates, `embedded` foreign documents."""

    data: bytes
    linked: int
    embedded: int


def read_stable(path: Path, *, name: str, root: Path | None = None) -> bytes:
    """The bytes of a regular file that did not change while it was read.

    Raises PolicyError for a link that leaves `root`, a file that may not be read, is empty, over 100 MB, or is still
    being written after four attempts.
    """
    if root is not None and not path.resolve().is_relative_to(root.resolve()):
        raise PolicyError(
            f"{name} is a link to a place outside the policy folder. Copy the file itself into the folder."
        )
    for attempt in range(_READ_ATTEMPTS):
        if attempt:
            time.sleep(_SETTLE_SECONDS * attempt)
        try:
            data = _read_once(path, name)
        except FileNotFoundError:
            raise PolicyError(f"{name} is no longer there. Put it back, or reload the folder.") from None
        except PermissionError:
            raise PolicyError(f"{name} may not be read by this program. Give it read permission (chmod a+r).") from None
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else "unknown reason"
            raise PolicyError(f"{name} could not be read ({reason}). Check the disk or network drive.") from None
        if data is not None:
            return data
    raise PolicyError(f"{name} is still being written. Wait until saving or copying is done; it is then picked up.")


def _read_once(path: Path, name: str) -> bytes | None:
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise PolicyError(f"{name} is not a regular file. Replace it by the document itself.")
        if before.st_size > MAX_FILE_BYTES:
            megabytes = before.st_size // 2**20
            raise PolicyError(
                f"{name} has {megabytes} MB, more than the 100 MB allowed. Compress its pictures or split it."
            )
        data = file.read(MAX_FILE_BYTES + 1)
        after = path.stat()
    same = (before.st_size, before.st_mtime_ns, before.st_ino) == (after.st_size, after.st_mtime_ns, after.st_ino)
    if not same or len(data) != before.st_size:
        return None
    if not data:
        raise PolicyError(f"{name} is empty (0 bytes). Save it again from Word, or remove it.")
    return data


def clean_package(data: bytes, name: str) -> Package:
    """The docx in `data` with only the parts that are read, each within its limits and without a DTD.

    Raises PolicyError, with the fix, for anything that is not a plain, whole, unencrypted .docx without macros.
    """
    _check_signature(data, name)
    damaged = f"{name} is damaged or incomplete. Open it in Word, save it again as .docx, and copy it here anew."
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _Cleaner(archive, len(data), name).clean()
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, struct.error, OSError, ValueError, SyntaxError):
        raise PolicyError(damaged) from None
    except RuntimeError:  # zipfile's word for an encrypted part, and its subclass for a packing that it does not know
        raise PolicyError(_unusual(name)) from None


def _unusual(name: str) -> str:
    return f"{name} is encrypted or packed in an unusual way. Save it again from Word as .docx."


def _check_signature(data: bytes, name: str) -> None:
    if data.startswith(b"\xd0\xcf\x11\xe0"):
        if "EncryptedPackage".encode("utf-16-le") in data:
            raise PolicyError(
                f"{name} is protected by a password. In Word: File > Info > Protect, remove the password."
            )
        raise PolicyError(f"{name} is in Word's old .doc format. Open it in Word and save it as .docx.")
    if not data.startswith(b"PK\x03\x04"):
        raise PolicyError(f"{name} is not a Word document, whatever its name says. Save it from Word as .docx.")
    if data.count(b"PK\x01\x02") > MAX_PARTS:
        raise PolicyError(
            f"{name} holds over {MAX_PARTS} parts and is refused as unsafe. Save it again from Word as .docx."
        )


class _Cleaner:
    def __init__(self, archive: zipfile.ZipFile, file_bytes: int, name: str) -> None:
        self._archive, self._file_bytes, self._name = archive, file_bytes, name
        self._names = set(archive.namelist())
        self._inflated = self._markup = self._linked = self._embedded = 0

    def clean(self) -> Package:
        if any(part.lower().endswith("vbaproject.bin") for part in self._names):
            raise self._macros()
        types = self._part("[Content_Types].xml")
        if b"macroEnabled" in types:
            raise self._macros()
        parts = {"[Content_Types].xml": types}
        main = ""
        for kind, target in self._relations("", parts):
            if kind.endswith("/officeDocument"):
                main = target
            if kind in _KEPT:
                parts[target] = self._part(target)
        if not main.startswith("word/") and not main.endswith("document.xml"):
            raise PolicyError(
                f"{self._name} is an Office file but not a Word document. Save its text from Word as .docx."
            )
        for _kind, target in self._relations(main, parts):
            parts[target] = self._part(target)
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for part, content in parts.items():
                archive.writestr(zipfile.ZipInfo(part), content)
        return Package(packed.getvalue(), self._linked, self._embedded)

    def _macros(self) -> PolicyError:
        return PolicyError(f"{self._name} contains macros and is refused. In Word, save it as .docx (without macros).")

    def _relations(self, source: str, parts: dict[str, bytes]) -> list[tuple[str, str]]:
        """The kept relations of `source` as (type, part); its pruned .rels part is added to `parts`."""
        folder, base = posixpath.split(source)
        rels_name = posixpath.join(folder, "_rels", f"{base}.rels")
        if rels_name not in self._names:
            return []
        root = etree.fromstring(self._part(rels_name), etree.XMLParser(resolve_entities=False, no_network=True))
        kept = []
        for relation in root.findall(f"{{{_RELATIONSHIPS}}}Relationship"):
            kind, target = relation.get("Type", ""), relation.get("Target", "")
            if kind.startswith(_STRICT):
                fix = 'In Word, save it as "Word Document (.docx)".'
                raise PolicyError(f"{self._name} is saved as Strict Open XML. {fix}")
            external = relation.get("TargetMode") == "External"
            if external and not kind.endswith("/hyperlink"):
                self._linked += 1
            if kind.endswith(("/aFChunk", "/subDocument")):
                self._embedded += 1
            resolved = (
                target.lstrip("/") if target.startswith("/") else posixpath.normpath(posixpath.join(folder, target))
            )
            if external or kind not in _KEPT or resolved not in self._names:
                root.remove(relation)
            else:
                kept.append((kind, resolved))
        parts[rels_name] = etree.tostring(root, xml_declaration=True, encoding="UTF-8", standalone=True)
        return kept

    def _part(self, part: str) -> bytes:
        """One XML part, inflated within the budget of the whole file and free of a DTD."""
        info = self._archive.getinfo(part)
        if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise PolicyError(_unusual(self._name))
        content = bytearray()
        with self._archive.open(info) as stream:
            while chunk := stream.read(_CHUNK):
                content += chunk
                self._inflated += len(chunk)
                self._markup += chunk.count(b"<") + chunk.count(b"=")
                inflates = self._inflated > max(_RATIO_FREE_BYTES, MAX_RATIO * self._file_bytes)
                if inflates or self._inflated > MAX_XML_BYTES or self._markup > MAX_MARKUP:
                    fix = "Split it into smaller documents, or save it again from Word."
                    raise PolicyError(f"{self._name} unpacks to far more than a document should and is refused. {fix}")
        _refuse_dtd(bytes(content), self._name)
        return bytes(content)


class _PrologReadError(Exception):
    pass


def _refuse_dtd(content: bytes, name: str) -> None:
    """A DTD can only stand before the first element, so expat, whatever the encoding, reads no further than that."""

    def stop(*_: Any) -> None:
        raise _PrologReadError

    def refuse(*_: Any) -> None:
        raise PolicyError(
            f"{name} defines XML entities (a DTD), which Word never does, and is refused. Save it from Word."
        )

    parser = expat.ParserCreate()
    handler: Callable[..., None] = stop
    parser.StartElementHandler = handler
    parser.StartDoctypeDeclHandler = refuse
    try:
        for start in range(0, len(content), _CHUNK):
            parser.Parse(content[start : start + _CHUNK], False)
        parser.Parse(b"", True)
    except _PrologReadError:
        return
    except expat.ExpatError:
        raise zipfile.BadZipFile from None
