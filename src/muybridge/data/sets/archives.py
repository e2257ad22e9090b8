"""Archives of the standard sets: where they lie, how large they are, and the hash that tells them from others."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Archive:
    """A file that is downloaded and unpacked."""

    urls: tuple[str, ...]
    """Addresses, the authors' first, then mirrors."""
    folder: str
    """Folder below the set's root that it is unpacked into; "" is the root itself."""
    num_bytes: int | None = None
    """None: not published."""
    sha256: str | None = None
    """None: not published."""
