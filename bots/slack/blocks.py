"""What Slack shows, built by pure functions: dictionaries in Block Kit's form.

Every text that comes from a document, an employee or HR is escaped here. `modern` workspaces know markdown blocks and
feedback buttons; for the others there are sections and plain buttons.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from bots import wording
from bots.slack.limits import SECTION
from bots.slack.text import escape, split
from quantahr.messages import Failed, Final, Source

Block = dict[str, Any]
Which = Literal["sources", "closest"]

FEEDBACK = "feedback"
SHOW_PASSAGES = "passages"
ASK_HUMAN = "ask_human"
STOP = "stop"
REPLY = "reply"
ESCALATE_VIEW = "escalate"
REPLY_VIEW = "hr_reply"

SILENT_VERDICTS = frozenset({"smalltalk", "invalid"})
"""Not answers: nothing to rate, nothing to pass on."""
TAIL = 3000
"""Characters of sources under an answer."""


def answer_text(end: Final | Failed) -> str:
    """The words of an answer, escaped."""
    if isinstance(end, Failed) or not end.stopped:
        return escape(end.text)
    return f"{escape(end.text)}\n\n_{wording.STOPPED}_" if end.text else wording.STOPPED


def text_blocks(text: str, *, modern: bool) -> list[Block]:
    """Escaped text as blocks; at most 12,000 characters."""
    if modern:
        return [{"type": "markdown", "text": text}]
    return [_section(piece) for piece in split(text, SECTION)]


def tail_blocks(question: str, end: Final | Failed, *, modern: bool) -> list[Block]:
    """What stands under an answer: sources, the notice that this is an AI, feedback and buttons."""
    if isinstance(end, Failed):
        return []
    blocks = sources_blocks(end.sources)
    blocks.append(_context(wording.NOTICE))
    if end.verdict in SILENT_VERDICTS:
        return blocks
    buttons = [_button(f"{SHOW_PASSAGES}_sources", wording.SHOW_SOURCES, f"sources:{question}")] if end.sources else []
    if end.closest:
        buttons.append(_button(f"{SHOW_PASSAGES}_closest", wording.CLOSEST_BUTTON, f"closest:{question}"))
    if end.verdict != "sensitive":
        # Of a sensitive question nothing is kept that could be passed on; its answer names the human.
        buttons.append(_button(ASK_HUMAN, wording.ASK_HUMAN, question))
    if modern:
        blocks.append(_feedback(question))
    else:
        buttons.append(_button(f"{FEEDBACK}_up", f"👍 {wording.HELPFUL}", f"1:{question}"))
        buttons.append(_button(f"{FEEDBACK}_down", f"👎 {wording.UNHELPFUL}", f"-1:{question}"))
    if buttons:
        blocks.append({"type": "actions", "elements": buttons})
    return blocks


def sources_blocks(sources: Sequence[Source]) -> list[Block]:
    """Where an answer stands: document, heading path, version; one line each."""
    lines = [_source_line(source) for source in sources]
    if not lines:
        return []
    kept: list[str] = []
    for line in lines:
        if sum(map(len, kept)) + len(line) > TAIL - 100:
            kept.append(f"… and {len(lines) - len(kept)} more: choose “{wording.SHOW_SOURCES}”.")
            break
        kept.append(line)
    return [_section(piece) for piece in split(f"*{wording.SOURCES}*\n" + "\n".join(kept), SECTION)]


def stop_blocks(text: str, question: str) -> list[Block]:
    """An answer that is still growing, with a Stop button; for workspaces without streams."""
    stop = _button(STOP, wording.STOP, question)
    return [*text_blocks(text, modern=False), {"type": "actions", "elements": [stop]}]


def passages_view(end: Final | Failed | None, which: Which) -> Block:
    """The passages, unfolded, as a modal. `end` is None once they are no longer kept."""
    passages = () if end is None or isinstance(end, Failed) else end.sources if which == "sources" else end.closest
    if not passages:
        return note_view(wording.PASSAGES_GONE)
    blocks: list[Block] = []
    for source in passages:
        blocks.append(_section(_source_line(source)))
        blocks += [_section(_quote(piece)) for piece in split(escape(source.passage), SECTION - 400)]
        blocks.append({"type": "divider"})
    return _modal(wording.SOURCES if which == "sources" else wording.CLOSEST_BUTTON, blocks[:99])


def consent_view(question: str, text: str, origin: Mapping[str, Any]) -> Block:
    """Shows what HR will see, and asks whether it may. `origin` comes back with the submission."""
    blocks = [_section(wording.CONSENT), *[_section(_quote(piece)) for piece in split(escape(text), SECTION - 400)]]
    view = _modal(wording.ASK_HUMAN, blocks[:99])
    return {
        **view,
        "callback_id": ESCALATE_VIEW,
        "submit": _plain(wording.SEND_TO_HR),
        "private_metadata": json.dumps({"question": question, **origin}),
    }


def reply_view(escalation: str, text: str, origin: Mapping[str, Any]) -> Block:
    """Where HR writes its reply to `text`."""
    entry = {
        "type": "input",
        "block_id": "reply",
        "label": _plain("Your reply"),
        "hint": _plain("It goes to the employee as you write it, with your name."),
        "element": {"type": "plain_text_input", "action_id": "text", "multiline": True, "max_length": 3000},
    }
    quoted = [_section(_quote(piece)) for piece in split(escape(text), SECTION - 400)]
    view = _modal("Reply to the employee", [*quoted[:90], entry])
    return {
        **view,
        "callback_id": REPLY_VIEW,
        "submit": _plain("Send"),
        "private_metadata": json.dumps({"escalation": escalation, **origin}),
    }


def note_view(text: str) -> Block:
    """A modal that says one thing."""
    return _modal(wording.NAME, [_section(escape(text))])


def escalation_blocks(escalation: str, user: str, text: str) -> list[Block]:
    """A question as HR's channel sees it."""
    return [
        _section(f"<@{user}> asks for a human:"),
        *[_section(_quote(piece)) for piece in split(escape(text), SECTION - 400)][:4],
        {"type": "actions", "elements": [_button(REPLY, wording.REPLY, escalation)]},
    ]


