"""Monitoring of a run: `metrics.jsonl` and TensorBoard."""

import json
import os
from collections.abc import Sequence
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from heed.alignment.heatmap import alignment_figure, figure_image
from heed.evaluation.markdown import escape
from heed.files.atomic import write_text, writing
from heed.run.directory import Run
from heed.search.translator import Translation

# Charts of TensorBoard's tab CUSTOM SCALARS, each with all runs. The tags in a chart are regular expressions.
LAYOUT = {
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
    """Writes numbers to `metrics.jsonl` and TensorBoard, and images and text to TensorBoard."""

    def __init__(self, run: Run, step: int, lines: int = 0) -> None:
        """Begin or resume at a step. What was logged after it is removed.

        Args:
            run: the run directory.
            step: of the checkpoint, or 0.
            lines: the number of lines that `metrics.jsonl` had at that step.
        """
        self.run = run
        self.writer = SummaryWriter(str(run.tensorboard), purge_step=step + 1)
        self.writer.add_custom_scalars(LAYOUT)
        kept = [json.dumps(line) + "\n" for line in run.metrics(lines) if line["step"] <= step]
        self.lines = max(lines, len(kept))
        write_text(run.metrics_file, "".join(kept))
        self.file = open(run.metrics_file, "a", encoding="utf-8", buffering=1)  # noqa: SIM115

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Log numbers by their TensorBoard tags, such as `train/loss`."""
        with writing(self.run.metrics_file):
            self.file.write(json.dumps({"step": step, **metrics}) + "\n")
        self.lines += 1
        with writing(self.run.tensorboard):
            for tag, value in metrics.items():
                self.writer.add_scalar(tag, value, step)

    def flush(self) -> None:
        """Flush the files to disk. To be called before a state is saved, so that the log is not behind the state."""
        with writing(self.run.tensorboard):
            self.writer.flush()
            for path in (self.run.metrics_file, *self.run.tensorboard.iterdir()):
                if path.is_dir():  # a TensorBoard plugin's
                    continue
                with open(path, "rb") as file:
                    os.fsync(file.fileno())

    def samples(self, step: int, samples: Sequence[tuple[str, str, Translation]]) -> None:
        """Log a table of (source, reference, translation), and a heat map of each alignment."""
        rows = ["| source | reference | translation |", "|---|---|---|"]
        for number, (source, reference, translation) in enumerate(samples, 1):
            rows.append("| " + " | ".join(map(escape, (source, reference, translation.text))) + " |")
            figure = alignment_figure(translation.pieces, translation.src_pieces, translation.alignment)
            with writing(self.run.tensorboard):
                self.writer.add_image(f"alignment/{number}", figure_image(figure), step, dataformats="HWC")
        with writing(self.run.tensorboard):
            self.writer.add_text("translations", "\n".join(rows), step)

    def hparams(self, step: int, settings: dict[str, Any], metrics: dict[str, float]) -> None:
        """Write the run's row of TensorBoard's HPARAMS table, or replace it."""
        assert self.writer.file_writer is not None
        with writing(self.run.tensorboard):
            for summary in hparams(settings, metrics):
                self.writer.file_writer.add_summary(summary)
            for tag, value in metrics.items():
                self.writer.add_scalar(tag, value, step)

    def close(self) -> None:
        """Write what is left, and close the files."""
        self.writer.close()
        self.file.close()
