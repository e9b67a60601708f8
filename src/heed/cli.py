"""What the scripts share: Hydra around a function, plain errors, messages on standard error."""

import io
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from heed import fast
from heed.component import own_directories
from heed.config import CONFIGS
from heed.files import file_name
from heed.signals import INTERRUPTED, write_no_more

# Before torch is loaded. Threads that wait for each other spin, by default for so long that training beside any other
# work becomes ten times slower; not to spin at all costs a third of the speed on an idle machine. (docs/LOG.md)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
# oneDNN keeps the code that it makes for each shape of a product. By default that is 1,024 shapes and gigabytes, hardly
# any of them met twice; what a step uses again fits in these.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")

log = logging.getLogger(__name__)
WITH_VALUE = ("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn", "--package", "-p")
OVERRIDE = re.compile(r"[+~]{0,2}\w[\w./@-]*=|~")


def script(config_name: str) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Makes a command of a function of its composed configuration.

    A mistake of the user's (`ValueError`, `OSError`, `FloatingPointError`) is told in one line, and lack of memory in
    two, with exit status 2; HYDRA_FULL_ERROR=1 shows where it came from.
    """

    def decorate(function: Callable[[DictConfig], Any]) -> Callable[[], None]:
        def run(config: DictConfig) -> None:
            logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
            warnings.formatwarning = lambda message, *_, **__: str(message)
            logging.captureWarnings(True)
            # From here on it is the typed schema that refuses unknown keys.
            OmegaConf.set_struct(config, False)
            try:
                fast.enabled = config.pop("fast")
                if not isinstance(fast.enabled, bool):
                    raise ValueError(f"fast is {fast.enabled!r}: it must be true or false")
                hydra_config = HydraConfig.get()
                if hydra_config.mode != RunMode.MULTIRUN or hydra_config.job.name != "train":
                    refuse_idle(config)  # of many runs, each is a command of its own that says it
                function(config)
            except BrokenPipeError:
                write_no_more()
                print("error: whoever read the output has gone", file=sys.stderr)
                sys.exit(2)
            except (ValueError, OSError, FloatingPointError) as error:
                if os.environ.get("HYDRA_FULL_ERROR"):
                    raise
                print(f"error: {error}", file=sys.stderr)
                sys.exit(2)
            except (RuntimeError, MemoryError) as error:
                from heed.device import out_of_memory

                if os.environ.get("HYDRA_FULL_ERROR") or not out_of_memory(error):
                    raise
                told = str(error).partition("\n")[0]
                print(
                    f"error: out of memory: {told}\na smaller model, or fewer batch_tokens, needs less",
                    file=sys.stderr,
                )
                sys.exit(2)
            except KeyboardInterrupt:
                print("interrupted", file=sys.stderr)
                sys.exit(INTERRUPTED)

        command = hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=config_name)(run)

        def main() -> None:
            if isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(line_buffering=True)  # into a log, too, each line when it is said
            sys.argv[1:] = overrides_first(sys.argv[1:])
            command()

        return main

    return decorate


def overrides_first(arguments: Sequence[str]) -> list[str]:
    """Hydra takes no overrides behind an option: they go first, wherever they stand; an option keeps its value."""
    first: list[str] = []
    options: list[str] = []
    for argument in arguments:
        is_value = bool(options) and options[-1] in WITH_VALUE
        (first if OVERRIDE.match(argument) and not is_value else options).append(argument)
    return first + options


def choices(config: DictConfig, chosen: Mapping[str, Any] | None = None) -> dict[str, str]:
    """The name of the YAML that each group of the configuration came from; a score without one goes by its class.

    `chosen`: Hydra's own record of that; by default that of the job that is running. `ValueError` where a recipe is
    chosen that is not there; one by the name of the corpus need not be.
    """
    chosen = HydraConfig.get().runtime.choices if chosen is None else chosen
    recipe = (chosen.get("experiment") or "").removesuffix(".yaml")
    recipes = (where / "experiment" for where in (CONFIGS, *own_directories()))
    there = {
        file.relative_to(one).with_suffix("").as_posix() for one in recipes for file in one.rglob("*.yaml")
    }
    if recipe and recipe != chosen.get("data") and recipe not in there:
        raise ValueError(
            f"experiment={recipe}: there is no such recipe; there are {', '.join(sorted(there))}"
        )
    names = {group: str(name) for group, name in chosen.items() if not group.startswith("hydra/") and name}
    if "score" in config and "score" not in names:
        names["score"] = str(config.score.get("_target_")).rpartition(".")[2].lower()
    return names


def refuse_idle(config: DictConfig) -> None:
    """`ValueError` for a list of files, of which Hydra would take the last; a warning for pieces that are not cut."""
    tokenizer = str(OmegaConf.to_container(config).get("tokenizer"))  # type: ignore[union-attr]
    for one in overrides():
        key, _, value = one.lstrip("+").partition("=")
        if (CONFIGS / key).is_dir() and value.startswith("["):
            raise ValueError(
                f"{one}: one file of configs/{key}/ at a time; to compare several, --multirun {key}=a,b"
            )
        if (
            "tokenizer" in config
            and key.startswith("subwords.")
            and not re.search(r"\$\{\.*subwords\b", tokenizer)
        ):
            log.warning("%s does nothing: %s has no subwords", one, config.tokenizer.get("_target_"))


def overrides() -> list[str]:
    """What was overridden on the command line."""
    return list(HydraConfig.get().overrides.task)


def search_name(config: DictConfig) -> str:
    """What an evaluation's search is called: its YAML, and what was overridden of search and metrics (not `bootstrap`).

    A run's own search goes by what differs instead, see `directory_of`.
    """
    stripped = (one.lstrip("+") for one in overrides())
    given = (one for one in stripped if re.match(r"search\.|metrics\.(?!bootstrap)", one))
    return "-".join([choices(config)["search"], *map(file_name, sorted(given))])
