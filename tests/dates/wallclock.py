"""Environments in which a process tree sees another wall clock, time zone or language."""

from __future__ import annotations

import mmap
import os
import shutil
import struct
import subprocess
from pathlib import Path
from zlib import crc32

from streams.errors import Fatal

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "dates"
SOURCE = Path(__file__).with_name("wallclock.c")
OFFSET = struct.Struct("=q")
LOCALE_SOURCES = Path("/usr/share/i18n/locales")


def library() -> Path:
    """Return the preload library, compiled when its source is new.

    Raises
    ------
    Fatal
        There is no C compiler, or it refuses the source.
    """
    made = BUILD / f"wallclock-{crc32(SOURCE.read_bytes()):08x}.so"
    if made.is_file():
        return made
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise Fatal("no C compiler: install gcc (the moved clock is a small library)")
    BUILD.mkdir(parents=True, exist_ok=True)
    # several processes may come here at once: each compiles, the last one renames
    fresh = made.with_suffix(f".{os.getpid()}")
    command = [compiler, "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror"]
    command += ["-o", str(fresh), str(SOURCE), "-ldl", "-pthread"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Fatal(f"cannot compile {SOURCE}: {done.stderr.strip()}")
    fresh.replace(made)
    return made


def moved_by(offset_s: int) -> dict[str, str]:
    """Return what moves the wall clock of a process and of all it starts, by seconds.

    Parameters
    ----------
    offset_s
        Against the clock of this run; negative: back.
    """
    offset_s += offset_of_run_s()
    return {"LD_PRELOAD": str(library()), "WALLCLOCK_OFFSET_S": str(offset_s)}


class MovableClock:
    """A wall clock that can be moved while processes run on it.

    It starts as that of the run, which may be a moved one itself.

    Parameters
    ----------
    place
        File that holds the offset; made.
    """

    def __init__(self, place: Path) -> None:
        self._of_run_s = offset_of_run_s()
        place.write_bytes(OFFSET.pack(self._of_run_s))
        with place.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), OFFSET.size)
        self.environment = {"LD_PRELOAD": str(library()), "WALLCLOCK_OFFSET_FILE": str(place)}

    def move_to(self, offset_s: int) -> None:
        """Put the clock of every process on it so many seconds off the run's, at once."""
        OFFSET.pack_into(self._memory, 0, self._of_run_s + offset_s)


def offset_of_run_s() -> int:
    """Return how far the clock of this run is off the machine's."""
    return int(os.environ.get("WALLCLOCK_OFFSET_S", "0"))


def spoken(language: str) -> dict[str, str]:
    """Return what sets a language such as ``de_DE.UTF-8``; nothing where it cannot be had.

    The machine's own locales stay as they are: one that is missing is compiled into a directory of
    the build.
    """
    name, _, charset = language.partition(".")
    if name == "C":
        return {"LANG": language, "LC_ALL": language}
    place = BUILD / "locale"
    if not (place / language).is_dir():
        if shutil.which("localedef") is None or not (LOCALE_SOURCES / name).is_file():
            return {}
        place.mkdir(parents=True, exist_ok=True)
        command = ["localedef", "-i", name, "-f", charset, str(place / language)]
        subprocess.run(command, capture_output=True, check=True)
    return {"LANG": language, "LC_ALL": language, "LOCPATH": str(place)}
