"""Report of reading and loading candle files: series, refused rows and reasons."""

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
"""Maximum number of refused rows listed in a report."""


@dataclass
class LoadReport:
    """Result of a load.

    Attributes
    ----------
    read, written
        Rows read, candles written.
    already_there
        Candles already in the log with the same numbers.
    duplicates
        Rows identical to an earlier row.
    watermarks
        Watermarks written.
    refused
        Every refused row.
    series
        Contents of each file.
    """

    read: int = 0
    written: int = 0
    already_there: int = 0
    duplicates: int = 0
    watermarks: int = 0
    refused: list[Refused] = field(default_factory=list)
    series: list[SeriesFound] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the report for ``--json``, with refused rows counted by reason."""
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
        """Return the number of refused rows by reason."""
        return dict(sorted(Counter(r.reason for r in self.refused).items()))

    def conflicts_by_file(self) -> Counter[str]:
        """Return per file the number of rows that conflict with an earlier row."""
        return Counter(r.file for r in self.refused if r.reason == "conflict")

    def refused_first(self) -> list[dict[str, Any]]:
        """Return the first refused rows as JSON: file, line, reason, detail."""
        return [one._asdict() for one in self.refused[:FIRST_REFUSED]]

    def refused_rows(self) -> dict[str, Any]:
        """Return the refused rows for the JSON output of commands that read files."""
        return {
            "count": len(self.refused),
            "by_reason": self.refused_by_reason(),
            "first": self.refused_first(),
        }

    def refused_sentence(self) -> str | None:
        """Return a sentence with the number of refused rows and the reasons, None without any."""
        if not self.refused:
            return None
        reasons = ", ".join(f"{name} {n:,}" for name, n in self.refused_by_reason().items())
        first = "; ".join(one.text() for one in self.refused[:FIRST_REFUSED])
        return (
            f"{len(self.refused):,} of {self.read:,} rows of the files were refused and are left "
            f"out ({reasons}), the first: {first}"
        )

    def require_candles(self, found: Sized) -> None:
        """Raise when there is no candle.

        Raises
        ------
        Fatal
            Every row was refused; the message gives the reasons.
        """
        if not found and self.refused:
            raise Fatal(f"no candle is left: {self.refused_sentence()}")


class FilesRead:
    """Checks of the files of one report, in reading order.

    Every method raises Fatal when a file does not contain what was expected.
    """

    def __init__(self, report: LoadReport) -> None:
        self._report = report
        self._checks: dict[str, tuple[FileCheck, int]] = {}
        self._before = (0, 0)

    def begin(self, path: str, times: TimeColumn) -> FileCheck:
        """Start the check of the next file."""
        self._path, self._check = path, FileCheck(path, times)
        self._before = (self._report.read, len(self._report.refused))
        return self._check

    def end(self) -> None:
        """Check a file after all of it was read."""
        read, refused = self._before
        rows = self._report.read - read
        self._report.series += self._check.finish(rows, self._report.refused[refused:])
        self._checks[self._path] = (self._check, rows)

    def close(self) -> None:
        """Check the conflicts found by comparing all files."""
        for path, count in self._report.conflicts_by_file().items():
            check, rows = self._checks[path]
            check.check_conflicts(rows, count)


Progress = Callable[[str, int, int | None], None]


def no_progress(what: str, done: int, total: int | None) -> None:
    """Ignore progress."""
