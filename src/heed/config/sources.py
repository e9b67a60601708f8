"""The places of configuration files: heed's own `configs/`, and the user's directories."""

from contextlib import suppress
from importlib import resources
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

CONFIGS = Path(__file__).resolve().parents[3] / "configs"


def user_config_dirs() -> list[Path]:
    """Return the directories of the user's own YAMLs: `--config-dir` and `hydra.searchpath`."""
    if not HydraConfig.initialized():
        return []
    directories = []
    for source in HydraConfig.get().runtime.config_sources:
        if source.schema == "file" and source.provider != "main":
            directories.append(Path(source.path))
        elif source.schema == "pkg" and source.provider != "hydra":
            with suppress(ImportError):  # Hydra has warned
                directories.append(Path(str(resources.files(source.path))))
    return directories
