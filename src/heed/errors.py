"""Errors that a user can mend, and checks of values that raise them. Needs no torch."""

from math import inf


class UserError(ValueError):
    """A mistake that the user can mend: the message says what is wrong, the value, and what to do.

    The command line prints its message alone. Any other exception is a bug: it shows its traceback.
    """


class WriteError(UserError, OSError):
    """A file cannot be written: no room, no permission, no such directory."""


class DivergedError(UserError, FloatingPointError):
    """Training gives numbers that are not finite."""


def require_one_of(key: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise `UserError`, listing the choices, unless the value is one of them."""
    if value not in choices:
        raise UserError(f"{key} is {value!r}: choose one of {', '.join(choices)}")


def require_between(key: str, value: float | None, low: float, high: float = inf) -> None:
    """Raise `UserError` unless low <= value < high. None passes."""
    if value is not None and not low <= value < high:
        bound = f" and below {high}" if high < inf or value == inf else ""
        raise UserError(f"{key} is {value}: it must be at least {low}{bound}")
