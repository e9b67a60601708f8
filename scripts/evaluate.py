"""Evaluates a run on a split of its corpus: `python scripts/evaluate.py run=runs/… split=test search=beam`."""

from omegaconf import DictConfig

from heed.cli import choices, script


@script("evaluate")
def main(composed: DictConfig) -> None:
    """Composed configuration to `eval/<split>-<search>/` in the run's directory; prints the metrics."""
    from heed.commands.evaluate import evaluate, summary
    from heed.config import EvaluateConfig, typed

    print(summary(*evaluate(typed(EvaluateConfig, composed), choices(composed)["search"])))


if __name__ == "__main__":
    main()
