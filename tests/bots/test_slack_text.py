"""Text into and out of Slack, `/hr`'s words, blocks and budgets: the pure parts."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bots import commands, wording
from bots.slack import blocks
from bots.slack.limits import PIECE, Workspace
from bots.slack.text import addressed_to, escape, plain, preview, split
from quantahr.messages import Failed, Final, Source
from tests.fakes.slack_limits import refuse_blocks, refuse_view

SOURCE = Source(
    number=1, section="s", document="Leave <1>.docx", heading="Leave > Days", passage="Thirty.", version="abc"
)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("<@U0BOT> can I work &lt;here&gt;?", "can I work <here>?"),
        ("ask <@U0ANA|ana> about <#C1|general>", "ask @colleague about #general"),
        ("<!here> look at <https://x.example/a|this> or <https://y.example>", "look at this or https://y.example"),
        ("mail <mailto:hr@example.com|hr@example.com>", "mail hr@example.com"),
        ("R&amp;D &amp;lt;", "R&D &lt;"),
    ],
)
def test_slacks_notation_is_made_plain(typed: str, meant: str) -> None:
    assert plain(typed, "U0BOT") == meant


@given(st.text(max_size=200))
def test_what_goes_out_pings_nobody_and_comes_back_as_it_was(text: str) -> None:
    escaped = escape(text)
    assert "<" not in escaped
    assert ">" not in escaped
    assert not any(loud in escaped.casefold().split() for loud in ("@here", "@channel", "@everyone"))
    assert plain(escaped).replace("\u2060", "") == text.replace("\u2060", "").strip()


def test_a_message_to_a_colleague_is_recognised() -> None:
    assert addressed_to("<@U1> and <@W2|bob>") == {"U1", "W2"}


@given(st.text(alphabet="ab .\n", max_size=900), st.integers(20, 200), st.integers(20, 200))
def test_a_long_text_is_split_without_losing_a_word(text: str, limit: int, first: int) -> None:
    pieces = split(text, limit, first)
    assert len(pieces[0]) <= first
    assert all(len(piece) <= limit for piece in pieces[1:])
    assert "".join("".join(pieces).split()) == "".join(text.split())
    if all(len(word) <= min(limit, first) // 2 for word in text.split()):
        assert " ".join(pieces).split() == text.split()


def test_a_preview_says_that_it_is_one() -> None:
    assert preview("short") == "short"
    assert preview("a" * 5000).endswith("…")
    assert len(preview("a" * 5000)) <= 4000


@pytest.mark.parametrize(
    ("typed", "command"),
    [
        ("", commands.Help()),
        ("  HELP ", commands.Help()),
        ("stop", commands.Stop()),
        ("how   many days\noff?", commands.Ask("how many days off?")),
        ("help me with my payslip", commands.Ask("help me with my payslip")),
        ("stop smoking support?", commands.Ask("stop smoking support?")),
    ],
)
def test_hr_understands_a_few_words_and_takes_the_rest_as_a_question(typed: str, command: commands.Command) -> None:
    assert commands.parse(typed) == command


def test_stop_may_be_shouted() -> None:
    assert commands.is_stop("STOP!!")
    assert not commands.is_stop("when do we stop for Christmas?")


@pytest.mark.parametrize("modern", [True, False])
def test_an_answer_with_many_sources_stays_within_slacks_sizes(modern: bool) -> None:
    sources = tuple(SOURCE.model_copy(update={"number": n, "heading": "Long heading " * 30}) for n in range(1, 21))
    end = Final(verdict="quoted", text="x", sources=sources, closest=sources)
    shown = [*blocks.text_blocks("word " * (PIECE // 5), modern=modern), *blocks.tail_blocks("q", end, modern=modern)]
    assert refuse_blocks(shown, modern=modern) is None
    assert "more: choose" in json.dumps(shown, ensure_ascii=False)


def test_the_tail_names_the_source_and_says_that_this_is_an_ai() -> None:
    shown = json.dumps(blocks.tail_blocks("q1", Final(verdict="answered", text="x", sources=(SOURCE,)), modern=True))
    assert "Leave &lt;1&gt;.docx" in shown
    assert json.dumps(wording.NOTICE)[1:-1] in shown
    assert "feedback_buttons" in shown


def test_small_talk_and_apologies_ask_for_no_rating() -> None:
    assert "button" not in json.dumps(blocks.tail_blocks("q", Final(verdict="smalltalk", text="Hi"), modern=True))
    assert blocks.tail_blocks("q", Failed(code="timeout", text="Sorry"), modern=True) == []


def test_passages_are_unfolded_whole_or_said_to_be_gone() -> None:
    passage = "A rule. " * 900
    end = Final(verdict="quoted", text="x", sources=(SOURCE.model_copy(update={"passage": passage}),))
    view = blocks.passages_view(end, "sources")
    assert refuse_view(view) is None
    assert json.dumps(view).count("A rule.") == 900
    assert wording.PASSAGES_GONE in json.dumps(blocks.passages_view(None, "sources"))


def test_consent_shows_the_question_and_what_hr_will_see() -> None:
    view = blocks.consent_view("q1", "Is <my> boss right?", {"channel": "D1", "thread": None})
    assert refuse_view(view) is None
    assert wording.CONSENT in json.dumps(view)
    assert "Is &lt;my&gt; boss right?" in json.dumps(view)


def test_forms_and_messages_to_hr_fit_even_with_long_questions() -> None:
    assert refuse_view(blocks.reply_view("e1", "word " * 2000, {"channel": "C", "ts": "1"})) is None
    assert refuse_blocks(blocks.escalation_blocks("e1", "U1", "word " * 2000), modern=False) is None
    assert refuse_blocks(blocks.hr_reply_blocks("word " * 900, "reply " * 500, "U2"), modern=False) is None


def test_a_minutes_budget_ends_and_comes_back() -> None:
    now = [0.0]
    workspace = Workspace(clock=lambda: now[0])
    taken = [workspace.take("start") for _ in range(20)]
    assert taken == [True] * 18 + [False] * 2
    now[0] = 61.0
    assert workspace.take("start")
    workspace.pause("start", 30)
    assert not workspace.take("start")
    now[0] = 92.0
    assert workspace.take("start")
