"""Downloads that show progress, go on where they stopped, and are checked."""

import logging
import os
from pathlib import Path

from tqdm import tqdm

from heed.data.lines import sha256
from heed.errors import UserError
from heed.files.atomic import writing
from heed.files.locks import locked

ATTEMPTS = 3
TIMEOUT = 30  # seconds without a byte
CHUNK = 1 << 13  # bytes; when the connection breaks, less than this is fetched twice
log = logging.getLogger(__name__)


def download(url: str, path: Path, digest: str | None) -> None:
    """Fetches `url` into the file `path`, which is complete and checked or absent.

    The bytes gather in `<path>.part`; what an interrupted run left there is not fetched again. Of two processes one
    waits.
    `digest` is the SHA-256 wanted; None takes the file as it is and logs its hash.

    Raises:
        UserError: no server, no such file there, or the wrong hash (what was fetched is then removed).
    """
    with locked(path.with_name(f".{path.name}.lock"), wait=True):
        if not path.exists():  # still: another process may have fetched it meanwhile
            _download(url, path, digest)


def _download(url: str, path: Path, digest: str | None) -> None:
    import requests  # a third of the time that importing heed.data would take; few runs download

    part = path.with_name(path.name + ".part")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _fetch(url, part)
            break
        except requests.RequestException as error:
            if attempt == ATTEMPTS or isinstance(error, requests.HTTPError):
                advice = f"run the command again to go on, or put the file at {path} yourself"
                raise UserError(f"{url}: download failed ({error}); {advice}") from error
    found = sha256(part)
    if digest is None:
        log.warning("%s: no hash is known for this file; got SHA-256 %s", url, found)
    elif found != digest:
        part.unlink()
        advice = "it was removed; run again, or download it by hand if the source has changed"
        raise UserError(f"{url}: SHA-256 is {found}, expected {digest}; {advice}")
    os.replace(part, path)


def _fetch(url: str, part: Path) -> None:
    """Appends to `part` what is missing; starts anew where the server cannot send the rest alone."""
    import requests

    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"}  # the file's own bytes: ranges and hashes count them
    if have:
        headers["Range"] = f"bytes={have}-"
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            part.unlink()  # whole or too long, which cannot be told without the hash: fetch it afresh
            raise requests.ConnectionError("nothing to go on from")
        response.raise_for_status()
        resumed = response.headers.get("Content-Range", "").startswith(f"bytes {have}-") and have > 0
        start = have if resumed else 0
        total = int(response.headers.get("Content-Length", 0)) + start
        label = f"downloading {part.stem}"
        with (
            part.open("ab" if resumed else "wb") as file,
            tqdm(
                desc=label, initial=start, total=total or None, unit="B", unit_scale=True, disable=None
            ) as bar,
        ):
            for chunk in response.iter_content(CHUNK):
                with writing(part):
                    file.write(chunk)
                bar.update(len(chunk))
            with writing(part):
                file.flush()
                os.fsync(file.fileno())