def answered_blocks(user: str, text: str, by: str) -> list[Block]:
    """The same once HR has replied."""
    return [
        _section(f"<@{user}> asked for a human:"),
        *[_section(_quote(piece)) for piece in split(escape(text), SECTION - 400)][:4],
        _context(f"Answered by <@{by}>."),
    ]


def hr_reply_blocks(question: str, text: str, by: str) -> list[Block]:
    """HR's reply as the employee sees it."""
    return [
        _section(f"*{wording.HR_ANSWERED}* (<@{by}>):"),
        *[_section(_quote(piece)) for piece in split(escape(question), SECTION - 400)][:3],
        *[_section(piece) for piece in split(escape(text), SECTION)],
    ]


def suggested_prompts() -> list[dict[str, str]]:
    """What a new conversation offers to ask."""
    return [{"title": prompt, "message": prompt} for prompt in wording.PROMPTS]


def _source_line(source: Source) -> str:
    since = f", in force since {source.effective}" if source.effective else ""
    heading = f" › {escape(source.heading.replace(' > ', ' › '))}" if source.heading else ""
    return f"[{source.number}] *{escape(source.document)}*{heading} (version {escape(source.version)}{since})"


def _quote(text: str) -> str:
    return "\n".join(f">{line}" for line in text.splitlines()) or ">"


def _section(text: str) -> Block:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": True}}


def _context(text: str) -> Block:
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": text, "verbatim": True}]}


def _plain(text: str) -> Block:
    return {"type": "plain_text", "text": text, "emoji": True}


def _button(action: str, label: str, value: str) -> Block:
    return {"type": "button", "action_id": action, "text": _plain(label), "value": value}


def _feedback(question: str) -> Block:
    element = {
        "type": "feedback_buttons",
        "action_id": FEEDBACK,
        "positive_button": {"text": _plain(wording.HELPFUL), "value": f"1:{question}"},
        "negative_button": {"text": _plain(wording.UNHELPFUL), "value": f"-1:{question}"},
    }
    return {"type": "context_actions", "elements": [element]}


def _modal(title: str, blocks: Iterable[Block]) -> Block:
    return {"type": "modal", "title": _plain(title[:24]), "close": _plain("Close"), "blocks": list(blocks)}
