"""The settings of a search, on their own: a configuration is checked before torch is imported."""

from dataclasses import dataclass
from typing import Any

from heed.checks import require_between, require_one_of


@dataclass
class SearchSettings:
    """What `configs/search/*.yaml` fills. Every length counts the EOS, of the source and of the target.

    A `ValueError` names the values that cannot be, and what can.
    """

    width: int = 5  # hypotheses kept per sentence, N; 1 is greedy search
    n_best: int = 1  # translations given per sentence
    length_normalization: str = "simple"  # none, simple or gnmt: see `penalty`
    alpha: float = 1.0  # strength of the normalization; 0 is none
    min_length: int = 0  # 2 forbids the empty translation
    max_length: int = 1024  # no translation is longer, whatever its source
    max_length_ratio: float = 2.0  # nor longer than ratio * S + offset
    max_length_offset: int = 10
    max_source_length: int = 1024  # a longer line is cut, with a warning
    batch_tokens: int = 2048  # source positions in a batch, padding counted

    def __post_init__(self) -> None:
        require_one_of("search.length_normalization", self.length_normalization, ("none", "simple", "gnmt"))
        for key in ("width", "n_best", "max_length", "max_source_length", "batch_tokens"):
            require_between(f"search.{key}", getattr(self, key), 1)
        for key in ("alpha", "min_length"):
            require_between(f"search.{key}", getattr(self, key), 0)
        if not self.max_length_ratio >= 0:  # inf is no limit
            raise ValueError(f"search.max_length_ratio is {self.max_length_ratio}: it must be at least 0")
        if self.n_best > self.width:
            raise ValueError(
                f"search.n_best={self.n_best} is more than search.width={self.width}: raise the width"
            )
        if self.min_length > self.max_length:
            raise ValueError(
                f"search.min_length={self.min_length} is more than search.max_length={self.max_length}"
            )

    def limits(self, src_lengths: Any) -> Any:
        """The greatest length a translation of each source may have, an integer tensor of shape "B" as its argument."""
        limits = src_lengths * self.max_length_ratio + self.max_length_offset
        return limits.clamp(max(self.min_length, 1), self.max_length).long()

    def penalty(self, length: Any) -> Any:
        """What a log-probability is divided by, for a length or an array of lengths.

        `none`: 1. `simple`: length^alpha. `gnmt`: ((5 + length) / 6)^alpha (Wu et al. 2016, arXiv 1609.08144,
        equation 14).
        """
        if self.length_normalization == "none":
            return length**0.0
        return (length if self.length_normalization == "simple" else (5 + length) / 6) ** self.alpha
