"""Multi30k: captions of photographs in four languages (Elliott et al. 2016, arXiv:1605.00459)."""

from dataclasses import dataclass, field
from pathlib import Path

from heed.data.download import download
from heed.data.files import Files
from heed.errors import UserError
from heed.files.names import check_file_name

URL = "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/"
TOKENISED = "{split}.lc.norm.tok.{lang}"  # the pattern of the lower-cased, tokenised files
LANGUAGES = ("en", "de", "fr", "cs")
SHA256 = {  # any other file is accepted, and its SHA-256 is logged
    "train.de.gz": "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6",
    "train.en.gz": "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f",
    "val.de.gz": "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a",
    "val.en.gz": "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28",
    "test_2016_flickr.de.gz": "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8",
    "test_2016_flickr.en.gz": "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9",
    "test_2017_flickr.de.gz": "a2c89666db00c495cd8513b9d708d5a3acc205d7de312ef2bf5fb7ebc1540aee",
    "test_2017_flickr.en.gz": "76a444ee25172e72695cddb13ae4a3bda59430617be88e0bb46b60504f054074",
    "train.lc.norm.tok.de": "cb5a23529b65ec2061f1dc446192a9c37382b63cc75f81a0be59d34894b3a505",
    # train.lc.norm.tok.en was corrected upstream, so both versions are accepted.
    "val.lc.norm.tok.de": "97232bd273eceb7207f689527386a97e4be2616b18ada47576bdaf96c8ae1f00",
    "val.lc.norm.tok.en": "46573ce391ae227f1c72f873392436a20ef18e0a6d518098cfbd70b77c8572ec",
    "test_2016_flickr.lc.norm.tok.de": "c6a33d39d48f9f510de147651316cd9d918e09ad0219df734a2f16b6baccacc4",
    "test_2016_flickr.lc.norm.tok.en": "5b7f32627cf99eced828311b955dae9800bb52bc8b91cf8b6526829e605b29d2",
    "test_2017_flickr.lc.norm.tok.de": "02067e4a9402786a4fcb8c1b6f4307e4a5073ced64800abead5273b54f5f31f6",
    "test_2017_flickr.lc.norm.tok.en": "c9d1dfd7a26add989382e534af235af9f0f658b2a30e7eb0efdaf142496ee54f",
}


@dataclass
class Multi30k(Files):
    """29,000 training pairs of any two of en, de, fr and cs. They are downloaded if `source` is None.

    The pattern TOKENISED selects the lower-cased, tokenised files, any other pattern the raw text.
    """

    test: list[str] = field(default_factory=lambda: ["test_2016_flickr", "test_2017_flickr"])
    cache: str = "data/multi30k/raw"  # directory of the downloaded files

    def __post_init__(self) -> None:
        super().__post_init__()
        for key, lang in (("src", self.src), ("tgt", self.tgt)):
            if lang not in LANGUAGES:
                raise UserError(f"data.{key} is {lang!r}; Multi30k has {', '.join(LANGUAGES)}")

    def directory(self) -> Path:
        """Return `source`, or `cache` if `source` is None."""
        return Path(self.cache if self.source is None else self.source)

    def _path(self, split: str, lang: str) -> Path:
        if self.source is None:
            name = self._name(split, lang)
            check_file_name(name)
            folder, name = ("tok", name) if self.pattern == TOKENISED else ("raw", f"{name}.gz")
            path = Path(self.cache) / name
            if not path.exists():
                download(f"{URL}{folder}/{name}", path, SHA256.get(name))
        return super()._path(split, lang)
