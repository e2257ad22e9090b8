"""What goes wrong with a file."""

import os

from muybridge.errors import UserError


class DecodeError(UserError):
    """A file that cannot be decoded: `path`, and the decoder's `reason`."""

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        super().__init__(f"{os.fspath(path)}: {reason}")
        self.path, self.reason = os.fspath(path), reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:  # crosses process borders whole
        return DecodeError, (self.path, self.reason)
