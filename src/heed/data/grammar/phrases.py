"""Inflection and noun phrases of the embedded corpus: English and German side by side, joined by link ids.

A token is `(text, ids)`. An English and a German token are aligned if they share an id. Tokens get their
ids while a phrase is built, so that each language can order its tokens freely and the gold alignment stays
correct.
"""

from dataclasses import dataclass, field
from functools import cache
from itertools import count
from random import Random
from typing import NamedTuple

from heed.data.grammar import lexicon

Ids = tuple[int, ...]
Token = tuple[str, Ids]
CASES = "NADG"  # nominative, accusative, dative, genitive
# Endings by case, then by gender: m(asculine) f(eminine) n(euter) p(lural).
THE = {"N": "der die das die", "A": "den die das die", "D": "dem der dem den", "G": "des der des der"}
STRONG = {"N": "er e es e", "A": "en e es e", "D": "em er em en", "G": "es er es er"}  # dieser, einige
MIXED = {"N": "- e - e", "A": "en e - e", "D": "em er em en", "G": "es er es er"}  # ein, kein, mein
WHO = THE | {"D": "dem der dem denen", "G": "dessen deren dessen deren"}
ADJECTIVE = {  # depends on the word before: none, der-words, ein-words
    "strong": STRONG | {"G": "en er en er"},
    "weak": {"N": "e e e en", "A": "en e e en", "D": "en en en en", "G": "en en en en"},
    "mixed": {"N": "er e es en", "A": "en e es en", "D": "en en en en", "G": "en en en en"},
}
DETERMINERS = {  # English singular, plural: German stem, its endings, the adjective after it
    ("the", "the"): ("", THE, "weak"),
    ("this", "these"): ("dies", STRONG, "weak"),
    ("every", ""): ("jed", STRONG, "weak"),
    ("a", ""): ("ein", MIXED, "mixed"),
    ("my", "my"): ("mein", MIXED, "mixed"),
    ("his", "his"): ("sein", MIXED, "mixed"),
    ("her", "her"): ("ihr", MIXED, "mixed"),
    ("our", "our"): ("unser", MIXED, "mixed"),
    ("their", "their"): ("ihr", MIXED, "mixed"),
    ("", "some"): ("einig", STRONG, "strong"),
    ("", "many"): ("viel", STRONG, "strong"),
    ("", "two"): ("zwei", dict.fromkeys(CASES, "- - - -"), "strong"),
    ("", "three"): ("drei", dict.fromkeys(CASES, "- - - -"), "strong"),
}
NO = ("kein", MIXED, "mixed")
COLOURS = ("red", "blue", "black", "white")  # not "very"
PRONOUNS = {  # English subject, object: German N A D, agreement, reflexive
    "I": ("me", "ich mich mir", 0, "mich"),
    "he": ("him", "er ihn ihm", 1, "sich"),
    "she": ("her", "sie sie ihr", 1, "sich"),
    "we": ("us", "wir uns uns", 2, "uns"),
    "they": ("them", "sie sie ihnen", 2, "sich"),
}


class Noun(NamedTuple):
    """A row of the noun table. Gender `w` is a weak masculine: its oblique cases equal its plural."""

    en: str
    en_plural: str
    de: str
    gender: str
    de_plural: str
    kind: str


class Adjective(NamedTuple):
    """A row of the adjective table."""

    en: str
    de: str  # alone, after sein
    stem: str  # takes the endings


@dataclass
class Phrase:
    """A subject or an object. `agree` selects the verb form: 0 ich, 1 er/sie/es, 2 wir/sie."""

    en: list[Token]
    de: dict[str, list[Token]]  # by case
    agree: int = 1
    gender: str = "m"  # m f n p, as for `THE`
    kind: str = "person"
    definite: bool = True  # German puts definite objects before time, manner and place, others after
    en_object: list[Token] | None = None  # of pronouns, if it differs
    reflexive: str = "sich"
    anaphor: str | None = None  # the English pronoun that refers to this phrase
    negated: bool = False  # contains the negation, as kein does


@cache
def entries(table: str) -> list[str]:
    """Return the entries of a table of the lexicon."""
    return [entry.strip() for entry in table.replace("\n", ";").split(";") if entry.strip()]


def rows(table: str) -> list[list[str]]:
    """Return the entries of a table, each split at spaces. `_` becomes a space."""
    return [[word.replace("_", " ") for word in entry.split()] for entry in entries(table)]


def plural_or_verb_s(word: str) -> str:
    """Return the English noun or verb with -s: watches, tries, buys."""
    if word.endswith(("s", "x", "ch", "sh")) or word == "go":
        return word + "es"
    return word[:-1] + "ies" if word[-1] == "y" and word[-2] not in "aeiou" else word + "s"


