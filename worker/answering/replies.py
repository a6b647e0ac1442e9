"""The fixed replies of the guard: short, warm, and always with the next step.

They are written here once, because a person in trouble, or one who was refused, should never read generated words.
"""

from quantahr.messages import Contact
from worker.answering.language import NATIVE

_OPENING = {
    "self_harm": (
        "I'm really sorry that you are going through this. I am an AI assistant and cannot help in "
        "the way you deserve, "
        "so please talk to a person now."
    ),
    "violence": "Thank you for saying this. Your safety comes first, and this needs a person, not an AI assistant.",
    "domestic_abuse": "Thank you for trusting me with this. You are not alone, and a person can help best.",
    "harassment": "I'm sorry that this is happening. It should be heard by a person, not by an AI assistant.",
    "discrimination": "I'm sorry that this is happening. It should be heard by a person, not by an AI assistant.",
    "whistleblowing": "Thank you for raising this. A concern like this belongs with a person who can look into it.",
    "substance": "Thank you for being open about this. It is best talked about with a person, in confidence.",
    "legal": "This is a matter for a person: I am an AI assistant and cannot give legal advice.",
    "health": "I'm sorry to hear this. Health is personal, so a person should help you with it, not an AI assistant.",
}
_DANGER = frozenset({"self_harm", "violence", "domestic_abuse"})


def named(contact: Contact) -> str:
    """A contact as part of a sentence: "the HR team (hr@example.com)"."""
    return f"{contact.name} ({contact.detail})" if contact.detail else contact.name


def sensitive(topic: str, contact: Contact, emergency: Contact) -> str:
    """For a disclosure: who listens, and that nothing was kept."""
    parts = [_OPENING[topic]]
    if topic in _DANGER:
        parts.append(f"If anyone is in danger right now, call {named(emergency)}.")
    parts.append(f"Please contact {named(contact)}: they will listen and treat it in confidence.")
    parts.append("What you wrote here is not stored, and only you can see this reply.")
    parts.append("If you also have a question about a policy, ask it by itself and I will look it up.")
    return " ".join(parts)


def private_data(hr: Contact) -> str:
    """For a question about somebody else."""
    return (
        "I can't share or look up anything about other people: I only know the HR documents, not anyone's data. "
        f"If you need this for your work, please ask {named(hr)}."
    )


def refused(hr: Contact) -> str:
    """For instructions and requests that have nothing to do with the documents."""
    return (
        "I'm an AI assistant that answers questions from the HR documents, and that is all I can do: I can't take "
        f"instructions, approve anything or play another role. Ask me about a policy, or contact {named(hr)}."
    )


def pointer(contact: Contact) -> str:
    """Under an ordinary answer on a delicate topic."""
    return (
        f"If this is about something that happened to you or someone else, {named(contact)} will listen in confidence."
    )


def small_talk(name: str, hr: Contact) -> str:
    """For greetings, thanks and questions about the assistant itself."""
    about = "I'm an AI assistant that answers from your company's HR documents."
    return {
        "greeting": f"Hello! {about} What would you like to know?",
        "wellbeing": f"Thanks for asking! {about} What would you like to know?",
        "thanks": "You're welcome! Ask me any time.",
        "acknowledged": "Fine! Ask me any time.",
        "goodbye": "Goodbye, and ask me any time.",
        "identity": f"{about} I'm not a person, and I can be wrong: please check the sources. For a human, ask "
        f"{named(hr)}.",
        "help": (
            f"{about} Ask in your own words, for example “How many days of annual leave do I get?” or “What do I do "
            f"when I'm ill?”. I show where each answer stands. For anything else, ask {named(hr)}."
        ),
        "insult": f"I'm sorry that I was no help. Try asking in other words, or ask {named(hr)}.",
        "compliment": "Thank you! Ask me any time.",
    }[name]


def too_long(limit: int) -> str:
    """For a message that nobody can answer in one go."""
    return f"That is too long for me: please ask in fewer than {limit:,} characters, one question at a time."


def no_words(*, has_characters: bool) -> str:
    """For a message without words."""
    if has_characters:
        return "I can only answer questions in words. What would you like to know about our HR policies?"
    return "Your message was empty. What would you like to know about our HR policies?"


def other_language(code: str, hr: Contact) -> str:
    """In the asker's language if it is one of ours, and in English."""
    native = NATIVE.get(code, "")
    english = f"Our HR documents are in English: please ask me in English, or contact {named(hr)}."
    return f"{native} {english}" if native else english
