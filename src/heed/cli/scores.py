"""List the attention scores."""

import json
from argparse import ArgumentParser
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from heed.cli.output import quiet_on_closed_pipe
from heed.config.components import component
from heed.config.sources import CONFIGS


def main() -> None:
    """Print the scores of configs/score/."""
    ArgumentParser(
        description="List the attention scores in configs/score/: equation, reference, parameters."
    ).parse_args()
    with quiet_on_closed_pipe():
        list_scores()


def list_scores() -> None:
    """Print each score's name, equation and reference, and its parameters for queries and keys of 512 numbers."""
    from heed.score import Score

    names: dict[str, str] = {}  # by configuration

    for path in sorted((CONFIGS / "score").glob("*.yaml")):
        try:
            with initialize_config_dir(str(CONFIGS), version_base="1.3"):
                config: Any = OmegaConf.to_container(compose(f"score/{path.stem}").score)
            score = component("score", config, Score, query_dim=512, key_dim=512)  # type: ignore[type-abstract]
        except Exception as error:  # a user's own score may be unfinished, or not on PYTHONPATH
            print(f"{path.stem:11} cannot be made: {error}")
            continue
        if path.stem != (name := names.setdefault(json.dumps(config), path.stem)):
            print(f"{path.stem:11} the same as {name}")
            continue
        sizes = ", ".join(f"{name} {'×'.join(map(str, p.shape)) or 'scalar'}" for name, p in score.named_parameters())
        print(f"{path.stem:11} {score.equation}\n{'':11} {score.reference}\n{'':11} parameters: {sizes or 'none'}")
