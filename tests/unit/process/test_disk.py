"""A full disk is said as such, with the path, and leaves no half-written file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.errors import Fatal, Recoverable
from streams.process.child import Child
from streams.process.disk import full_disk, write_file
from tests.support.candle_files import market, write_csv
from tests.support.waiting import PATIENCE_S, until

FULL = Path("/dev/full")
FULL_SAID = "the disk is full; free some space on it"


@pytest.fixture(scope="module")
def small_disk() -> Iterator[Path]:
    """A disk of 2 MiB; mounting one needs root."""
    place = Path(tempfile.mkdtemp(prefix="manifold-disk-"))
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m,mode=0777", "tmpfs", str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        place.rmdir()
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)
    place.rmdir()


@pytest.fixture
def full(small_disk: Path) -> Iterator[Path]:
    """The small disk without any room."""
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space left"), filler.open("wb", buffering=0) as out:
        while True:
            out.write(b"x" * 4_096)
    yield small_disk
    for one in small_disk.iterdir():
        shutil.rmtree(one) if one.is_dir() else one.unlink()


def manifold(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "streams", *arguments],
        text=True,
        stderr=subprocess.PIPE,
        check=False,
        timeout=PATIENCE_S,
        **options,
    )


def test_a_file_is_replaced_whole_and_keeps_its_permissions(tmp_path: Path) -> None:
    place, link = tmp_path / "a", tmp_path / "link"
    write_file(place, "one", mode=0o600)
    assert place.stat().st_mode & 0o777 == 0o600
    link.symlink_to(place)
    write_file(link, b"two")
    assert place.read_text() == "two" and link.is_symlink()
    assert place.stat().st_mode & 0o777 == 0o600
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a", "link"]


@pytest.mark.parametrize(
    ("path", "said"),
    [("missing/file", "No such file or directory"), (".", "Is a directory")],
)
def test_another_reason_is_a_wrong_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Fatal, match=f"cannot write {path}: {said}"):
        write_file(path, "content")


def test_a_full_device_is_named() -> None:
    with pytest.raises(Recoverable, match=f"cannot write {FULL}: {FULL_SAID}"):
        write_file(FULL, "content")


def test_a_full_disk_leaves_the_old_file(full: Path) -> None:
    (full / "filler").write_bytes(b"x")
    place = full / "report.html"
    place.write_text("the old one")
    with pytest.raises(Recoverable, match=f"cannot write {place}: {FULL_SAID}"):
        write_file(place, "x" * (4 << 20))
    assert place.read_text() == "the old one"
    assert sorted(each.name for each in full.iterdir()) == ["filler", "report.html"]


def test_commands_name_the_file_and_the_full_disk(full: Path, tmp_path: Path) -> None:
    candles = write_csv(tmp_path / "EUR_USD-M1.csv", market(("EUR_USD",), 200))
    wrong = tmp_path / "EUR_USD-M5.csv"
    wrong.write_text("time,open,high,low,close,volume\nnever,1,1,1,1,1\n", encoding="utf-8")
    place = full / "out"
    for arguments in (
        ("replay", candles, "--report", str(place)),
        ("snapshot", candles, "--output", f"{place}.json"),
        ("load", "--dry-run", str(wrong), "--refused", str(place)),
        ("calibrate", candles, "--output", str(place)),
        ("serve", "--openapi", str(place)),
    ):
        done = manifold(*arguments, stdout=subprocess.DEVNULL)
        last = done.stderr.splitlines()[-1]
        assert last.startswith(f"manifold: cannot write {place}"), (arguments, done.stderr)
        assert last.endswith(FULL_SAID) and done.returncode == 75, (arguments, done)
        assert "Traceback" not in done.stderr
    assert [each.name for each in full.iterdir()] == ["filler"]


def test_standard_output_on_a_full_disk_is_named(tmp_path: Path) -> None:
    candles = write_csv(tmp_path / "EUR_USD-M1.csv", market(("EUR_USD",), 10))
    with FULL.open("wb") as out:
        done = manifold("load", "--dry-run", "--json", candles, stdout=out)
    assert done.returncode == 75
    assert done.stderr == f"manifold: cannot write standard output: {FULL_SAID}\n"


def test_the_file_size_limit_of_a_process_is_named(tmp_path: Path) -> None:
    place = tmp_path / "openapi.json"
    command = f"ulimit -f 1; exec {sys.executable} -m streams serve --openapi {place}"
    done = subprocess.run(
        ["sh", "-c", command],
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 2, done.stderr
    assert f"cannot write {place}: the file would be larger than" in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_stack_says_that_its_data_directory_is_full(full: Path) -> None:
    done = manifold("up", "--data-dir", str(full / "data"), stdout=subprocess.DEVNULL)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"the disk of {full / 'data'} has less than 256 MiB left; free some space" in done.stderr


def test_a_child_whose_log_is_cut_off_by_a_full_disk_says_so(full: Path) -> None:
    log = full / "child.log"
    child = Child("the child", [sys.executable, "-c", "print('x' * 100_000)"], log)
    child.start()
    until(lambda: child.returncode is not None)
    assert full_disk(full) == f"the disk of {full} is full; free some space on it"
    assert child.last_output().endswith(full_disk(full))
    with pytest.raises(Fatal, match=f"the child ended with code .*the disk of {full} is full"):
        child.wait_until(lambda: False, PATIENCE_S)
    assert full_disk(full / "missing") == ""


HOST_LOG = """
import sys
from streams.cli.run import _Log
log = _Log(6)
for number in range(3):
    log.write("worker", f"line {number}")
print(log.lost_lines, log.lost_why, file=sys.stderr, flush=True)
sys.stdin.readline()
log.write("worker", "after")
log.write("worker", "and on")
"""


def test_the_log_of_a_host_loses_lines_and_ends_nothing(full: Path) -> None:
    place = full / "host.log"
    with place.open("wb") as out:
        host = subprocess.Popen(
            [sys.executable, "-c", HOST_LOG],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert host.stderr is not None
        assert host.stderr.readline() == f"3 cannot write standard output: {FULL_SAID}\n"
        (full / "filler").unlink()
        host.communicate("go on\n", timeout=PATIENCE_S)
    assert host.returncode == 0
    *_, lost, after, last = place.read_text(encoding="utf-8").splitlines()
    assert lost.startswith("run    | ") and lost.endswith("UTC 3 lines were lost before this")
    assert (after, last) == ("worker | after", "worker | and on")


def test_a_worker_that_must_leave_does_so_when_it_can_say_nothing() -> None:
    command = "from streams.process.exit import exit_now; exit_now('fenced', stacks=True)"
    with FULL.open("wb") as out:
        done = subprocess.run(
            [sys.executable, "-c", command], stderr=out, check=False, timeout=PATIENCE_S
        )
    assert done.returncode == 70
