"""A real schema registry (Apicurio, by Maven) with the Confluent API under a path."""

from __future__ import annotations

import tarfile
import urllib.request
from pathlib import Path

from streams.errors import Fatal
from streams.process.cache_dir import cache_dir
from streams.process.child import Child, free_port, require_port
from streams.stack import maven
from streams.stack.kafka import QUICK_JVM
from tests.support.waiting import PATIENCE_S

VERSION = "3.0.9"
ARTIFACT = f"io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"


def fetch() -> Path:
    """Return the directory of the unpacked registry, fetched once."""
    place = cache_dir() / f"apicurio-{VERSION}"
    if not place.exists():
        # the 3.x plugin wants the parent project as well, which is not published
        goal = [
            "org.apache.maven.plugins:maven-dependency-plugin:2.10:copy",
            f"-Dartifact={ARTIFACT}",
        ]
        maven.run_maven(goal, "outputDirectory", place, what=f"the Apicurio registry {VERSION}")
    for archive in place.glob("*.tar.gz"):
        with tarfile.open(archive) as packed:
            packed.extractall(place / "app", filter="data")
        archive.unlink()
    return place / "app"


class ApicurioRegistry:
    """One registry, in memory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.child: Child | None = None

    @property
    def url(self) -> str:
        """Address of the Confluent API."""
        return f"http://127.0.0.1:{self.port}/apis/ccompat/v7"

    def start(self) -> None:
        """Start and wait until it answers."""
        program, place = maven.java(), fetch()
        found = sorted(place.rglob("apicurio-registry-app-*-runner.jar"))
        if not found:
            raise Fatal(f"the Apicurio archive in {place} holds no runner")
        require_port(self.port, "the registry")
        self.child = Child(
            "the Apicurio registry",
            [
                *(program, *QUICK_JVM, f"-Dquarkus.http.port={self.port}"),
                *("-Dquarkus.http.host=127.0.0.1", "-jar", str(found[0])),
            ],
            self.directory / "apicurio.log",
            cwd=found[0].parent,
        )
        self.child.start()
        self.child.wait_until(self._answers, PATIENCE_S)

    def stop(self) -> None:
        """Stop it; what it held is gone."""
        if self.child is not None:
            self.child.stop(5.0)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/subjects", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False
