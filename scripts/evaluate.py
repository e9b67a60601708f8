"""Evaluates a run on a split of its corpus: `python scripts/evaluate.py run=runs/… split=test search=beam`."""

from omegaconf import DictConfig

from heed.cli import script, search_name


@script("evaluate")
def main(composed: DictConfig) -> None:
    """Composed configuration to `eval/<split>-<search>/` in the run's directory; prints the metrics."""
    from heed.commands.evaluate import evaluate, summary
    from heed.config import EvaluateConfig, typed

    print(summary(*evaluate(typed(EvaluateConfig, composed), search_name(composed))))


if __name__ == "__main__":
    main()
