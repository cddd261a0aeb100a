"""The one error that a user can cause, and how a script ends on it."""

from __future__ import annotations


class InputError(ValueError):
    """Something that the user gave cannot be used.

    The message is one line: where, what was given, what was expected. Scripts print it to stderr
    and exit with code 2.
    """

    def __init__(self, where: object, got: object, expected: str) -> None:
        super().__init__(" ".join(f"{where}: {got}, expected {expected}".split()))
        self.parts = str(where), str(got), expected

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:  # to come over from a worker
        return type(self), self.parts


class CheckFailed(RuntimeError):
    """A result is not what it must be (an export that differs, a model of the wrong shapes).

    Scripts print the message to stderr and exit with code 1.
    """


class ParityError(CheckFailed):
    """The pruned model does not compute what the masked model computes: a fault of yolo_slim."""
