"""Files that are written whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path


def write(path: Path, save: Callable[[Path], object]) -> None:
    """Calls `save` on a temporary name, flushes to disk, renames: a crash or a full disk leaves the earlier file be.

    Raises: `OSError` that says what could not be written.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        save(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except Exception as error:  # what a full disk makes of it depends on the library
        temporary.unlink(missing_ok=True)
        raise OSError(
            f"{path} cannot be written ({str(error).strip()[:200]}): make room, or see that the directory is yours; "
            "what was there before is whole"
        ) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)
