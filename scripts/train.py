"""Trains a run, or goes on with it, then evaluates it: `python scripts/train.py score=bahdanau data=grammar seed=1`.

With --multirun, `score=dot,general seed=1,2,3`, all combinations one after the other, then a comparison of them.
"""

from omegaconf import DictConfig, OmegaConf

from heed.cli import choices, overrides, script


@script("train")
def main(composed: DictConfig) -> None:
    """Composed configuration to a trained and evaluated run."""
    from heed.sweep import is_one_of_many, train_in_own_process

    if is_one_of_many():
        return train_in_own_process()

    from heed.commands.train import train
    from heed.config import train_config
    from heed.run import default_path

    config = train_config(composed, choices(composed))
    if OmegaConf.is_config(composed.run):
        raise ValueError(f"run is {composed.run}: name one directory")
    train(config, str(composed.run or default_path(config.names, config.seed, overrides())))


if __name__ == "__main__":
    main()