def ending(table: dict[str, str], case: str, gender: str) -> str:
    """Return an ending of the table. `-` in the table means no ending."""
    return table[case].split()["mfnp".index(gender)].replace("-", "")


def noun_form(noun: Noun, case: str, plural: bool) -> str:
    """Return a German noun in a case: -n in the dative plural, -(e)s in the genitive, weak masculines."""
    if plural:
        return noun.de_plural + ("n" if case == "D" and noun.de_plural[-1] not in "ns" else "")
    if noun.gender == "w":
        return noun.de if case == "N" else noun.de_plural
    if case != "G" or noun.gender == "f":
        return noun.de
    vowels = "".join(letter if letter in "aeiouäöü" else " " for letter in noun.de.lower()).split()
    long = len(vowels) == 1 or noun.de[-1] in "sßxz"  # des Mannes, but des Vaters
    return lexicon.GENITIVE.get(noun.de, noun.de + ("es" if long else "s"))


def _nouns(kind: str) -> list[Noun]:
    nouns = []
    for word, de, gender, de_plural in rows(lexicon.NOUNS[kind]):
        en, _, en_plural = word.partition("/")
        nouns.append(Noun(en, en_plural or plural_or_verb_s(en), de, gender, de_plural, kind))
    return nouns


NOUNS = {kind: _nouns(kind) for kind in lexicon.NOUNS}
NAMES = rows(lexicon.NAMES)
ADJECTIVES: dict[str, list[Adjective]] = {kind: [] for kind in NOUNS}
for _entry, _kinds in lexicon.ADJECTIVES.items():
    _en, _de = _entry.split()
    _base, _, _stem = _de.partition("/")
    for _kind in _kinds.split():
        ADJECTIVES[_kind].append(Adjective(_en, _base, _stem or _base))


