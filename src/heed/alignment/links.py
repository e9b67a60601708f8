"""Word alignments as links: their text format, and their agreement with a gold standard."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from heed.data.lines import read_lines
from heed.errors import UserError

Links = set[tuple[int, int]]
"""Links (source word, target word) of one sentence pair, counted from 0."""

LINK = re.compile(r"([0-9]+)([-p])([0-9]+)")


class Gold(NamedTuple):
    """The gold links of one sentence pair, made by people."""

    sure: Links
    possible: Links  # includes the sure links


class Agreement(NamedTuple):
    """The agreement of links with gold links over a corpus (Och & Ney 2003, §5). All values are from 0 to 1."""

    aer: float  # alignment error rate: lower is better
    precision: float  # share of the links that are possible
    recall: float  # share of the sure links that were found


def read_gold(path: str | Path, first: int, reverse: bool = False) -> list[Gold]:
    """Read gold links, one line for each sentence pair: `3-1` is a sure link, `14p19` a possible one.

    Args:
        path: the file.
        first: the number of the first word, 0 or 1.
        reverse: True if the target word comes first.

    Raises: `UserError` that names the file, the line and the link.
    """
    gold = []
    for number, line in enumerate(read_lines(Path(path)), 1):
        sure, possible = set(), set()
        for text in line.split():
            found = LINK.fullmatch(text)
            if not found:
                raise UserError(f"{path}, line {number}: {text!r} is not a link. Write 3-1, or 3p1 for a possible link")
            source, target = int(found[1]) - first, int(found[3]) - first
            if min(source, target) < 0:
                raise UserError(f"{path}, line {number}: {text!r} counts words from 0. Set gold_first=0")
            link = (target, source) if reverse else (source, target)
            possible.add(link)
            if found[2] == "-":
                sure.add(link)
        gold.append(Gold(sure, possible))
    return gold


def refuse_outside(path: str | Path, gold: Sequence[Gold], pairs: Sequence[tuple[str, str]]) -> None:
    """Raise `UserError` if a link names a word that its sentence, split at white space, does not have."""
    for number, (one, (source, target)) in enumerate(zip(gold, pairs, strict=True), 1):
        words = len(source.split()), len(target.split())
        for link in sorted(one.possible):
            if link[0] >= words[0] or link[1] >= words[1]:
                raise UserError(
                    f"{path}, line {number}: words {link[0] + 1} and {link[1] + 1} are linked, but the source has "
                    f"{words[0]} words and the target {words[1]}. Try gold_first=1 (words count from 1) or "
                    "gold_reverse=true (target first), or check that the links belong to these sentences"
                )


def all_sure(links: Iterable[Iterable[tuple[int, int]]]) -> list[Gold]:
    """Return the links of each sentence pair as gold links that are all sure."""
    return [Gold(set(pair), set(pair)) for pair in links]


def format_links(links: Iterable[tuple[int, int]]) -> str:
    """Return links in Pharaoh's format, `0-0 2-1`, in the order of the target words."""
    return " ".join(f"{source}-{target}" for source, target in sorted(links, key=lambda link: link[::-1]))


def agreement(found: Sequence[Links], gold: Sequence[Gold]) -> Agreement:
    """Return the agreement of links A with sure gold links S and possible gold links P, over all sentences.

    AER = 1 - (|A ∩ S| + |A ∩ P|) / (|A| + |S|), precision = |A ∩ P| / |A|, recall = |A ∩ S| / |S|. Without any link,
    precision is 0. Raises `UserError` if the numbers of sentences differ.
    """
    if len(found) != len(gold):
        raise UserError(
            f"{len(found)} sentences are aligned, but {len(gold)} have gold links. Give gold links for each"
        )
    links = sum(map(len, found))
    sure = sum(len(one.sure) for one in gold)
    in_sure = sum(len(pair & one.sure) for pair, one in zip(found, gold, strict=True))
    in_possible = sum(len(pair & one.possible) for pair, one in zip(found, gold, strict=True))
    return Agreement(
        1 - (in_sure + in_possible) / max(1, links + sure),
        in_possible / max(1, links),
        in_sure / max(1, sure),
    )
