"""What a run tells the world: `metrics.jsonl`, and TensorBoard."""

import os
import threading
from collections.abc import Sequence
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from heed.evaluation.heatmap import alignment_figure, figure_image
from heed.evaluation.markdown import escape
from heed.files import write_text, writing
from heed.run import Run
from heed.seals import metrics_line
from heed.search.translator import Translation

LAYOUT = {  # charts of TensorBoard's CUSTOM SCALARS, each with all runs; a tag is a regular expression there
    "learning": {
        "loss": ["Multiline", ["train/loss", "val/loss"]],
        "BLEU": ["Multiline", ["val/bleu"]],
    },
    "attention": {
        name: ["Multiline", [f"val/attention_{name}"]]
        for name in ("entropy", "max_weight", "coverage", "monotonicity", "eos_mass", "energy_spread")
    },
}


class Monitor:
    """Writes numbers to both, pictures and text to TensorBoard. After a resume neither holds anything past `step`."""

    def __init__(self, run: Run, step: int, lines: int = 0) -> None:
        """`lines`: how many of `metrics.jsonl` there were at that step."""
        self.run = run
        threading.excepthook = _left_to_the_main_thread
        self.writer = SummaryWriter(str(run.tensorboard), purge_step=step + 1)
        self.writer.add_custom_scalars(LAYOUT)
        kept = [metrics_line(measured) for measured in run.metrics(lines) if measured["step"] <= step]
        self.lines = max(lines, len(kept))
        write_text(run.metrics_file, "".join(kept))
        self.file = open(run.metrics_file, "a", encoding="utf-8", buffering=1)  # noqa: SIM115

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Numbers by their TensorBoard tags, such as `train/loss`."""
        with writing(self.run.metrics_file):
            self.file.write(metrics_line({"step": step, **metrics}))
        self.lines += 1
        with writing(self.run.tensorboard):
            for tag, value in metrics.items():
                self.writer.add_scalar(tag, value, step)

    def flush(self) -> None:
        """To be called before a state is saved: what was logged up to it is on disk before it is."""
        with writing(self.run.tensorboard):
            self.writer.flush()
            for path in (self.run.metrics_file, *self.run.tensorboard.iterdir()):
                if path.is_dir():  # of a plugin
                    continue
                with open(path, "rb") as file:
                    os.fsync(file.fileno())

    def samples(self, step: int, samples: Sequence[tuple[str, str, Translation]]) -> None:
        """Fixed validation sentences: a table of (source, reference, translation), and a heat map of each alignment."""
        rows = ["| source | reference | translation |", "|---|---|---|"]
        for number, (source, reference, translation) in enumerate(samples, 1):
            rows.append("| " + " | ".join(map(escape, (source, reference, translation.text))) + " |")
            figure = alignment_figure(translation.pieces, translation.src_pieces, translation.alignment)
            with writing(self.run.tensorboard):
                self.writer.add_image(f"alignment/{number}", figure_image(figure), step, dataformats="HWC")
        with writing(self.run.tensorboard):
            self.writer.add_text("translations", "\n".join(rows), step)

    def hparams(self, step: int, settings: dict[str, Any], metrics: dict[str, float]) -> None:
        """The run's row in TensorBoard's HPARAMS table; a later one takes its place."""
        assert self.writer.file_writer is not None
        with writing(self.run.tensorboard):
            for summary in hparams(settings, metrics):
                self.writer.file_writer.add_summary(summary)
            for tag, value in metrics.items():
                self.writer.add_scalar(tag, value, step)

    def close(self) -> None:
        """Writes out what is left."""
        self.writer.close()
        self.file.close()


def _left_to_the_main_thread(failed: threading.ExceptHookArgs) -> None:
    """TensorBoard writes in a thread, and hands what goes wrong there to the next call: to print it too is noise."""
    if type(failed.thread).__name__ != "_AsyncWriterThread":
        threading.__excepthook__(failed)
