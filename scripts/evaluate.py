"""Evaluates a run on a split of its corpus: `python scripts/evaluate.py run=runs/… split=test search=beam`."""

from omegaconf import DictConfig

from heed.cli import choices, script


@script("evaluate")
def main(composed: DictConfig) -> None:
    """Composed configuration to `eval/<split>-<search>/` in the run's directory."""
    from heed.commands.evaluate import evaluate
    from heed.config import EvaluateConfig, typed
    from heed.loading import take_search

    search_name = take_search(composed, choices(composed)["search"])
    evaluate(typed(EvaluateConfig, composed), search_name)


if __name__ == "__main__":
    main()
