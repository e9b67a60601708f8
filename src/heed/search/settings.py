"""The settings of a search. This module needs no torch, so a configuration is checked before torch is imported."""

from dataclasses import dataclass
from typing import Any

from heed.errors import UserError, require_between, require_one_of


@dataclass
class SearchSettings:
    """Settings of `configs/search/*.yaml`. Every length counts EOS, in the source and in the target.

    A translation has at most `max_length` pieces, and at most `max_length_ratio * S + max_length_offset`.

    Raises `UserError` for impossible values.
    """

    width: int = 5  # N, the hypotheses of a sentence at each step. 1 is greedy search.
    n_best: int = 1  # Translations returned for each sentence.
    length_normalization: str = "simple"  # "none", "simple" or "gnmt": see `penalty`.
    alpha: float = 1.0  # Strength of the normalization. 0 means none.
    min_length: int = 0  # 2 forbids the empty translation.
    max_length: int = 1024
    max_length_ratio: float = 2.0
    max_length_offset: int = 10
    max_source_length: int = 1024  # A longer line is cut, with a warning.
    batch_tokens: int = 2048  # Source positions in a batch, with padding.

    def __post_init__(self) -> None:
        require_one_of("search.length_normalization", self.length_normalization, ("none", "simple", "gnmt"))
        for key in ("width", "n_best", "max_length", "max_source_length", "batch_tokens"):
            require_between(f"search.{key}", getattr(self, key), 1)
        for key in ("alpha", "min_length"):
            require_between(f"search.{key}", getattr(self, key), 0)
        if not self.max_length_ratio >= 0:  # inf means no limit
            raise UserError(f"search.max_length_ratio is {self.max_length_ratio}: it must be at least 0")
        if self.n_best > self.width:
            raise UserError(f"search.n_best={self.n_best} is more than search.width={self.width}: raise the width")
        if self.min_length > self.max_length:
            raise UserError(
                f"search.min_length={self.min_length} is more than search.max_length={self.max_length}: lower it"
            )

    def limits(self, src_lengths: Any) -> Any:
        """Return the greatest length of a translation for sources of these lengths. Both are integer tensors "B"."""
        limits = src_lengths * self.max_length_ratio + self.max_length_offset
        return limits.clamp(max(self.min_length, 1), self.max_length).long()

    def penalty(self, length: Any) -> Any:
        """Return the divisor of a log-probability, for a length or an array of lengths.

        - `none`: 1.
        - `simple`: length^alpha.
        - `gnmt`: ((5 + length) / 6)^alpha (Wu et al. 2016, arXiv 1609.08144, equation 14).
        """
        if self.length_normalization == "none":
            return length**0.0
        return (length if self.length_normalization == "simple" else (5 + length) / 6) ** self.alpha
