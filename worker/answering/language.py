"""Which language a message is in, told by its script and its small words.

Small words ("der", "que", "nie") are in every sentence and in few other languages. A message is taken for English
unless another language clearly wins: a wrong guess would keep an English question from being answered.
"""

import re

NATIVE = {
    "de": (
        "Ich bin ein KI-Assistent und kenne nur die englischen Personalunterlagen. Bitte stellen Sie Ihre "
        "Frage auf Englisch."
    ),
    "fr": (
        "Je suis un assistant IA et je ne connais que les documents RH en anglais. Merci de poser votre "
        "question en anglais."
    ),
    "es": (
        "Soy un asistente de IA y solo conozco los documentos de RR. HH. en inglés. Por favor, haga su "
        "pregunta en inglés."
    ),
    "it": ("Sono un assistente IA e conosco solo i documenti HR in inglese. La prego di fare la domanda in inglese."),
    "nl": ("Ik ben een AI-assistent en ken alleen de Engelse HR-documenten. Stel je vraag alstublieft in het Engels."),
    "pt": (
        "Sou um assistente de IA e só conheço os documentos de RH em inglês. Por favor, faça a sua pergunta em inglês."
    ),
    "pl": "Jestem asystentem AI i znam tylko dokumenty HR po angielsku. Proszę zadać pytanie po angielsku.",
}
"""By language code: that the documents are in English, said in that language."""

_SMALL_WORDS = {
    "en": (
        "the a an i you my me is are do does can what how when where who why if to of for on at in it and or "
        "not have has get will be there any much many with about from this that we our as by so was no your"
    ),
    "de": (
        "der die das und ich ist nicht ein eine zu den dem wie viel viele wann wo wer kann ich mein meine mir "
        "mich wir sie für auf mit von bei oder wenn habe haben darf muss gibt bekomme tage urlaub was warum "
        "noch auch im zum zur einen einer krank"
    ),
    "fr": (
        "le la les un une des je tu vous nous est sont et ou de du que qui quoi combien comment quand où pour "
        "dans sur avec mon ma mes ne pas au aux ce cette jours congés puis-je j'ai ai puis peux faut quel "
        "quelle quels suis"
    ),
    "es": (
        "el la los las un una de del que y o en es son yo mi mis para por con cuántos cuantos cuántas cuándo "
        "cuando cómo como dónde donde puedo tengo hay no se si qué días dias vacaciones cuál cual está estoy "
        "mucho necesito"
    ),
    "it": (
        "il lo la gli le un una di del della che e o in è sono io mio mia per con quanti quante quando come "
        "dove posso ho non si se giorni ferie cosa qual quale devo sto malattia chi dei ai al ci"
    ),
    "nl": (
        "de het een en ik is niet van te dat die hoe veel wanneer waar wie kan mijn mij wij voor op met bij "
        "als heb hebben mag moet krijg dagen vakantie wat waarom ook nog naar ziek er aan zijn"
    ),
    "pt": (
        "o a os as um uma de do da que e ou em é são eu meu minha para por com quantos quantas quando como "
        "onde posso tenho não nao se dias férias ferias qual há no na tem estou preciso"
    ),
    "pl": (
        "i w na z do nie się sie jest są ja mój moj moja moje ile jak kiedy gdzie kto czy mogę moge mam dla o "
        "po przy lub jeśli dni urlopu urlop co dlaczego to mnie jestem jaki jakie"
    ),
}
_WORDS = {code: frozenset(words.split()) for code, words in _SMALL_WORDS.items()}
_LETTERS = {"de": "äöüß", "fr": "çêèàùîœ", "es": "ñ¿¡", "it": "ìò", "pt": "ãõ", "pl": "łśżźćńęą"}
_SCRIPTS = (
    ("ru", "\u0400", "\u052f"),
    ("el", "\u0370", "\u03ff"),
    ("he", "\u0590", "\u05ff"),
    ("ar", "\u0600", "\u06ff"),
    ("hi", "\u0900", "\u0dff"),
    ("th", "\u0e00", "\u0e7f"),
    ("ja", "\u3040", "\u30ff"),
    ("zh", "\u4e00", "\u9fff"),
    ("ko", "\uac00", "\ud7af"),
)


def detect(text: str) -> str:
    """An ISO 639-1 code: "en" unless another language is clear."""
    lower = text.lower()
    letters = [mark for mark in lower if mark.isalpha()]
    for code, first, last in _SCRIPTS:
        if letters and sum(first <= mark <= last for mark in letters) > 0.4 * len(letters):
            return code
    tokens = re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", lower)
    if len(tokens) < 3:
        return "en"
    english = sum(token in _WORDS["en"] for token in tokens)
    best, most = "en", 0.0
    for code, small in _WORDS.items():
        if code == "en":
            continue
        score = sum(token in small for token in tokens) + 0.5 * any(mark in lower for mark in _LETTERS.get(code, ""))
        if score > most:
            best, most = code, score
    return best if most >= 2 and most > english + 1 and most >= 0.25 * len(tokens) else "en"
