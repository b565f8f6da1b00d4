"""Writes files whole or not at all, and names a full disk with the path not written."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from streams.errors import Fatal, Recoverable

FULL_BYTES: Final = 1 << 20
"""A disk with less free space than this is full: no log can be written."""
_FULL: Final = {
    errno.ENOSPC: "the disk is full; free some space on it",
    errno.EDQUOT: "the disk quota is used up; free some space or raise the quota",
}
_TOO_LARGE: Final = "the file would be larger than this process may write (ulimit -f, LimitFSIZE)"


def cannot_write(path: Path | str, error: OSError) -> Fatal | Recoverable:
    """Return the error for a file that cannot be written: Recoverable when the disk is full.

    Parameters
    ----------
    path
        The file as the user knows it, or a name such as ``standard output``.
    error
        What the operating system says.
    """
    full = _FULL.get(error.errno or 0)
    if full is not None:
        return Recoverable(f"cannot write {path}: {full}")
    said = _TOO_LARGE if error.errno == errno.EFBIG else error.strerror or str(error)
    return Fatal(f"cannot write {path}: {said}")


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Translate errors of the operating system in the body; a pipe whose reader has gone is none.

    Raises
    ------
    Recoverable, Fatal
        The disk is full; the path cannot be written for another reason.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise cannot_write(path, error) from error


def write_file(path: Path | str, content: str | bytes, *, mode: int = 0o666) -> None:
    """Write a file atomically: a reader, also after a full disk, sees the old file or the new one.

    Parameters
    ----------
    path
        The file; a device or pipe is written directly. Its directory must exist.
    content
        Text is encoded as UTF-8.
    mode
        Permissions of a new file, before the umask; an existing one keeps its own.

    Raises
    ------
    Recoverable, Fatal
        The disk is full; the file cannot be written for another reason.
    """
    data = content.encode() if isinstance(content, str) else content
    with writing(path):
        place = Path(path).resolve()
        if place.exists() and not place.is_file():
            place.write_bytes(data)
            return
        beside = place.with_name(f".{place.name}.{os.getpid()}.part")
        try:
            made = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        except PermissionError:
            place.write_bytes(data)  # the file may be writable although its directory is not
            return
        try:
            with os.fdopen(made, "wb") as out:
                if place.exists():
                    os.fchmod(made, place.stat().st_mode & 0o7777)
                out.write(data)
                out.flush()
                os.fsync(made)  # some file systems find only now that there is no room
            beside.replace(place)
        finally:
            beside.unlink(missing_ok=True)


def full_disk(directory: Path) -> str:
    """Return a sentence when the disk of a directory is full; empty otherwise, or when unknown."""
    try:
        found = os.statvfs(directory)
    except OSError:
        return ""
    if found.f_blocks and found.f_bavail * found.f_frsize < FULL_BYTES:
        return f"the disk of {directory} is full; free some space on it"
    return ""
