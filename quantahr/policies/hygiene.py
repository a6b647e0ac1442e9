"""What stands in a document but is no policy: tables of contents, guidance to the template's user, unfilled gaps.

The idea: leaving out a sentence that says something costs an answer, and keeping one that does not costs trust. So each
rule is narrow, takes out a sentence rather than a paragraph where it can, and reports what it took out.
"""

import re
from collections.abc import Sequence

from quantahr.policies.blocks import Block, sentences, strip_notes

_FILL_WORDS = (
    r"insert|enter|add|fill|type|choose|select|specify|state|delete|amend|name|names|date|dates|your|company|organi[sz]ation|"
    r"employer|employee|number|amount|figure|e-?mail|phone|telephone|address|contact|contacts|department|title|position|"
    r"job|location|city|country|manager|person|role|provider|insurer|link|url|placeholder|tbc|tbd|x+|details|year|month|"
    r"day|percentage|currency|text|hr|period|salary"
)
_UNIT = r"(?:days?|weeks?|months?|years?|hours?|%|percent|per cent|working|calendar|business|EUR|USD|GBP)"
_BRACKETED = (
    rf"\[(?!see\b|cf\b|sic\b|as amended)(?=[^\[\]]*\b(?:{_FILL_WORDS})\b)[^\[\]\n]{{1,120}}\](?!\()|\[\s*[●•…._]+\s*\]"
    rf"|\[\s*[\d.,]+\s*\](?=\s*{_UNIT})|\[\s*[\w., -]{{0,30}}\s{_UNIT}\s*\]"
)
_ROMAN_AFTER = "".join(
    f"(?<!{word} )" for word in ("Article", "Chapter", "Annex", "Title", "Section", "Part", "Appendix")
)
_GAP = re.compile(
    "|".join(
        (
            r"\{\{?[^{}\n]{1,200}\}?\}",
            f"(?i:{_BRACKETED})",
            rf"(?i:<<?(?!https?:|mailto:|/)(?=[^<>]{{0,80}}\b(?:{_FILL_WORDS})\b)[A-Za-z][^<>@\n]{{1,80}}>>?)",
            rf"{_ROMAN_AFTER}(?<!\w)(?=[\d./-]{{0,8}}[Xx]{{2}})[\dXx]+(?:[./-][\dXx]+)*(?!\w)",
            rf"(?<!\w)[XxYN](?= {_UNIT}\b)",
            r"_{3,}|\.{6,}|…{2,}",
            r"\b(?:TBC|TBD|TBA)\b|\?\?+",
            r"\b(?<!has )(?<!have )(?<!had )(?<!need )(?<!needs )(?<!ought )(?i:to be "
            r"(?:confirmed|determined|decided|advised|completed by HR)\b)(?=\s*(?:$|[.,;:)\]]))",
            r"(?i:\b(?:click or tap|click here|tap here) to (?:enter|add|choose)\b[^.\n]*|\blorem ipsum\b)",
        )
    )
)

_NOTE_TO = (
    r"guidance(?: notes?)?|drafting notes?|template notes?|note for (?:hr|editors?|drafters?|template users?)|"
    r"notes? to (?:hr|editors?|authors?|drafters?|employers?|template users?|the editor|reviewers?|legal)|"
    r"editor'?s note|instructions? (?:to|for) (?:hr|editors?|authors?|template users?|the template)|hr note|hr to do"
)
_GUIDANCE_START = re.compile(rf"^[\[({{*\s]*(?:{_NOTE_TO})\b(?:\s*[:–—-]|\s+(?:for|to) hr\b|\s*\()", re.IGNORECASE)
_GUIDANCE_SAYS = re.compile(
    r"\b(?:delete|remove)\b.{0,80}\bbefore (?:publi\w+|issu\w+|you publish|circulat\w+|distribut\w+)"
    r"(?=\s*(?:[.,;:–—)\]-]|$|this\b|the (?:policy|document|handbook|template)\b))"
    r"|\b(?:delete|remove) (?:this|these) (?:notes?|guidance|box|boxes|paragraphs?|texts?|instructions?|pages?)\b"
    r"|\b(?:delete|amend|adapt|edit) (?:as|where|if) (?:appropriate|necessary|applicable|required)\b"
    r"|\b(?:adapt|customi[sz]e|tailor|amend|edit) this (?:template|sample|model|policy template)\b"
    r"|\bthis (?:is a |sample |model )?template (?:is|should|must|provides|can|text)\b"
    r"|\breplace (?:the )?(?:text|words|items) in (?:square )?(?:brackets|braces|italics|yellow|red)\b",
    re.IGNORECASE,
)
_GUIDANCE_OPEN = re.compile(rf"^\[\s*(?:{_NOTE_TO}|note|optional|delete|hr)\b", re.IGNORECASE)
_GUIDANCE_STYLE = re.compile(
    r"guidance|drafting|template (?:note|hint|text)|(?:^|/ )instructions?\b|help ?text|author note"
)
_GUIDANCE_HEADING = re.compile(
    rf"^(?:(?:how to use|about|using) this (?:template|document)|template instructions?|{_NOTE_TO})$"
    r"|^guidance (?:for|to) (?:hr|template users?|authors?|editors?)\b",
    re.IGNORECASE,
)

_CONTENTS_HEADING = re.compile(
    r"^(?:table of contents|contents|in this (?:handbook|document|policy)|inhalt(?:sverzeichnis)?|sommaire|"
    r"table des matières|índice|indice|sommario|inhoud(?:sopgave)?|innehåll|indhold|spis treści|المحتويات|תוכן עניינים)"
    r"\s*:?$",
    re.IGNORECASE,
)
_LEADERS = re.compile(r"^.{2,150}?(?:\s?[.…·_]{3,}|(?:\s\.){3,})\s*(?:\d{1,3}|[ivxl]{1,6})$")
_TABBED = re.compile(r"^.{2,150}?(?:\t|\s{3,})(?:\d{1,3})$")
_NUMBERED = re.compile(r"^(?:\d+(?:\.\d+)*\.?|[A-Z]\.|[IVX]+\.)\s+")


