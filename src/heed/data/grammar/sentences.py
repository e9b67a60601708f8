"""Sentences of the embedded corpus: one or two clauses with random contents."""

from collections.abc import Callable
from random import Random

from heed.data.grammar import lexicon
from heed.data.grammar.clauses import ATTEMPTS, REPORTS, TO_BE, VERBS, Clause
from heed.data.grammar.content import Both, Content
from heed.data.grammar.phrases import Phrase, Token

Sentence = tuple[str, str, list[tuple[int, int]]]  # English, German, links between their words
TO_DO = [verb for verb in VERBS if not verb.state]
GOING = [verb for verb in TO_DO if verb.directed and not verb.prefix]
PASSIVE = [
    verb
    for verb in TO_DO
    if (verb.cases, verb.preposition) == (["A"], "")
    and "person" in verb.subjects
    and verb.en[0] not in ("get", "look", "meet")
]


def mark(tokens: list[Token], sign: str) -> list[Token]:
    """Return the tokens with a punctuation mark after the last word. It replaces a comma."""
    (word, ids) = tokens[-1]
    return [*tokens[:-1], (word.rstrip(",") + sign, ids)]


def surface(en: list[Token], de: list[Token]) -> Sentence:
    """Return both texts, with a capital letter, and the links. Words that share an id are linked."""
    links = [(i, j) for i, (_, a) in enumerate(en) for j, (_, b) in enumerate(de) if not set(a).isdisjoint(b)]
    texts = [" ".join(word for word, _ in tokens) for tokens in (en, de)]
    return texts[0][0].upper() + texts[0][1:], texts[1][0].upper() + texts[1][1:], links


