"""Virtual environments of peers whose packages do not go together with ours: build/peers/NAME."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "build" / "peers"


class PeerFailed(Exception):
    """A peer cannot be installed or run; says why in one line."""


def installed(name: str, pins: tuple[str, ...], *, ours_behind: bool = False) -> Path:
    """Return the interpreter of the peer's environment, made where it is missing or of old pins.

    Parameters
    ----------
    name
        Its folder.
    pins
        What is installed.
    ours_behind
        Whether packages that it does not have are taken from our environment.

    Raises
    ------
    PeerFailed
        pip cannot install it.
    """
    place = PLACE / name
    python, stamp = place / "bin" / "python", place / "pins"
    wanted = "\n".join((*pins, sys.version.split()[0]))
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"bench: installing {' '.join(pins)} into {place.relative_to(ROOT)}")
    shutil.rmtree(place, ignore_errors=True)
    output([sys.executable, "-m", "venv", str(place)], 120)
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    output([*pip, *pins], 600)
    if ours_behind:
        own = output(
            [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], 9
        )
        ours = Path(own.strip()) / "behind.pth"
        ours.write_text(sysconfig.get_path("purelib") + "\n")
    stamp.write_text(wanted)
    return python


def output(command: list[str], seconds: float) -> str:
    """Return what a command prints.

    Raises
    ------
    PeerFailed
        It takes longer, or ends with an error.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as late:
        raise PeerFailed(f"{Path(command[0]).name} took more than {seconds:.0f} s") from late
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()
        raise PeerFailed(said[-1][:200])
    return done.stdout