@dataclass
class Phrases:
    """Makes random phrases. Keeps the link ids and the nouns already used in the sentence."""

    rng: Random
    used: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._ids = count(1)

    def new_id(self) -> int:
        """Return a new link id."""
        return next(self._ids)

    def chance(self, probability: float) -> bool:
        """Return True with this probability."""
        return self.rng.random() < probability

    def fixed(self, entry: str) -> tuple[list[Token], list[Token]]:
        """Return the tokens of `english = german`. Words with the same digit, or without one, are linked."""
        ids = {digit: self.new_id() for digit in "0123456789"}

        def tokens(text: str) -> list[Token]:
            return [
                (word.rstrip("0123456789"), (ids[word[-1] if word[-1].isdigit() else "0"],)) for word in text.split()
            ]

        en, de = entry.split(" = ")
        return tokens(en), tokens(de)

    def pronoun(self, en: str, gender: str = "m") -> Phrase:
        """Return a personal pronoun. `it` is er, sie or es by the gender of the noun that it replaces."""
        if en == "it":
            forms = {"m": "er ihn ihm", "f": "sie sie ihr", "n": "es es ihm"}[gender]
            en_object, agree, reflexive = "it", 1, "sich"
        else:
            en_object, forms, agree, reflexive = PRONOUNS[en]
        ids: Ids = (self.new_id(),)
        de = {case: [(word, ids)] for case, word in zip("NAD", forms.split(), strict=True)}
        return Phrase([(en, ids)], de, agree, en_object=[(en_object, ids)], reflexive=reflexive, anaphor=en)

    def name(self) -> Phrase:
        """Return a proper name, or two names joined by and."""
        (first, gender), (second, _) = self.rng.sample(NAMES, 2)
        ids: Ids = (self.new_id(),)
        if self.chance(0.8):
            de, anaphor = {case: [(first, ids)] for case in "NAD"}, "she" if gender == "f" else "he"
            return Phrase([(first, ids)], de, 1, gender, anaphor=anaphor)
        en, both = self.fixed(f"{first}1 and2 {second}3 = {first}1 und2 {second}3")
        return Phrase(en, dict.fromkeys("NAD", both), 2, "p", anaphor="they")

    def relative(self, case: str, head: Phrase, preposition: bool = False) -> Phrase:
        """Return the relative pronoun for a head, as a phrase."""
        ids: Ids = (self.new_id(),)
        thing = "which" if preposition else "that"
        en = thing if head.kind != "person" else "who" if case == "N" else "whom"
        de = {case: [(ending(WHO, case, head.gender), ids)] for case in CASES}
        agree = 2 if head.gender == "p" else 1
        return Phrase([(en, ids)], de, agree, head.gender, head.kind)

    def noun_phrase(
        self, kinds: list[str], negation: int = 0, definite: bool | None = None, plain: bool = False
    ) -> Phrase:
        """Return a phrase of article or possessor, adjective, noun.

        Args:
            kinds: the kinds of nouns to choose from.
            negation: the link id of a "not", which may become part of kein.
            definite: None means random.
            plain: definite, without adjective or possessor.
        """
        noun = self._noun(kinds)
        plural = noun.de_plural != "-" and self.chance(0.3)
        gender = "p" if plural else noun.gender.replace("w", "m")
        key, definite = self._determiner(plural, True if plain else definite, noun)
        negated = bool(negation) and key in (("", ""), ("a", ""))
        stem, endings, degree = NO if negated else DETERMINERS.get(key, ("", {}, "strong"))
        article: Ids = (self.new_id(),)
        thing: Ids = (self.new_id(),)
        en: list[Token] = [(key[plural], article)] if key[plural] else []
        words = {case: (stem + ending(endings, case, gender), article) for case in CASES if endings}
        before = {case: [words[case]] if endings else [] for case in CASES}
        after: list[Token] = []
        if negated:  # kein is one word for "not ... a"
            before = {case: [(words[case][0], (*article, negation))] for case in CASES}
        elif not plain and definite and self.chance(0.12):
            en, before, after, degree = self._possessor(noun, gender, thing)
        adjectives = self._adjectives(noun.kind) if not plain else []
        head, *rest = (noun.en_plural if plural else noun.en).split()
        measured = (self.new_id(),) if "of" in rest else thing  # a glass of water: German has no preposition
        en += [*(token for token, _ in adjectives), (head, thing), *((word, measured) for word in rest)]
        for index, (word, ids) in enumerate(en[:-1]):
            if word == "a" and en[index + 1][0][0] in "aeiou":
                en[index] = ("an", ids)
        de = {}
        for case in CASES:
            inflected = [
                (text + (ending(ADJECTIVE[degree], case, gender) if text != "sehr" else ""), ids)
                for _, (text, ids) in adjectives
            ]
            head, *mass = noun_form(noun, case, plural).split()
            nouns = [(head, thing), *((word, measured) for word in mass)]
            de[case] = [*before[case], *inflected, *nouns, *after]
        anaphor = _anaphor(noun, plural)
        return Phrase(en, de, 1 + plural, gender, noun.kind, definite, anaphor=anaphor, negated=negated)

    def _noun(self, kinds: list[str]) -> Noun:
        choices = [noun for kind in kinds for noun in NOUNS[kind] if noun.en not in self.used]
        noun = self.rng.choice(choices)
        self.used.append(noun.en)
        return noun

    def _determiner(self, plural: bool, definite: bool | None, noun: Noun) -> tuple[tuple[str, str], bool]:
        """Return a key of `DETERMINERS`, or `("", "")` for a bare plural, and True if it is definite."""
        if definite or (definite is None and self.chance(0.6)):
            first = ("the", "the")
            own = [key for key, (_, endings, _) in DETERMINERS.items() if endings is MIXED and key[0] != "a"]
            return (first if self.chance(0.6) else self.rng.choice([("this", "these"), *own])), True
        if plural:
            return self.rng.choice([("", ""), ("", "some"), ("", "many"), ("", "two"), ("", "three")]), False
        return (("every", "") if noun.kind == "person" and self.chance(0.1) else ("a", "")), False

    def _adjectives(self, kind: str) -> list[tuple[Token, Token]]:
        if not self.chance(0.3):
            return []
        adjective, ids, very = self.rng.choice(ADJECTIVES[kind]), (self.new_id(),), (self.new_id(),)
        graded = adjective.en not in COLOURS and self.chance(0.1)
        intensifier = [(("very", very), ("sehr", very))] if graded else []
        return [*intensifier, ((adjective.en, ids), (adjective.stem, ids))]

    def _possessor(
        self, noun: Noun, gender: str, thing: Ids
    ) -> tuple[list[Token], dict[str, list[Token]], list[Token], str]:
        """Return a possessor: Anna's ... = Annas ..., the man's ... = der/die/das ... des Mannes.

        The parts are: the English, the German before the noun, the German after the noun, and the declension
        of the adjective. The German article is linked as its noun is.
        """
        ids: Ids
        if self.chance(0.4):
            ids = (self.new_id(),)
            name = self.rng.choice(NAMES)[0]
            return [(name + "'s", ids)], {case: [(name + "s", ids)] for case in CASES}, [], "strong"
        owner = self.noun_phrase(["person"], plain=True)
        word, ids = owner.en[-1]
        en = [*owner.en[:-1], (word + ("'" if word.endswith("s") else "'s"), ids)]
        return en, {case: [(ending(THE, case, gender), thing)] for case in CASES}, owner.de["G"], "weak"


def _anaphor(noun: Noun, plural: bool) -> str | None:
    if plural:
        return "they"
    if noun.kind != "person":
        return "it"
    if noun.en in lexicon.NO_PRONOUN:
        return None
    return "she" if noun.gender == "f" or noun.en in lexicon.FEMININE else "he"
