"""Clauses of the embedded corpus: one meaning, an English word order and three German ones.

The German finite verb is second in main clauses, first in questions, and last in subordinate clauses. The
other parts of the verb (separable prefix, participle, infinitive) are at the end. The fields of `MIDDLE`
are between.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from heed.data.grammar import lexicon
from heed.data.grammar.phrases import CASES, Phrase, Phrases, Token, plural_or_verb_s, rows

MIDDLE = tuple("reflexive pronoun definite time not gladly manner place indefinite last".split())  # noqa: SIM905
"""Order of the German middle field: time, nicht, manner, place."""
PRESENT = ("now", "habit", "simple", "gladly")  # tenses whose German form is the present
TENSES = (*["now"] * 6, *["past"] * 7, *["future"] * 3, *["habit"] * 3, "gladly", *["modal"] * 3, "wish")
TO_BE = {"habit": ("am", "is", "are"), "past": ("was", "was", "were")}
SEIN = {"habit": ("bin", "ist", "sind"), "past": ("war", "war", "waren")}
AUXILIARIES = {
    "haben": ("habe", "hat", "haben"),
    "sein": SEIN["habit"],
    "werden": ("werde", "wird", "werden"),
}


class Verb(NamedTuple):
    """A row of a verb table of the lexicon, which explains the columns."""

    en: list[str]  # base form and particles
    past: str
    participle: str
    de: str  # infinitive without the separable prefix
    er_form: str
    de_participle: str
    prefix: str
    perfect: str  # haben or sein
    reflexive: bool
    state: bool
    subjects: list[str]
    cases: list[str]  # of its objects
    preposition: str
    join: str  # REPORTS only: "that = dass"
    objects: list[str]
    manners: list[str]
    places: list[str]
    needs_place: bool

    @property
    def directed(self) -> bool:
        """True for a verb of motion, which needs a direction."""
        return self.preposition == "to"

    def ing(self) -> str:
        """Return the English -ing form."""
        base = self.en[0]
        if base.endswith("ie"):
            return base[:-2] + "ying"
        if base in lexicon.DOUBLED:
            return base + base[-1] + "ing"
        return (base[:-1] if base[-1] == "e" and base[-2] != "e" else base) + "ing"

    def german(self, agree: int) -> str:
        """Return the present tense for ich, er, sie (plural), without the prefix."""
        ich = self.de[:-1] if self.de.endswith("en") else self.de[:-1] + "e"
        return (lexicon.FIRST_PERSON.get(self.de, ich), self.er_form, self.de)[agree]


def _verb(row: str) -> Verb:
    en, de, subjects, *more = [part.strip() for part in row.split("|")]
    frame, objects, manners, places = [*more, "", "", "", ""][:4]
    words, *forms = en.replace("!", "").split()
    base = words.split("_")
    root = base[0] + base[0][-1] if base[0] in lexicon.DOUBLED else base[0].removesuffix("e")
    past, participle = forms or [root + "ed"] * 2
    *reflexive, infinitive, er_form, de_participle = de.split()
    prefix, _, stem = infinitive.rpartition("+")
    join = frame if "=" in frame else ""
    preposition = "" if join else "".join(word for word in frame.split() if word not in CASES)
    return Verb(
        base, past, participle, stem, er_form, de_participle.rstrip("*"), prefix,
        "sein" if de_participle.endswith("*") else "haben", bool(reflexive), "!" in en,
        subjects.split(), [word for word in frame.split() if word in CASES and not join], preposition, join,
        objects.split(), manners.split(), places.replace("+", "").split(), "+" in places,
    )  # fmt: skip


VERBS = [_verb(row) for row in lexicon.VERBS.strip().split("\n")]
REPORTS = [_verb(row) for row in lexicon.REPORTS.strip().split("\n")]
ATTEMPTS = [_verb(row) for row in lexicon.ATTEMPTS.strip().split("\n")]


@dataclass
class Clause:
    """The parts of a clause. The methods put them in order."""

    subject: Phrase
    aux: list[Token]  # English words that questions put before the subject
    main: list[Token]  # the other English words of the verb
    finite: Token
    right: list[Token] = field(default_factory=list)  # the last words of a German main clause
    joined: list[Token] = field(default_factory=list)  # the last words if the clause is verb-final
    infinitive: list[Token] = field(default_factory=list)  # with zu
    negation: int = 0  # link id
    middle: dict[str, list[Token]] = field(default_factory=lambda: {name: [] for name in MIDDLE})
    objects: list[Token] = field(default_factory=list)  # English, like the next four
    adverb: list[Token] = field(default_factory=list)  # one word: before the place
    place: list[Token] = field(default_factory=list)
    manner: list[Token] = field(default_factory=list)  # more words: after the place
    time: list[Token] = field(default_factory=list)
    often: list[Token] = field(default_factory=list)  # before the verb
    when: str = ""  # the table of times that fit the tense
    lead: tuple[list[Token], list[Token]] = ([], [])  # relative or question word
    fronted: bool = False  # the time comes first
    direct: Phrase | None = None  # the accusative object

    def predicate(self) -> list[Token]:
        """Return the English words from the main verb to the manner."""
        return [*self.main, *self.objects, *self.adverb, *self.place, *self.manner]

    def english(self, question: bool = False) -> list[Token]:
        """Return the English clause: subject, verb, object, place, manner, time."""
        aux, negation = list(self.aux), [("not", (self.negation,))] if self.negation else []
        if negation and aux[0][0] == "can" and not question:
            aux, negation = [("cannot", (*aux[0][1], self.negation))], []
        start = [*aux, *self.subject.en] if question else [*self.subject.en, *aux]
        before, after = (self.time, []) if self.fronted else ([], self.time)
        return [*before, *self.lead[0], *start, *negation, *self.often, *self.predicate(), *after]

    def _fields(self) -> list[Token]:
        names = [name for name in MIDDLE if not (name == "time" and self.fronted)]
        return [token for name in names for token in self.middle[name]]

    def verb_first(self) -> list[Token]:
        """Return the German clause with the finite verb first, for questions and after a fronted clause."""
        return [self.finite, *self.subject.de["N"], *self._fields(), *self.right]

    def verb_second(self) -> list[Token]:
        """Return the German main clause. If something else comes first, the subject follows the verb."""
        if self.lead[1] or self.fronted:
            return [*(self.lead[1] or self.middle["time"]), *self.verb_first()]
        return [*self.subject.de["N"], self.finite, *self._fields(), *self.right]

    def verb_final(self) -> list[Token]:
        """Return the German subordinate clause."""
        return [*self.lead[1], *self.subject.de["N"], *self._fields(), *self.joined]

    def with_zu(self) -> list[Token]:
        """Return the German infinitive clause, without a subject."""
        return [*self._fields(), *self.infinitive]


PAST = {verb: past for past, verb in rows(lexicon.SIMPLE_PAST)}
MODALS = [[part.split() for part in row.split("|")] for row in lexicon.MODALS.strip().split("\n")]


def conjugate(
    make: Phrases, verb: Verb, tense: str, subject: Phrase, support: bool, negated: bool, link: int
) -> Clause:
    """Return a clause of subject and verb.

    Args:
        make: the source of link ids and random numbers.
        verb: the verb.
        tense: one of `TENSES`, or "simple".
        subject: the subject.
        support: True for negations and questions, in which English needs an auxiliary.
        negated: True for negations.
        link: the link id of the verb's preposition.
    """
    own: tuple[int, ...] = (make.new_id(),)
    other: tuple[int, ...] = (make.new_id(),)
    agree = subject.agree
    base, *rest = verb.en
    simple = tense in PRESENT or (tense == "past" and verb.de in PAST)
    ids = own if simple else other  # of the finite verb
    particles: list[Token] = [(word, own) for word in rest]
    if rest and verb.preposition and not verb.directed:
        particles[-1] = (rest[-1], (link,))
    zu: list[Token] = [("to", own), (base, own)]  # English; "to" is linked as the verb is
    do = ("does" if agree == 1 else "do") if tense != "past" else "did"
    aux: list[Token] = []
    right: list[Token] = [(verb.prefix + verb.de, own)]
    gladly: list[Token] = []
    when = {"simple": "", "gladly": "habit"}.get(tense, tense)
    if tense == "modal":
        words, to, forms, (when,) = make.rng.choice(MODALS)
        forms = forms[2:] if negated and len(forms) == 4 else forms
        aux = [(words[0], ids)]
        main = [*((word, ids) for word in words[1:]), *(zu if to else zu[1:])]
        finite = forms[agree == 2]
    elif tense == "wish":
        word, (singular, plural, when) = make.rng.choice(list(lexicon.WISHES.items()))
        if support:
            aux = [("did" if word != "want" else do, ids)]
            main = [("have" if word == "had" else "want", ids), *zu]
        else:
            main = [(word + "s" if (word, agree) == ("want", 1) else word, ids), *zu]
        finite = plural if agree == 2 else singular
    elif tense == "future":
        aux, main, finite = [("will", ids)], [(base, own)], AUXILIARIES["werden"][agree]
    elif tense == "past":
        right, finite = [(verb.de_participle, own)], AUXILIARIES[verb.perfect][agree]
        if simple:
            right, finite = [], PAST[verb.de]
            finite += ("n" if finite[-1] == "e" else "en") if agree == 2 else ""
        if base == "be":
            aux, main = [(TO_BE["past"][agree], ids)], []
        elif support:
            aux, main = [(do, ids)], [(base, own)]
        else:
            main = [(verb.past, tuple(dict.fromkeys(ids + own)))]
    else:
        right, finite = [(verb.prefix, own)] if verb.prefix else [], verb.german(agree)
        if base == "be":
            aux, main = [(TO_BE["habit"][agree], ids)], []
        elif tense == "now":
            aux, main = [(TO_BE["habit"][agree], ids)], [(verb.ing(), own)]
        elif tense == "gladly":  # likes to read = liest gern
            gladly = [("gern", other)]
            aux = [(do, other)] if support else []
            main = [("like" if support or agree != 1 else "likes", other), *zu]
        elif support:
            aux, main = [(do, ids)], [(base, own)]
        else:
            main = [(plural_or_verb_s(base) if agree == 1 else base, ids)]
    joined = [(verb.prefix + finite, own)] if simple else [*right, (finite, ids)]
    stem = verb.prefix + "zu" + verb.de if verb.prefix else verb.de
    infinitive: list[Token] = [*([] if verb.prefix else [("zu", own)]), (stem, own)]
    clause = Clause(subject, aux, [*main, *particles], (finite, ids), right, joined, infinitive, when=when)
    clause.middle["gladly"] = gladly
    if verb.reflexive:
        clause.middle["reflexive"] = [(subject.reflexive, own)]
    return clause
