"""The attention scores there are."""

from typing import Any

from omegaconf import OmegaConf

from heed.cli import CONFIGS
from heed.component import component


def list_scores() -> None:
    """Prints each score in configs/score/: name, equation, reference, and parameters for queries and keys of 512."""
    from heed.score import Score

    for path in sorted((CONFIGS / "score").glob("*.yaml")):
        config: Any = OmegaConf.to_container(OmegaConf.load(path))
        alias = next(iter(config.get("defaults", [])), None)
        if alias:
            print(f"{path.stem:11} alias of {alias}")
            continue
        score = component("score", config, Score, query_dim=512, key_dim=512)
        sizes = ", ".join(
            f"{name} {'×'.join(map(str, p.shape)) or 'scalar'}" for name, p in score.named_parameters()
        )
        print(
            f"{path.stem:11} {score.equation}\n{'':11} {score.reference}\n{'':11} parameters: {sizes or 'none'}"
        )
