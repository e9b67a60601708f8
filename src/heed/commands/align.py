"""Given translations, linked word by word by what a run attends to."""

import sys
from pathlib import Path

from heed.config import AlignConfig
from heed.data.reading import read_aligned
from heed.files import locked, write, write_text
from heed.loading import as_list, held_out, load, which_weights
from heed.seals import write_json


def align(config: AlignConfig) -> dict[int, dict[str, float]]:
    """Makes the run say given translations and writes its attention as word links into `align/<split>/` of the run.

    The directory's name says of which weights too, as that of an evaluation does.

    `links.txt` (Pharaoh's format), `alignments.npz` (between words), and, where gold links are known, `scores.json`.
    """
    from heed.evaluation.aligner import OFFSETS, align_words, measure
    from heed.evaluation.alignment import save_alignments
    from heed.evaluation.forced import force_decode
    from heed.evaluation.links import all_sure, format_links, read_gold, refuse_outside

    models, tokenizers, device, autocast, trained = load(config)
    gold = read_gold(config.gold, config.gold_first, config.gold_reverse) if config.gold else None
    if config.source and config.target:
        name = Path(config.source).name
        pairs = list(read_aligned(Path(config.source), Path(config.target)))
    else:
        corpus, name, pairs = held_out(config.run, trained, config.split)
        if gold is None and (known := corpus.alignments(name)):
            gold = all_sure(known)
    if gold is not None and len(gold) != len(pairs):
        raise ValueError(f"{config.gold}: gold links for {len(gold)} pairs, but there are {len(pairs)}")
    sources, targets = map(list, zip(*pairs, strict=True))
    if config.gold and gold:
        refuse_outside(config.gold, gold, pairs)
    forced = force_decode(
        models, tokenizers, sources, targets, device, autocast, progress=sys.stderr.isatty()
    )
    aligned = align_words(tokenizers, sources, targets, [pair.alignment for pair in forced], OFFSETS)
    found = {offset: one._asdict() for offset, one in measure(aligned, gold).items()} if gold else {}
    directory = Path(as_list(config.run)[0]) / "align" / f"{name}{which_weights(config)}"
    links = "".join(format_links(pair.links[0]) + "\n" for pair in aligned)
    weights = [pair.weights for pair in aligned]
    with locked(directory / ".lock", wait=True):
        # An earlier call may have had gold links.
        (directory / "scores.json").unlink(missing_ok=True)
        write_text(directory / "links.txt", links)
        write(directory / "alignments.npz", lambda path: save_alignments(path, weights))
        if gold:
            write_json(directory / "scores.json", {"pairs": len(pairs), "by_offset": found})
    for offset, one in found.items():
        print(f"offset {offset:+d}  " + "  ".join(f"{name} {value:.2%}" for name, value in one.items()))
    print(f"links: {directory / 'links.txt'}")
    return found
