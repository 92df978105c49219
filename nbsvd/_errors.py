"""Errors that name the argument, what came, what was expected and what to do about it."""

import difflib
from collections.abc import Iterable


class ArgumentError(ValueError):
    """An argument that can't be used, refused before any work is done.

    The message reads ``argument: got ...; expected .... remedy``; the parts stay available as attributes.

    Example:
        >>> raise ArgumentError(
        ...     "k", got=0, expected="at least 1", remedy="Ask for one mode or more."
        ... )
        Traceback (most recent call last):
        ...
        nbsvd._errors.ArgumentError: k: got 0; expected at least 1. Ask for one mode or more.
    """

    def __init__(self, argument: str, *, got: object, expected: str, remedy: str = "") -> None:
        self.argument, self.got, self.expected, self.remedy = argument, got, expected, remedy
        super().__init__(f"{argument}: got {got}; expected {expected}. {remedy}".rstrip())


class TrainingDiverged(RuntimeError):
    """A loss or a value is no longer a finite number.

    Attributes:
        step: the number of steps done.
        result: what was good before: from ``solve`` a :class:`~nbsvd.Result`, from the bare training loop its
            ``Trainer``.
    """

    def __init__(self, message: str, *, step: int, result: object = None) -> None:
        self.step, self.result = step, result
        super().__init__(message)


def require(condition: object, argument: str, *, got: object, expected: str, remedy: str = "") -> None:
    """Raise :class:`ArgumentError` unless ``condition`` is true.

    Example:
        >>> require(3 > 0, "k", got=3, expected="at least 1")
    """
    if not condition:
        raise ArgumentError(argument, got=got, expected=expected, remedy=remedy)


def nearest(argument: str, name: object, known: Iterable[str]) -> str:
    """Return ``name`` if it is one of ``known``; otherwise raise, with the nearest known name.

    Example:
        >>> nearest("nesting", "joint", ["joint", "sequential", "none"])
        'joint'
    """
    names = list(known)
    if isinstance(name, str) and name in names:
        return name
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.4)
    remedy = f"Did you mean {close[0]!r}?" if close else ""
    raise ArgumentError(
        argument, got=repr(name), expected="one of " + ", ".join(map(repr, names)), remedy=remedy
    )
