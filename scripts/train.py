"""Trains a run, or goes on with it, then evaluates it: `python scripts/train.py score=bahdanau data=grammar seed=1`."""

from omegaconf import DictConfig

from heed.cli import choices, script


@script("train")
def main(composed: DictConfig) -> None:
    """Composed configuration to a trained and evaluated run."""
    from heed.app import train
    from heed.config import TrainConfig, typed

    path = composed.pop("run")
    composed.names = choices(composed)
    train(typed(TrainConfig, composed), path)


if __name__ == "__main__":
    main()
