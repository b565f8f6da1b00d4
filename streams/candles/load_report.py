"""What reading and loading candle files came to: series, rows refused, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sized
from dataclasses import dataclass, field
from typing import Any, Final

from streams.candles.file_check import FileCheck, SeriesFound
from streams.candles.files import Refused
from streams.candles.times import TimeColumn
from streams.errors import Fatal

FIRST_REFUSED: Final = 5
"""Refused rows that a report names one by one."""


@dataclass
class LoadReport:
    """What a load did.

    Attributes
    ----------
    read, written
        Rows read, candles written.
    already_there
        Candles that the log holds already, with the same numbers.
    duplicates
        Rows that said the same as an earlier row.
    watermarks
        Watermarks written.
    refused
        Every row that was not taken in.
    series
        What each file holds.
    """

    read: int = 0
    written: int = 0
    already_there: int = 0
    duplicates: int = 0
    watermarks: int = 0
    refused: list[Refused] = field(default_factory=list)
    series: list[SeriesFound] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the report for ``--json``, refusals by reason."""
        return {
            "read": self.read,
            "written": self.written,
            "already_there": self.already_there,
            "duplicates": self.duplicates,
            "watermarks": self.watermarks,
            "refused": len(self.refused),
            "refused_by_reason": self.refused_by_reason(),
            "refused_first": self.refused_first(),
            "series": [one._asdict() for one in self.series],
        }

    def refused_by_reason(self) -> dict[str, int]:
        """Return how many rows were refused for each reason, by reason."""
        return dict(sorted(Counter(r.reason for r in self.refused).items()))

    def conflicts_by_file(self) -> Counter[str]:
        """Return how many rows of each file had other numbers than a row before."""
        return Counter(r.file for r in self.refused if r.reason == "conflict")

    def refused_first(self) -> list[dict[str, Any]]:
        """Return the first refused rows for JSON: file, line, reason, detail."""
        return [one._asdict() for one in self.refused[:FIRST_REFUSED]]

    def refused_rows(self) -> dict[str, Any]:
        """Return the refused rows for the JSON of a command that reads files."""
        return {
            "count": len(self.refused),
            "by_reason": self.refused_by_reason(),
            "first": self.refused_first(),
        }

    def refused_sentence(self) -> str | None:
        """Return how many rows were refused and why, None when none was."""
        if not self.refused:
            return None
        reasons = ", ".join(f"{name} {n:,}" for name, n in self.refused_by_reason().items())
        first = "; ".join(one.text() for one in self.refused[:FIRST_REFUSED])
        return (
            f"{len(self.refused):,} of {self.read:,} rows of the files were refused and are left "
            f"out ({reasons}), the first: {first}"
        )

    def require_candles(self, found: Sized) -> None:
        """Refuse to go on without any candle.

        Raises
        ------
        Fatal
            Every row was refused; says why.
        """
        if not found and self.refused:
            raise Fatal(f"no candle is left: {self.refused_sentence()}")


class FilesRead:
    """The checks of the files that go into one report, in the order of reading.

    Every method raises Fatal when a file is not what it was read as.
    """

    def __init__(self, report: LoadReport) -> None:
        self._report = report
        self._checks: dict[str, tuple[FileCheck, int]] = {}
        self._before = (0, 0)

    def begin(self, path: str, times: TimeColumn) -> FileCheck:
        """Return the check of the next file."""
        self._path, self._check = path, FileCheck(path, times)
        self._before = (self._report.read, len(self._report.refused))
        return self._check

    def end(self) -> None:
        """Check the file as a whole, now that all of it is read."""
        read, refused = self._before
        rows = self._report.read - read
        self._report.series += self._check.finish(rows, self._report.refused[refused:])
        self._checks[self._path] = (self._check, rows)

    def close(self) -> None:
        """Check what is known when the rows of all files are compared."""
        for path, count in self._report.conflicts_by_file().items():
            check, rows = self._checks[path]
            check.check_conflicts(rows, count)


Progress = Callable[[str, int, int | None], None]


def no_progress(what: str, done: int, total: int | None) -> None:
    """Take no notice."""