class Sentences(Content):
    """Makes one random sentence. Each sentence needs a new object."""

    def statement(self) -> Both:
        """Return a main clause of any tense, often with the time at the front."""
        clause = self.clause(details=0.5)
        return mark(clause.english(), "."), mark(clause.verb_second(), ".")

    def description(self) -> Both:
        """Return a main clause with sein and an adjective."""
        clause = self.copula(tense=self.rng.choice(["habit", "past"]))
        return mark(clause.english(), "."), mark(clause.verb_second(), ".")

    def relative_clause(self, head: Phrase) -> None:
        """Add a relative clause to a noun phrase, in all its cases."""
        tenses = ("now", "past", "habit")
        verbs = [v for v in VERBS if head.kind in v.objects and len(v.cases) == 1]
        if self.chance(0.5) and head.kind in ("person", "animal"):
            clause = self.clause(self.relative("N", head), tenses=tenses, details=0.3)
        elif not verbs or (head.kind in ("person", "animal") and self.chance(0.3)):
            clause = self.copula(self.relative("N", head), self.rng.choice(["habit", "past"]))
        else:
            verb = self.rng.choice(verbs)
            prepositional = bool(verb.preposition) and len(verb.en) > 1
            who = self.relative(verb.cases[0], head, prepositional)
            clause = self.clause(verb=verb, tenses=tenses, details=0.2, support=False, extracted=who)
        head.en = [*head.en, *clause.english()]
        head.de = {case: [*mark(de, ","), *mark(clause.verb_final(), ",")] for case, de in head.de.items()}

    def relative_sentence(self) -> Both:
        """Return a main clause whose subject has a relative clause."""
        kind = self.rng.choice(["person", "person", "animal", "thing", "text", "clothing", "vehicle"])
        subject = self.noun_phrase([kind], definite=True)
        self.relative_clause(subject)
        acts = subject.kind in ("person", "animal")
        clause = self.clause(subject, details=0.2, support=False) if acts else self.copula(subject)
        clause.fronted = False
        return mark(clause.english(), "."), mark(clause.verb_second(), ".")

    def reason(self) -> Both:
        """Return a main clause, then a subordinate clause: because, although, before, as soon as."""
        tense = self.rng.choice(["now", "past", "past", "future"])
        main = self.clause(tenses=(tense,), details=0.25)
        return self._join(main, self._subordinate(main, tense, main.direct), front=False)

    def condition(self) -> Both:
        """Return a subordinate clause, then a main clause, which begins with its finite verb in German."""
        tense = self.rng.choice(["now", "past", "future"])
        main = self.clause(tenses=(tense,), details=0.2)
        main.fronted = False
        return self._join(main, self._subordinate(main, tense, None), front=True)

    def _subordinate(self, main: Clause, tense: str, thing: Phrase | None) -> tuple[str, Both]:
        who = main.subject
        if thing and thing.kind not in ("person", "drink") and not main.negation and self.chance(0.5):
            who = thing
        conjunctions = "because = weil; although = obwohl"
        if tense == "now" and self.chance(0.3):
            weather = self.fixed(self.choose(lexicon.WEATHER))
            return self.choose("because = weil; when = wenn; if = wenn"), weather
        if who.anaphor and self.chance(0.5):
            again = self.pronoun(who.anaphor, who.gender)
            again.kind = who.kind
            if tense == "past":
                conjunctions += "; when = als"
            clause = self.copula(again, "past" if tense == "past" else "habit", lexicon.STATES)
            return self.choose(conjunctions), (clause.english(), clause.verb_final())
        if tense == "future" and self.chance(0.7):
            conjunctions = "when = wenn; if = wenn; as soon as = sobald; before = bevor"
            return self.choose(conjunctions), self._final(("simple",))
        return self.choose(conjunctions), self._final(("now", "habit") if tense == "now" else (tense,))

    def _final(self, tenses: tuple[str, ...]) -> Both:
        clause = self.clause(tenses=tenses, details=0.15)
        clause.fronted = False
        return clause.english(), clause.verb_final()

    def _join(self, main: Clause, subordinate: tuple[str, Both], front: bool) -> Both:
        word, (en, de) = subordinate
        conjunction = self.fixed(word)
        en, de = [*conjunction[0], *en], [*conjunction[1], *de]
        if front:
            english = [*mark(en, ","), *mark(main.english(), ".")]
            return english, [*mark(de, ","), *mark(main.verb_first(), ".")]
        return [*main.english(), *mark(en, ".")], [*mark(main.verb_second(), ","), *mark(de, ".")]

    def report(self) -> Both:
        """Return a sentence with "says that" (dass) or "asks whether" (ob)."""
        verb = self.rng.choice(REPORTS)
        tense = self.rng.choice(["habit", "past"])
        main = self.clause(verb=verb, tenses=(tense,), details=0)
        times = ("past",) if tense == "past" else ("now", "past", "future", "modal", "habit")
        inner = self.copula(tense=tense) if self.chance(0.3) else self.clause(tenses=times, details=0.25)
        inner.fronted = False
        word = self.fixed(verb.join)
        return (
            [*main.english(), *word[0], *mark(inner.english(), ".")],
            [*mark(main.verb_second(), ","), *word[1], *mark(inner.verb_final(), ".")],
        )

    def purpose(self) -> Both:
        """Return a sentence with an infinitive: goes home to ... (um ... zu), tries to ... (zu)."""
        attempt = self.chance(0.4)
        main_verb = self.rng.choice(ATTEMPTS if attempt else GOING)
        tenses = ("past", "future") if attempt else ("past", "future", "now")
        main = self.clause(verb=main_verb, tenses=tenses, details=0.2)
        verbs = [verb for verb in TO_DO if main.subject.kind in verb.subjects and not verb.directed]
        verb, to = self.rng.choice(verbs), (self.new_id(),)
        inner = self.clause(main.subject, verb, ("simple",), details=0.15, support=False)
        inner.main[0] = (verb.en[0], inner.main[0][1])
        word, own = inner.infinitive[-1]  # zu is a separate word, or inside a separable verb
        inner.infinitive = [("zu", to), (word, own)] if inner.infinitive[1:] else [(word, to + own)]
        purpose: list[Token] = [] if attempt else [("um", to)]
        en = [*main.english(), ("to", to), *inner.predicate()]
        return mark(en, "."), [*mark(main.verb_second(), ","), *purpose, *mark(inner.with_zu(), ".")]

    def question(self) -> Both:
        """Return a yes-no question, or a question with why, when, what or who."""
        tenses = ("now", "past", "future", "modal")
        kind = self.rng.choice(["yes-no", "adverb", "what", "who"])
        if kind == "who":
            ids = (self.new_id(),)
            who = Phrase([("who", ids)], {"N": [("wer", ids)]})
            clause = self.clause(who, tenses=tenses, details=0.5, support=False)
            clause.fronted = False
            return mark(clause.english(), "?"), mark(clause.verb_second(), "?")
        if kind == "what":
            ids = (self.new_id(),)
            what = Phrase([("what", ids)], {"A": [("was", ids)]})
            verb = self.rng.choice(
                [v for v in TO_DO if v.cases == ["A"] and "person" not in v.objects and not v.preposition]
            )
            clause = self.clause(None, verb, tenses, support=True, extracted=what)
        else:
            clause = self.clause(tenses=tenses, support=True)
            if kind == "adverb":
                word = self.choose("why = warum" if clause.time else "why = warum; when = wann")
                clause.lead = self.fixed(word)
        clause.fronted = False
        german = clause.verb_first() if kind == "yes-no" else clause.verb_second()
        return mark(clause.english(question=True), "?"), mark(german, "?")

    def passive(self) -> Both:
        """Return a passive sentence: the letter was written by her (wurde ... von ihr geschrieben)."""
        verb = self.rng.choice(PASSIVE)
        subject = self.noun_phrase(verb.objects, definite=True)
        agent = self.noun_phrase(["person"], definite=True)
        own, other, by = (self.new_id(),), (self.new_id(),), (self.new_id(),)
        finite = ("wurden" if subject.agree == 2 else "wurde", other)
        was = TO_BE["past"][subject.agree]
        main: list[Token] = [(verb.participle, own), *((word, own) for word in verb.en[1:])]
        clause = Clause(subject, [(was, other)], main, finite, [(verb.de_participle, own)])
        clause.objects = [("by", by), *agent.en]
        clause.middle["last"] = self.contract([("von", by)], agent.de["D"], ("dem",))
        if self.chance(0.5):
            clause.time, clause.middle["time"] = self.fixed(self.choose(lexicon.TIMES["past"]))
            clause.fronted = self.chance(0.3)
        return mark(clause.english(), "."), mark(clause.verb_second(), ".")

    def existence(self) -> Both:
        """Return a sentence like "there is a ... in the ..." (im ... gibt es einen ...)."""
        past, ids = self.chance(0.4), (self.new_id(),)
        thing = self.noun_phrase([self.rng.choice(["animal", "thing", "vehicle"])], definite=False)
        be = TO_BE["past" if past else "habit"][thing.agree]
        en, de = self.place(self.rng.choice(["home", "outside", "office", "leisure", "city"]), directed=False)
        english: list[Token] = [("there", ids), (be, ids), *thing.en, *en]
        german: list[Token] = [*de, ("gab" if past else "gibt", ids), ("es", ids), *thing.de["A"]]
        return mark(english, "."), mark(german, ".")

    def contrast(self) -> Both:
        """Return two main clauses joined by and or but."""
        tense = self.rng.choice(["now", "past", "future"])
        first, second = (self.clause(tenses=(tense,), details=0.2) for _ in range(2))
        first.fronted = second.fronted = False
        en, de = self.fixed(self.choose("and = und; but = aber"))
        return (
            [*mark(first.english(), ","), *en, *mark(second.english(), ".")],
            [*mark(first.verb_second(), ","), *de, *mark(second.verb_second(), ".")],
        )


PATTERNS: list[tuple[Callable[[Sentences], Both], int]] = [  # with their weights
    (Sentences.statement, 38), (Sentences.description, 7), (Sentences.relative_sentence, 12),
    (Sentences.reason, 10), (Sentences.condition, 6), (Sentences.report, 7), (Sentences.purpose, 6),
    (Sentences.question, 5), (Sentences.passive, 4), (Sentences.existence, 3), (Sentences.contrast, 3),
]  # fmt: skip


def sentence(rng: Random) -> Sentence:
    """Return a random sentence of 4 to 14 English words, with its translation and gold links."""
    patterns, weights = zip(*PATTERNS, strict=True)
    while True:
        en, de = rng.choices(patterns, weights)[0](Sentences(rng))
        if 4 <= len(en) <= 14 and len(de) <= 16:
            return surface(en, de)
