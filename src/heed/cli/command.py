"""The common part of all commands: Hydra around a function, errors for users, and the choices of a command line."""

import os
import re
import sys
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from heed.cli.output import discard_stdout
from heed.cli.process import set_up_output, set_up_thread_errors, set_up_threads
from heed.config.sources import CONFIGS, user_config_dirs
from heed.errors import UserError
from heed.training.signals import INTERRUPTED

set_up_threads()  # before anything imports torch

BUG = "error: this is a bug in heed, or in code that it was given. Please report it with the traceback above"


def command(config_name: str) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Make a command of a function of its composed configuration.

    A `UserError` is printed in one line, and lack of memory in two, with exit status 2. Set HYDRA_FULL_ERROR=1 for the
    traceback. Any other exception is a bug and shows its traceback.
    """

    def decorate(function: Callable[[DictConfig], Any]) -> Callable[[], None]:
        def run(config: DictConfig) -> None:
            OmegaConf.set_struct(config, False)  # the typed schema refuses unknown keys, with a better message
            with_errors(function, config)

        run.__module__ = function.__module__  # Hydra names the job by it
        main = hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=config_name)(run)

        @wraps(function)
        def entry() -> None:
            set_up_output()
            set_up_thread_errors()
            main()

        return entry

    return decorate


def with_errors(function: Callable[[DictConfig], Any], config: DictConfig) -> None:
    """Call the function. Print the errors that users can mend, and exit with their status."""
    try:
        set_fast(config)
        if not is_multirun():
            refuse_lists(overrides())
        function(config)
    except BrokenPipeError:
        discard_stdout()
        print("error: the output pipe was closed", file=sys.stderr)
        sys.exit(2)
    except UserError as error:
        if os.environ.get("HYDRA_FULL_ERROR"):
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except Exception as error:
        _report(error)


def _report(error: Exception) -> None:
    """Print lack of memory as a user's error, and any other exception as a bug with its traceback."""
    from heed.device import out_of_memory

    if out_of_memory(error) and not os.environ.get("HYDRA_FULL_ERROR"):
        first_line = str(error).partition("\n")[0]
        print(f"error: out of memory: {first_line}", file=sys.stderr)
        print("a smaller model, or fewer batch_tokens, needs less", file=sys.stderr)
    else:
        sys.excepthook(type(error), error, error.__traceback__)
        print(BUG, file=sys.stderr)
    sys.exit(2 if out_of_memory(error) else 1)


def set_fast(config: DictConfig) -> None:
    """Apply the key `fast`, and take it out of the configuration."""
    fast = config.pop("fast")
    if not isinstance(fast, bool):
        raise UserError(f"fast is {fast!r}: it must be true or false")
    if not fast or "heed.ops.switch" in sys.modules:  # the switch imports torch
        from heed.ops import switch

        switch.set_fast(fast)


def choices(config: DictConfig, chosen: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Return the name of the YAML that each group of the configuration came from.

    A score without a YAML goes by its class. `chosen` is Hydra's record of the choices, by default of the running job.
    Raises `UserError` if a recipe is chosen that does not exist. A corpus needs no recipe of its name.
    """
    chosen = HydraConfig.get().runtime.choices if chosen is None else chosen
    recipe = (chosen.get("experiment") or "").removesuffix(".yaml")
    directories = (where / "experiment" for where in (CONFIGS, *user_config_dirs()))
    recipes = {file.relative_to(one).with_suffix("").as_posix() for one in directories for file in one.rglob("*.yaml")}
    if recipe and recipe != chosen.get("data") and recipe not in recipes:
        raise UserError(f"experiment={recipe}: there is no such recipe. Choose one of {', '.join(sorted(recipes))}")
    names = {group: str(name) for group, name in chosen.items() if not group.startswith("hydra/") and name}
    if "score" in config and "score" not in names:
        names["score"] = str(config.score.get("_target_")).rpartition(".")[2].lower()
    return names


def refuse_lists(arguments: list[str]) -> None:
    """Raise `UserError` for a list of files of a group, such as `score=[dot,general]`: Hydra would take the last."""
    for one in arguments:
        key, _, value = one.lstrip("+").partition("=")
        if (CONFIGS / key).is_dir() and value.startswith("["):
            raise UserError(f"{one}: give one file of configs/{key}/; to compare several, --multirun {key}=a,b")


def overrides() -> list[str]:
    """Return what was overridden on the command line."""
    return list(HydraConfig.get().overrides.task)


def is_multirun() -> bool:
    """Return True if Hydra has started this job as part of a multirun."""
    return HydraConfig.get().mode == RunMode.MULTIRUN


def search_choice(config: DictConfig) -> tuple[str, bool]:
    """Return the name of the search's YAML, and whether values of `search` or `metrics` were overridden.

    `metrics.bootstrap` does not count: it changes no metric, only its interval.
    """
    given = (one.lstrip("+") for one in overrides())
    overridden = any(re.match(r"search\.|metrics\.(?!bootstrap)", one) for one in given)
    return choices(config)["search"], overridden
