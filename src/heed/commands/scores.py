"""The attention scores there are."""

import json
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from heed.cli import CONFIGS
from heed.component import component


def list_scores() -> None:
    """Prints each score in configs/score/: name, equation, reference, and parameters for queries and keys of 512."""
    from heed.score import Score

    names: dict[str, str] = {}  # of what has been shown, by its configuration

    for path in sorted((CONFIGS / "score").glob("*.yaml")):
        try:
            with initialize_config_dir(str(CONFIGS), version_base="1.3"):
                config: Any = OmegaConf.to_container(compose(f"score/{path.stem}").score)
            score = component("score", config, Score, query_dim=512, key_dim=512)  # type: ignore[type-abstract]
        except Exception as error:  # one of the user's own may be unfinished, or its module elsewhere
            print(f"{path.stem:11} cannot be made: {error}")
            continue
        if path.stem != (name := names.setdefault(json.dumps(config), path.stem)):
            print(f"{path.stem:11} the same as {name}")
            continue
        sizes = ", ".join(
            f"{name} {'×'.join(map(str, p.shape)) or 'scalar'}" for name, p in score.named_parameters()
        )
        print(
            f"{path.stem:11} {score.equation}\n{'':11} {score.reference}\n{'':11} parameters: {sizes or 'none'}"
        )
