"""Word alignments as links, their text format, and how far they are from a gold standard."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from heed.data.lines import read_lines
from heed.errors import UserError

Links = set[tuple[int, int]]
"""(source word, target word) of one sentence pair, from 0."""

LINK = re.compile(r"([0-9]+)([-p])([0-9]+)")


class Gold(NamedTuple):
    """What people linked in one sentence pair."""

    sure: Links
    possible: Links  # the sure ones too


class Agreement(NamedTuple):
    """How links agree with gold ones over a corpus (Och & Ney 2003, §5), each from 0 to 1."""

    aer: float  # alignment error rate: 0 is best
    precision: float  # share of the links that are possible
    recall: float  # share of the sure links that were found


def read_gold(path: str | Path, first: int, reverse: bool = False) -> list[Gold]:
    """Reads a line of links for each sentence pair: `3-1` is sure, `14p19` possible.

    Args:
        path: the file.
        first: the number of the first word, 0 or 1.
        reverse: whether the target word stands first.

    Raises: `UserError` that names file, line and link.
    """
    gold = []
    for number, line in enumerate(read_lines(Path(path)), 1):
        sure, possible = set(), set()
        for text in line.split():
            found = LINK.fullmatch(text)
            if not found:
                raise UserError(
                    f"{path}, line {number}: {text!r} is no link; write 3-1, or 3p1 if only possible"
                )
            source, target = int(found[1]) - first, int(found[3]) - first
            if min(source, target) < 0:
                raise UserError(f"{path}, line {number}: {text!r} counts words from 0; set gold_first=0")
            link = (target, source) if reverse else (source, target)
            possible.add(link)
            if found[2] == "-":
                sure.add(link)
        gold.append(Gold(sure, possible))
    return gold


def refuse_outside(path: str | Path, gold: Sequence[Gold], pairs: Sequence[tuple[str, str]]) -> None:
    """`UserError` for a link of a word that its sentence, as split at white space, does not have."""
    for number, (one, (source, target)) in enumerate(zip(gold, pairs, strict=True), 1):
        words = len(source.split()), len(target.split())
        for link in sorted(one.possible):
            if link[0] >= words[0] or link[1] >= words[1]:
                raise UserError(
                    f"{path}, line {number}: words {link[0] + 1} and {link[1] + 1} are linked, but the source has "
                    f"{words[0]} and the target {words[1]}: do words count from 1 there (gold_first=1), does the "
                    "target stand first (gold_reverse=true), are the sentences others?"
                )


def all_sure(links: Iterable[Iterable[tuple[int, int]]]) -> list[Gold]:
    """Links of each sentence pair as gold ones of which none is in doubt."""
    return [Gold(set(pair), set(pair)) for pair in links]


def format_links(links: Iterable[tuple[int, int]]) -> str:
    """`0-0 2-1`: Pharaoh's format, in order of the target words."""
    return " ".join(f"{source}-{target}" for source, target in sorted(links, key=lambda link: link[::-1]))


def agreement(found: Sequence[Links], gold: Sequence[Gold]) -> Agreement:
    """AER = 1 - (|A ∩ S| + |A ∩ P|) / (|A| + |S|), precision |A ∩ P| / |A|, recall |A ∩ S| / |S|, over all sentences.

    No link at all has precision 0. `UserError` where the counts of sentences differ.
    """
    if len(found) != len(gold):
        raise UserError(
            f"{len(found)} sentences are aligned, {len(gold)} have gold links: they must be the same"
        )
    links = sum(map(len, found))
    sure = sum(len(one.sure) for one in gold)
    in_sure = sum(len(own & one.sure) for own, one in zip(found, gold, strict=True))
    in_possible = sum(len(own & one.possible) for own, one in zip(found, gold, strict=True))
    return Agreement(
        1 - (in_sure + in_possible) / max(1, links + sure),
        in_possible / max(1, links),
        in_sure / max(1, sure),
    )
