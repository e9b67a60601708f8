"""What a value may be, said in one way; torch is not needed for it."""

from math import inf


def require_one_of(key: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises `ValueError` that lists what there is."""
    if value not in choices:
        raise ValueError(f"{key} is {value!r}: choose one of {', '.join(choices)}")


def require_between(key: str, value: float | None, low: float, high: float = inf) -> None:
    """Raises `ValueError` unless low <= value < high; None is left alone."""
    if value is not None and not low <= value < high:
        bound = f" and below {high}" if high < inf or value == inf else ""
        raise ValueError(f"{key} is {value}: it must be at least {low}{bound}")
