"""Align given translations word by word, by a run's attention."""

import sys
from pathlib import Path

from omegaconf import DictConfig

from heed.cli.command import command
from heed.config.schema import AlignConfig, typed
from heed.data.lines import read_aligned
from heed.errors import UserError
from heed.files.atomic import write, write_text
from heed.files.checksums import write_json
from heed.files.locks import locked


@command("align")
def main(composed: DictConfig) -> None:
    """Write `align/<split>/` in the run's directory."""
    align(typed(AlignConfig, composed))


def align(config: AlignConfig) -> dict[int, dict[str, float]]:
    """Decode given translations, and write the attention as word links into `align/<split>/` of the run.

    The files are `links.txt` (Pharaoh's format), `alignments.npz` (between words) and, if there are gold links,
    `metrics.json`. The directory's name ends as an evaluation's does for other weights than the best.
    """
    from heed.alignment.forced_decoding import force_decode
    from heed.alignment.links import all_sure, format_links, read_gold, refuse_outside
    from heed.alignment.store import save_alignments
    from heed.alignment.word_links import OFFSETS, align_words, measure
    from heed.run.loading import held_out_pairs, load_ensemble, run_paths, weights_suffix

    models, tokenizers, device, precision, trained = load_ensemble(config)
    gold = read_gold(config.gold, config.gold_first, config.gold_reverse) if config.gold else None
    if config.source and config.target:
        name = Path(config.source).name
        pairs = list(read_aligned(Path(config.source), Path(config.target)))
    else:
        corpus, name, pairs = held_out_pairs(config.run, trained, config.split)
        if gold is None and (known := corpus.alignments(name)):
            gold = all_sure(known)
    if gold is not None and len(gold) != len(pairs):
        raise UserError(f"{config.gold}: gold links for {len(gold)} pairs, but there are {len(pairs)}")
    sources, targets = map(list, zip(*pairs, strict=True))
    if config.gold and gold:
        refuse_outside(config.gold, gold, pairs)
    forced = force_decode(models, tokenizers, sources, targets, device, precision, progress=sys.stderr.isatty())
    aligned = align_words(tokenizers, sources, targets, [pair.alignment for pair in forced], OFFSETS)
    found = {offset: one._asdict() for offset, one in measure(aligned, gold).items()} if gold else {}
    directory = Path(run_paths(config.run)[0]) / "align" / f"{name}{weights_suffix(config)}"
    links = "".join(format_links(pair.links[0]) + "\n" for pair in aligned)
    weights = [pair.weights for pair in aligned]
    with locked(directory / ".lock", wait=True):
        (directory / "metrics.json").unlink(missing_ok=True)  # an earlier call may have had gold links
        write_text(directory / "links.txt", links)
        write(directory / "alignments.npz", lambda path: save_alignments(path, weights))
        if gold:
            write_json(directory / "metrics.json", {"pairs": len(pairs), "by_offset": found})
    for offset, one in found.items():
        print(f"offset {offset:+d}  " + "  ".join(f"{name} {value:.2%}" for name, value in one.items()))
    print(f"links: {directory / 'links.txt'}")
    return found
