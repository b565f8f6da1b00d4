"""Java programs by Maven: the reference broker (and, in the tests, the reference registry)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from streams.errors import Fatal
from streams.process.cache_dir import cache_dir

JAVA_LEAST = 17


def java() -> str:
    """Return the Java program.

    Raises
    ------
    Fatal
        There is none, or it is older than 17.
    """
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")
    if not found:
        raise Fatal(
            "Java is missing: install Java 17 or later (apt-get install default-jre-headless)"
        )
    said = subprocess.run([found, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < JAVA_LEAST:
        raise Fatal(f"Java {JAVA_LEAST} or later is needed; {found} says: {said.splitlines()[:1]}")
    return found


def fetch_jars(pom: Path, name: str) -> Path:
    """Return the directory of the jars of ``pom``, downloaded once.

    Parameters
    ----------
    pom
        The Maven project whose dependencies are needed.
    name
        Directory name in the cache; contains the version.

    Raises
    ------
    Fatal
        Maven is missing or cannot download them.
    """
    jars = cache_dir() / name
    if any(jars.glob("*.jar")):
        return jars
    run_maven(["-f", str(pom), "dependency:copy-dependencies"], "outputDirectory", jars, what=name)
    return jars


def run_maven(goal: list[str], property_name: str, target: Path, what: str) -> None:
    """Run a Maven goal that fills ``target``, which appears only when it is complete."""
    program = shutil.which("mvn")
    if not program:
        raise Fatal(f"Maven is missing, it fetches {what}: apt-get install maven")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as place:
        done = subprocess.run(
            [program, "-q", "-B", *goal, f"-D{property_name}={place}/new"],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode != 0:
            words = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line]
            raise Fatal(f"Maven cannot fetch {what}: {' '.join(words[:2])[:400]}")
        if not target.exists():
            os.replace(f"{place}/new", target)
