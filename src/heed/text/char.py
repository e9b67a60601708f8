"""One id per Unicode character."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from heed.errors import UserError
from heed.files.checksums import write_json
from heed.text.base import SPECIALS, UNK, UNKNOWN, Tokenizer, TokenizerSettings, read_model
from heed.text.printable import printable


class _Ids(dict[str, tuple[int, ...]]):
    """The ids of a character: one id if it was seen in training, else one per byte of its UTF-8, or UNK."""

    def __init__(self, num_bytes: int, characters: str):
        first_byte = len(SPECIALS)
        super().__init__({c: (i,) for i, c in enumerate(characters, first_byte + num_bytes)})
        self._first_byte = first_byte if num_bytes else None

    def __missing__(self, character: str) -> tuple[int, ...]:  # not stored, so that the table does not grow
        if self._first_byte is None:
            return (UNK,)
        return tuple(self._first_byte + byte for byte in character.encode())


class CharTokenizer(Tokenizer):
    """A character vocabulary: specials, 256 bytes (with `byte_fallback`), characters by code point."""

    def __init__(self, characters: str, byte_fallback: bool):
        num_bytes = 256 * byte_fallback
        self._ids = _Ids(num_bytes, characters)
        # The UTF-8 of each id. All are joined before decoding, so that bytes become characters again.
        specials = [UNKNOWN if i == UNK else "" for i in range(len(SPECIALS))]
        self._utf8 = [s.encode() for s in specials] + [bytes([b]) for b in range(num_bytes)]
        self._utf8 += [c.encode() for c in characters]
        byte_labels = [f"<0x{byte:02X}>" for byte in range(num_bytes)]
        self._labels = [*SPECIALS, *byte_labels, *(printable(c.replace(" ", "▁")) for c in characters)]

    def __len__(self) -> int:
        return len(self._labels)

    def encode(self, text: str) -> list[int]:
        """Return the ids of the line's characters."""
        ids = self._ids
        return [i for character in text for i in ids[character]]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of the ids. UNK and bytes that are not UTF-8 become U+FFFD."""
        return b"".join([self._utf8[i] for i in ids]).decode("utf-8", errors="replace").replace("\n", " ")

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return the characters. A space is '▁', a byte is '<0x41>'."""
        return [self._labels[i] for i in ids]


@dataclass
class Char(TokenizerSettings):
    """Settings of a character vocabulary: `configs/tokenizer/char.yaml`."""

    byte_fallback: bool = True  # True: spell unseen characters in bytes (256 more ids); False: UNK

    def train(self, texts: Iterable[str], path: Path) -> Tokenizer:
        """Write every character of the lines to `path`. Raises `UserError` if there is none."""
        seen: set[str] = set()
        for text in texts:
            seen.update(text)
        if not seen:
            raise UserError(f"{path}: no text to learn a vocabulary from; is the corpus empty?")
        model = {"kind": "char", "byte_fallback": self.byte_fallback, "characters": "".join(sorted(seen))}
        write_json(path, model)
        return self.load(path)

    def load(self, path: Path) -> Tokenizer:
        """Read a model that `train` wrote. Raises `UserError` if the file is broken."""
        model = read_model(path, "char")
        characters, byte_fallback = model.get("characters"), model.get("byte_fallback")
        if not isinstance(characters, str) or not isinstance(byte_fallback, bool):
            raise UserError(f"{path}: broken tokenizer model (characters, byte_fallback); prepare the data again")
        return CharTokenizer(characters, byte_fallback)