def contents_blocks(blocks: Sequence[Block]) -> set[int]:
    """Positions of the blocks that belong to a table of contents, its heading included."""
    found = {
        index
        for index, block in enumerate(blocks)
        if block.contents or (_LEADERS.match(block.text) and not block.cells)
    }
    headings = {_bare(block.text) for block in blocks if block.level or (block.look.bold and len(block.text) < 100)}
    index = 0
    while index < len(blocks):
        if _CONTENTS_HEADING.match(blocks[index].text):
            end = index + 1
            while end < len(blocks) and _is_entry(blocks[end], headings, end in found):
                end += 1
            if end - index > 2 or index + 1 in found:
                found |= set(range(index, end))
            index = end
            continue
        end = index
        while end < len(blocks) and _TABBED.match(blocks[end].text) and not blocks[end].cells and not blocks[end].level:
            end += 1
        pages = [int(re.split(r"\s", blocks[position].text)[-1]) for position in range(index, end)]
        if len(pages) >= 3 and pages == sorted(pages):
            known = sum(_bare(blocks[position].text) in headings for position in range(index, end))
            if known * 2 >= len(pages):
                found |= set(range(index, end))
        index = max(end, index + 1)
    return found


def _is_entry(block: Block, headings: set[str], known: bool) -> bool:
    if known or _TABBED.match(block.text):
        return True
    return not block.level and not block.look.bold and len(block.text) < 120 and _bare(block.text) in headings


def _bare(text: str) -> str:
    text = re.sub(r"[\s.…·_]+(?:\d{1,3})$", "", strip_notes(text))
    return _NUMBERED.sub("", text).strip().casefold()


def guidance_blocks(blocks: Sequence[Block]) -> set[int]:
    """Positions of blocks addressed to the template's user: whole paragraphs, bracketed passages, whole sections."""
    found: set[int] = set()
    index = 0
    while index < len(blocks):
        block = blocks[index]
        end = index + 1
        if block.level and _GUIDANCE_HEADING.search(_NUMBERED.sub("", block.text)):
            while end < len(blocks) and not _closes(blocks[end], block.level):
                end += 1
        elif not block.level and _GUIDANCE_OPEN.match(block.text) and "]" not in block.text:
            limit = min(index + 8, len(blocks))
            closing = next((at for at in range(end, limit) if "]" in blocks[at].text or blocks[at].level), limit)
            closed = closing < limit and not blocks[closing].level
            end = closing + 1 if closed else end
        elif not _is_guidance(block):
            index = end
            continue
        found |= set(range(index, end))
        index = end
    return found


def _closes(block: Block, level: int) -> bool:
    return block.level is not None and block.level <= level


def _is_guidance(block: Block) -> bool:
    """Whether all of the block is guidance; a single sentence in a paragraph is `without_guidance`'s business."""
    if block.level is not None or not block.text:
        return False
    if _GUIDANCE_STYLE.search(block.style) or (block.look.italic and block.look.grey):
        return True
    if _GUIDANCE_START.match(block.text) or re.fullmatch(
        rf"\[\s*(?:{_NOTE_TO})\b[^\]]*\]\.?", block.text, re.IGNORECASE
    ):
        return True
    return len(sentences(block.text)) == 1 and bool(_GUIDANCE_SAYS.search(block.text))


_INLINE_GUIDANCE = re.compile(rf"\s*\[\s*(?:{_NOTE_TO})\b[^\[\]]*\]|\s*\((?:{_NOTE_TO})\s*:[^()]*\)", re.IGNORECASE)


def without_guidance(text: str) -> tuple[str, list[str]]:
    """The paragraph without bracketed guidance and without sentences that tell the template's user what to do."""
    taken = [match.strip() for match in _INLINE_GUIDANCE.findall(text)]
    kept = []
    for sentence in sentences(_INLINE_GUIDANCE.sub("", text)):
        if _GUIDANCE_SAYS.search(sentence):
            taken.append(sentence)
        else:
            kept.append(sentence)
    return " ".join(kept).strip(), taken


def gaps(text: str) -> list[str]:
    """The unfilled placeholders in `text`, in order."""
    return [match.group() for match in _GAP.finditer(text)]


def without_gaps(text: str) -> tuple[str, list[str]]:
    """The paragraph without the sentences that hold a placeholder, and the placeholders."""
    if not gaps(text):
        return text, []
    kept, found = [], []
    for sentence in sentences(text):
        holes = gaps(sentence)
        found += holes
        if not holes:
            kept.append(sentence)
    return " ".join(kept).strip(), found


def row_without_gaps(cells: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """A table row without the parts that hold a placeholder; a row left with less than two parts is dropped."""
    found = [hole for cell in cells for hole in gaps(cell)]
    if not found:
        return tuple(cells), []
    kept = tuple(cell for cell in cells if not gaps(cell))
    return (kept if len(kept) >= 2 and kept[0] == cells[0] else ()), found


def heading_without_gaps(text: str) -> tuple[str, list[str]]:
    """A heading with its placeholders cut out, because a passage still needs a name."""
    holes = gaps(text)
    for hole in holes:
        text = text.replace(hole, " ")
    return re.sub(r"\s+", " ", text).strip(" :–-"), holes


def is_contents_heading(text: str) -> bool:
    """Whether a heading only announces a table of contents."""
    return bool(_CONTENTS_HEADING.match(text))
