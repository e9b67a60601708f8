"""Contents of the embedded corpus: verbs with suitable objects, times, manners and places."""

from heed.data.grammar import lexicon
from heed.data.grammar.clauses import SEIN, TENSES, TO_BE, VERBS, Clause, Verb, conjugate
from heed.data.grammar.phrases import (
    ADJECTIVES,
    COLOURS,
    PRONOUNS,
    THE,
    Phrase,
    Phrases,
    Token,
    ending,
    entries,
)

Both = tuple[list[Token], list[Token]]  # English, German


class Content(Phrases):
    """Fills clauses with random contents."""

    def choose(self, table: str) -> str:
        """Return a random entry of a table of `english = german`."""
        return self.rng.choice(entries(table))

    def subject(self, kinds: list[str], definite: bool = False) -> Phrase:
        """Return a pronoun, a name or a noun phrase."""
        if "person" in kinds and self.chance(0.45):
            return self.pronoun(self.rng.choice(list(PRONOUNS))) if self.chance(0.6) else self.name()
        return self.noun_phrase(kinds, definite=definite or None)

    def object(self, kinds: list[str], subject: Phrase, negation: int, definite: bool, pronoun: bool) -> Phrase:
        """Return a pronoun or a noun phrase, but not the pronoun of the subject."""
        others = [en for en in ("he", "she", "they") if en != subject.anaphor]
        if pronoun and "person" in kinds and self.chance(0.2):
            return self.pronoun(self.rng.choice(others))
        return self.noun_phrase(kinds, negation, definite or None)

    def clause(
        self,
        subject: Phrase | None = None,
        verb: Verb | None = None,
        tenses: tuple[str, ...] = TENSES,
        *,
        details: float = 0.4,  # probability of each adverbial
        support: bool | None = None,  # True or False: no negation; True: a question, which needs "do"
        extracted: Phrase | None = None,  # an object at the front: a relative pronoun or question word
    ) -> Clause:
        """Return a clause about an activity or a state."""
        if verb is None:
            verbs = [v for v in VERBS if subject is None or subject.kind in v.subjects]
            verb = self.rng.choice([v for v in verbs if any(self._fits(v, tense) for tense in tenses)])
        fits = [tense for tense in tenses if self._fits(verb, tense)]
        tense = self.rng.choice(fits)
        often = tense == "habit" and not verb.state  # "not every day" would be another word order
        negated = support is None and details > 0 and not often and self.chance(0.17)
        subject = subject or self.subject(verb.subjects, definite=negated or bool(support) or self.chance(0.5))
        link = self.new_id() if negated else 0
        preposition = self.new_id()
        clause = conjugate(self, verb, tense, subject, bool(negated or support), negated, preposition)
        clause.negation = link
        self._objects(clause, verb, extracted, preposition)
        if link and not (clause.direct and clause.direct.negated):
            clause.middle["not"] = [("nicht", (link,))]
        self._adverbials(clause, verb, tense, details)
        return clause

    def _fits(self, verb: Verb, tense: str) -> bool:
        if tense == "past" and verb.en[0] == verb.past:  # "they read" would be present or past
            return False
        return not verb.state or tense in ("habit", "past", "simple")

    def _objects(self, clause: Clause, verb: Verb, extracted: Phrase | None, preposition: int) -> None:
        prepositional = bool(verb.preposition) and not verb.directed
        words: list[Token] = [(verb.preposition, (preposition,))] if prepositional else []
        if prepositional and len(verb.en) == 1:  # remembers = erinnert sich an
            words = [(verb.preposition, clause.main[-1][1] if clause.main else clause.aux[-1][1])]
        for case in verb.cases:
            kinds = ["person"] if (case, len(verb.cases)) == ("D", 2) else verb.objects
            accusative = case == "A" and not prepositional
            if extracted and (case == "A" or len(verb.cases) == 1):
                english = list(extracted.en)
                if words and len(verb.en) > 1:
                    english = [clause.main.pop(), *english]
                clause.lead = (english, [*words, *extracted.de[case]])
                continue
            simple = prepositional or len(verb.en) == 1 or case == "D"
            negation = clause.negation if accusative else 0
            item = self.object(kinds, clause.subject, negation, bool(clause.negation and not accusative), simple)
            while clause.negation and not (item.definite or item.negated):
                item = self.object(kinds, clause.subject, negation, True, simple)
            clause.objects += item.en_object or item.en
            if accusative:
                clause.direct = item
            name = "pronoun" if item.en_object else "definite" if item.definite else "indefinite"
            name = "last" if words else name
            clause.middle[name] = clause.middle[name] + self.contract(words, item.de[case], ("dem",))

    def contract(self, before: list[Token], phrase: list[Token], articles: tuple[str, ...]) -> list[Token]:
        """Return both, with preposition and article contracted: in dem = im, zu der = zur."""
        if before and phrase[0][0] in articles:
            joined = lexicon.CONTRACTIONS.get((before[0][0], phrase[0][0]))
            if joined:
                return [(joined, (*before[0][1], *phrase[0][1])), *phrase[1:]]
        return [*before, *phrase]

    def _adverbials(self, clause: Clause, verb: Verb, tense: str, details: float) -> None:
        if verb.directed or verb.needs_place or (verb.places and self.chance(details)):
            clause.place, de = self.place(self.rng.choice(verb.places), verb.directed)
            clause.middle["last" if verb.directed else "place"] = de
        if verb.manners and not (clause.negation or tense == "gladly") and self.chance(details * 0.7):
            en, clause.middle["manner"] = self.manner(self.rng.choice(verb.manners))
            if len(en) == 1:
                clause.adverb = en
            else:
                clause.manner = en
        times = clause.when if details else ""
        needed = tense == "habit" and not verb.state
        if times and (needed or (self.chance(details) and not verb.state)):
            entry = self.choose(lexicon.TIMES[times])
            while "~" in entry and (clause.negation or tense == "gladly" or verb.en[0] == "be"):
                entry = self.choose(lexicon.TIMES[times])
            en, clause.middle["time"] = self.fixed(entry.removeprefix("~"))
            if "~" in entry:
                clause.often = en
            else:
                clause.time, clause.fronted = en, self.chance(0.4) and not clause.lead[0] and details >= 0.4

    def place(self, group: str, directed: bool) -> Both:
        """Return a place (dative) or a direction (accusative, or dative after zu). Cities have no article."""
        entry = self.choose(lexicon.PLACES[group])
        preposition, ids = (self.new_id(),), (self.new_id(),)
        if "|" not in entry:
            en, de = (entry.split() * 2)[:2]
            words = ("to", "nach") if directed else ("in", "in")
            return [(words[0], preposition), (en, ids)], [(words[1], preposition), (de, ids)]
        (en_noun, de_noun, gender), where, to = (part.split() for part in entry.split("|"))
        en, de = to if directed else where
        article = (self.new_id(),)
        the = ending(THE, "A" if directed and de != "zu" else "D", gender)
        english: list[Token] = [
            (en, preposition),
            ("the", article),
            *((word, ids) for word in en_noun.split("_")),
        ]
        return english, self.contract([(de, preposition)], [(the, article), (de_noun, ids)], ("dem", "der", "das"))

    def manner(self, group: str) -> Both:
        """Return an adverb, a means of transport, or a companion."""
        entry = self.choose(lexicon.MANNERS[group])
        if entry != "with":
            return self.fixed(entry)
        ids, friend = (self.new_id(),), self.noun_phrase(["person"], definite=True)
        return [("with", ids), *friend.en], [("mit", ids), *friend.de["D"]]

    def copula(self, subject: Phrase | None = None, tense: str = "habit", only: str = "") -> Clause:
        """Return a clause like "it is old" or "it is older than ...".

        `only` limits the adjectives for people and animals.
        """
        subject = subject or self.subject([self.rng.choice(list(ADJECTIVES))], definite=True)
        ids = (self.new_id(),)
        comparatives = [row for row, kinds in lexicon.COMPARATIVES.items() if subject.kind in kinds.split()]
        negated = self.chance(0.2)
        negation = self.new_id() if negated else 0
        if comparatives and self.chance(0.3):
            en, de = self.fixed(self.rng.choice(comparatives))
            than, other = (self.new_id(),), self.noun_phrase([subject.kind], definite=True)
            en, de = [*en, ("than", than), *other.en], [*de, ("als", than), *other.de["N"]]
        else:
            adjectives = ADJECTIVES[subject.kind]
            if only and subject.kind in ("person", "animal"):
                adjectives = [adjective for adjective in adjectives if adjective.en in only.split()]
            adjective = self.rng.choice(adjectives)
            en, de = self.fixed(f"{adjective.en} = {adjective.de}")
            if not negated and adjective.en not in COLOURS and self.chance(0.25):
                very = self.fixed("very = sehr")
                en, de = [*very[0], *en], [*very[1], *de]
        finite = (SEIN[tense][subject.agree], ids)
        clause = Clause(subject, [(TO_BE[tense][subject.agree], ids)], en, finite, joined=[finite], negation=negation)
        clause.middle["not"] = [("nicht", (negation,))] if negated else []
        clause.middle["last"] = de
        return clause
