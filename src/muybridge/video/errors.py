"""Errors of files that cannot be decoded."""

import os

from muybridge.errors import UserError


class DecodeError(UserError):
    """A file cannot be decoded: its `path`, and the decoder's `reason`."""

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        super().__init__(f"{os.fspath(path)}: {reason}")
        self.path, self.reason = os.fspath(path), reason

    @staticmethod
    def of(path: str | os.PathLike[str], error: Exception) -> "DecodeError":
        """Wrap whatever was raised while a file was read; the reason names its type."""
        if isinstance(error, DecodeError):
            return error
        if isinstance(error, OSError) and error.strerror:
            return DecodeError(path, error.strerror)
        return DecodeError(path, f"cannot be read: {type(error).__name__}: {error}".rstrip(": "))

    def __reduce__(self) -> tuple[type, tuple[str, str]]:  # crosses process borders whole
        return DecodeError, (self.path, self.reason)
