"""Downloads that show progress, can be continued, and are verified."""

import logging
import os
from pathlib import Path

from tqdm import tqdm

from heed.data.lines import file_sha256
from heed.errors import UserError
from heed.files.atomic import writing
from heed.files.locks import locked

ATTEMPTS = 3
TIMEOUT = 30  # seconds without a byte
CHUNK = 1 << 13  # bytes; if the connection breaks, less than this is fetched twice
log = logging.getLogger(__name__)


def download(url: str, path: Path, digest: str | None) -> None:
    """Download `url` to the file `path`, which is absent until it is complete and verified.

    The bytes are collected in `<path>.part`. The next call continues an interrupted download. If two
    processes download the same file, one waits.

    Args:
        url: the address of the file.
        path: the file to write.
        digest: the expected SHA-256. None accepts any file and logs its SHA-256.

    Raises:
        UserError: the server or the file does not exist, or the SHA-256 is wrong. A wrong `<path>.part` is
            removed.
    """
    with locked(path.with_name(f".{path.name}.lock"), wait=True):
        if not path.exists():  # checked under the lock: another process may have written it
            _download(url, path, digest)


def _download(url: str, path: Path, digest: str | None) -> None:
    import requests  # slow to import, and few runs download

    part = path.with_name(path.name + ".part")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _fetch(url, part)
            break
        except requests.RequestException as error:
            if attempt == ATTEMPTS or isinstance(error, requests.HTTPError):
                advice = f"Run the command again to continue, or put the file at {path} yourself"
                raise UserError(f"{url}: download failed ({error}). {advice}") from error
    found = file_sha256(part)
    if digest is None:
        log.warning("%s: no SHA-256 is known for this file; it has %s", url, found)
    elif found != digest:
        part.unlink()
        advice = "The download was removed: run again, or get the file by hand if the source has changed"
        raise UserError(f"{url}: SHA-256 is {found}, expected {digest}. {advice}")
    os.replace(part, path)


def _fetch(url: str, part: Path) -> None:
    """Append the missing bytes to `part`. Start again if the server cannot send a range of bytes."""
    import requests

    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"}  # the file's own bytes, to which ranges and hashes refer
    if have:
        headers["Range"] = f"bytes={have}-"
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            part.unlink()  # complete or too long; without a known hash it cannot be trusted, so start again
            raise requests.ConnectionError("the server has no more bytes than the partial download")
        response.raise_for_status()
        resumed = response.headers.get("Content-Range", "").startswith(f"bytes {have}-") and have > 0
        start = have if resumed else 0
        total = int(response.headers.get("Content-Length", 0)) + start
        label = f"downloading {part.stem}"
        with (
            part.open("ab" if resumed else "wb") as file,
            tqdm(desc=label, initial=start, total=total or None, unit="B", unit_scale=True, disable=None) as bar,
        ):
            for chunk in response.iter_content(CHUNK):
                with writing(part):
                    file.write(chunk)
                bar.update(len(chunk))
            with writing(part):
                file.flush()
                os.fsync(file.fileno())
