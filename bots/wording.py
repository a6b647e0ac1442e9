"""What the assistant says by itself, in one place, so that it says the same on every platform."""

from typing import Final

NAME: Final = "QuantaHR"

NOTICE: Final = "I am an AI assistant and can be wrong. Check the sources, and ask HR when it matters."

WELCOME: Final = (
    "Hello! I am QuantaHR, an AI assistant. Ask me anything about our HR policies, in your own words, and I answer "
    "from the company's own documents and show you where it stands. I never decide about people, and I do not know "
    "anyone's personal data. For anything personal or serious I tell you which human to talk to."
)

PROMPTS: Final = (
    "How many days of annual leave do I get?",
    "What do I do when I am ill?",
    "Can I work from abroad for a few weeks?",
    "How do I claim travel expenses?",
)

LOOKING: Final = "Looking in the HR documents…"
ELSEWHERE: Final = "I have answered you in a private message."
WRITE_TO_ME: Final = "I would rather answer this in private. Please open a chat with me and ask me there."
UNREACHABLE: Final = (
    "I am sorry, I cannot take questions at the moment: a part of me is not running, and IT can see why. "
    "Please ask again in a few minutes."
)
BROKEN: Final = "I am sorry: something went wrong while I was answering. Please ask again, or ask HR."
STOPPED: Final = "Stopped."
THANKS_UP: Final = "Thank you, noted."
THANKS_DOWN: Final = "Thank you, noted. If you still need an answer, choose “Ask a human”."
UNKNOWN_QUESTION: Final = "I no longer have that question, so there is nothing to attach this to."
SENT_TO_HR: Final = "Done. I have passed your question on to HR with your name; their reply will appear here."
ALREADY_SENT: Final = "HR has this question already; their reply will appear here."
NOT_YOURS: Final = "Only the person who asked can pass a question on to HR."
EMPTY_REPLY: Final = "Please write a reply first."
REPLY_SENT: Final = "Your reply is on its way to the employee."
REPLY_TOO_LATE: Final = "This question has been answered already."
HR_ONLY: Final = "Only HR can answer these."
CONSENT: Final = "HR will see this question and your name. Nobody else will."
CLOSEST: Final = "Closest passages in the documents"
CLOSEST_BUTTON: Final = "Closest passages"
SOURCES: Final = "Sources"
SHOW_SOURCES: Final = "Show sources"
ASK_HUMAN: Final = "Ask a human"
SEND_TO_HR: Final = "Send to HR"
STOP: Final = "Stop"
REPLY: Final = "Reply"
HELPFUL: Final = "Good answer"
UNHELPFUL: Final = "Bad answer"
PASSAGES_GONE: Final = "I no longer have these passages. Ask the question again, and you can unfold them."
ONLY_THE_ASKER: Final = "Only the person who asked can open this."
ONLY_THE_ASKER_RATES: Final = "Only the person who asked can rate this answer."
NO_FILES: Final = (
    "Thank you, but I cannot open files. Please type your question in your own words, and leave personal data out."
)
NO_FILES_BUT: Final = "I cannot open the file, but I answer what you typed."
OFF_HERE: Final = "I do not answer in this channel. Write to me directly instead."
OUR_PEOPLE_ONLY: Final = "I am sorry, I only answer people of the company that runs me."
NOTHING_TO_STOP: Final = "There is nothing to stop: I am not answering anything of yours at the moment."
HR_ANSWERED: Final = "HR has answered your question"
HELP: Final = (
    "Type `/hr` and your question, in your own words; only you see the answer. For example: "
    "`/hr how many days off do I get when I move house?`\n"
    "`/hr stop` ends an answer that is on its way, `/hr help` shows this.\n"
    "`/hr onboarding` opens your checklist if you are new, `/hr summarise parental leave` a summary with sources. "
    "You can also ask what has changed in a policy.\n"
    "You can also write to me directly, or mention me in a channel. I answer from the company's HR documents, I am an "
    "AI and can be wrong, and for anything personal or serious I tell you which human to talk to."
)


def waiting(position: int) -> str:
    """How long the queue is, in words."""
    if position <= 0:
        return LOOKING
    return "One question is ahead of yours…" if position == 1 else f"{position} questions are ahead of yours…"


def no_hr_channel(name: str, detail: str) -> str:
    """What to do when nobody has configured where questions for HR go."""
    return f"I cannot pass questions on myself here. Please contact {name}{f' ({detail})' if detail else ''}."
