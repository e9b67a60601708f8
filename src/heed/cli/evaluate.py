"""Evaluate a run on a split of its corpus."""

from omegaconf import DictConfig

from heed.cli.command import command, search_choice
from heed.config.schema import EvaluateConfig, typed


@command("evaluate")
def main(composed: DictConfig) -> None:
    """Write `eval/<split>-<search>/` in the run's directory, and print the metrics."""
    from heed.evaluation.evaluate import evaluate, summary

    name, overridden = search_choice(composed)
    print(summary(*evaluate(typed(EvaluateConfig, composed), name, overridden)))
