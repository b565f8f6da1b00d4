"""A real Prometheus (of Debian) with the rules of ``deploy/prometheus``, and what it says."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from streams.process.child import Child, free_port
from tests.conftest import program
from tests.support.waiting import PATIENCE_S, until

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
NAME = re.compile(r"(?<![\w:])((?:sep|manifold)_[a-z0-9_]+)\b")
UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
LOOK_BACK_S = 300
"""For how long Prometheus takes the last sample of a series for its value."""

Rule = dict[str, Any]
Labels = tuple[tuple[str, str], ...]


class Value(NamedTuple):
    """One series of an answer: its labels, and (time, value) in order."""

    labels: Labels
    points: list[tuple[float, float]]


def alert_rules(path: Path = RULES) -> list[Rule]:
    """Return every alert of a file of rules."""
    groups = yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def seconds(length: str) -> float:
    """Return a length of time of Prometheus, such as ``15m``."""
    return sum(float(n) * UNITS[u] for n, u in re.findall(r"(\d+)([smhd])", length))


def changed_rules(
    place: Path,
    *,
    length: Callable[[str], str] = str,
    lower: Mapping[str, str] | None = None,
    wait: str = "",
) -> Path:
    """Write the rules with other lengths of time and return where.

    Parameters
    ----------
    length
        What a length of time, or a range with its step, becomes.
    lower
        Text of an expression -> what stands there instead; every one must be there.
    wait
        What every ``for`` becomes; by default what ``length`` makes of it.
    """
    text = RULES.read_text(encoding="utf-8")
    for before, after in (lower or {}).items():
        assert before in text, before
        text = text.replace(before, after)
    content = yaml.safe_load(text)
    for rule in (rule for group in content["groups"] for rule in group["rules"]):
        rule["expr"] = re.sub(r"\[([^]]+)\]", lambda m: f"[{length(m[1])}]", rule["expr"])
        if "for" in rule:
            rule["for"] = wait or length(rule["for"])
    place.write_text(yaml.safe_dump(content), encoding="utf-8")
    return place


def metric_names(rules: Iterable[Rule]) -> frozenset[str]:
    """Return the names of every metric that the rules ask for."""
    return frozenset(name for rule in rules for name in NAME.findall(rule["expr"]))


def firing(rule: Rule, values: Iterable[Value], step_s: float) -> list[tuple[Labels, float]]:
    """Return when a rule's alerts begin to fire, evaluated every ``step_s``.

    Prometheus fires an alert when its series has been in every answer for as long as ``for`` says.
    """
    wait_s, found = seconds(rule.get("for", "0s")), []
    for value in values:
        since = last = None
        for at, _ in value.points:
            if since is None or last is None or at - last > step_s:
                since = at
            last = at
            if at - since >= wait_s:
                found.append((value.labels, at))
                break
    return found


def shipped_jobs(addresses: Mapping[str, str], token_file: Path) -> dict[str, dict[str, Any]]:
    """Return the jobs of ``deploy/prometheus/prometheus.yml`` with other addresses and paths.

    Parameters
    ----------
    addresses
        Job -> ``host:port``; jobs without one are left out.
    token_file
        Takes the place of the file that the jobs name.
    """
    found = {}
    for job in yaml.safe_load((RULES.parent / "prometheus.yml").read_text())["scrape_configs"]:
        if job["job_name"] in addresses:
            static = {"static_configs": [{"targets": [addresses[job["job_name"]]]}]}
            found[job.pop("job_name")] = _with_token(job, token_file) | static
    assert found.keys() == addresses.keys()
    return found


def kubernetes_job(addresses: Mapping[str, str], token_file: Path) -> dict[str, dict[str, Any]]:
    """Return the job of ``deploy/prometheus/kubernetes.yml``; the pods are given, not discovered.

    Parameters
    ----------
    addresses
        App -> ``host:port`` of its pod; its labels are those of the manifest.
    token_file
        Takes the place of the file that the job names.
    """
    (job,) = yaml.safe_load((RULES.parent / "kubernetes.yml").read_text())["scrape_configs"]
    assert job.pop("kubernetes_sd_configs") == [{"role": "pod"}]
    made = _with_token(job, token_file)
    del made["scrape_interval"]
    made["static_configs"] = []
    for workload in yaml.safe_load_all((ROOT / "deploy/kubernetes/manifold.yaml").read_text()):
        pod = (
            workload["spec"]["template"]["metadata"]
            if "template" in workload.get("spec", {})
            else {}
        )
        app = pod.get("labels", {}).get("app", "")
        if app not in addresses:
            continue
        host, _, port = addresses[app].partition(":")
        meta = {"pod_ip": host, "pod_name": f"{app}-0", "pod_label_app": app}
        for name in pod["annotations"]:
            kept = pod["annotations"][name] if not name.endswith("/port") else port
            meta[f"pod_annotation_{re.sub('[^a-z]', '_', name)}"] = kept
        labels = {f"__meta_kubernetes_{name}": text for name, text in meta.items()}
        made["static_configs"].append({"targets": [f"{host}:1"], "labels": labels})
    assert len(made["static_configs"]) == len(addresses)
    return {made.pop("job_name"): made}


def _with_token(job: Mapping[str, Any], token_file: Path) -> dict[str, Any]:
    made = dict(job)
    if "authorization" in made:
        assert made["authorization"].keys() == {"credentials_file"}
        made["authorization"] = {"credentials_file": str(token_file)}
    for discovered in ("dns_sd_configs", "static_configs"):
        made.pop(discovered, None)
    return made


class Prometheus:
    """One server.

    Parameters
    ----------
    directory
        Where its data, configuration and output lie.
    targets
        Job -> where it is scraped: ``host:port``, or a whole scrape configuration without a name.
    rules
        Files of rules; none by default.
    scrape_s
        Time between scrapes, and between evaluations of the rules.
    """

    def __init__(
        self,
        directory: Path,
        targets: Mapping[str, str | Mapping[str, Any]] | None = None,
        rules: Sequence[Path] = (),
        scrape_s: float = 1.0,
    ) -> None:
        self.directory, self.port = directory, free_port()
        self._rules, self._scrape_s = [str(one.resolve()) for one in rules], scrape_s
        self._scraped = [
            {"job_name": job}
            | ({"static_configs": [{"targets": [at]}]} if isinstance(at, str) else dict(at))
            for job, at in (targets or {}).items()
        ]
        self.child: Child | None = None

    @property
    def data(self) -> Path:
        """The directory of its time series."""
        return self.directory / "data"

    def import_lines(self, lines: Iterable[str]) -> None:
        """Back-fill an OpenMetrics file, before the start."""
        text = self.directory / "samples.om"
        with text.open("w") as out:
            out.writelines(lines)
        command = (program("promtool"), "tsdb", "create-blocks-from", "openmetrics")
        done = subprocess.run(
            [*command, str(text), str(self.data)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        text.unlink()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.directory.mkdir(parents=True, exist_ok=True)
        every = f"{round(self._scrape_s * 1000)}ms"
        timing = {"scrape_interval": every, "evaluation_interval": every, "scrape_timeout": every}
        content = {
            "global": timing, "rule_files": self._rules, "scrape_configs": self._scraped,
        }  # fmt: skip
        config = self.directory / "prometheus.yml"
        config.write_text(yaml.safe_dump(content))
        self.child = Child(
            "Prometheus",
            [
                program("prometheus"), f"--config.file={config}",
                f"--storage.tsdb.path={self.data}", "--storage.tsdb.retention.time=100y",
                f"--web.listen-address=127.0.0.1:{self.port}", "--query.max-samples=100000000",
            ],
            self.directory / "prometheus.log",
        )  # fmt: skip
        self.child.start()
        self.child.wait_until(self._ready, PATIENCE_S)

    def stop(self) -> None:
        """End it."""
        if self.child is not None:
            self.child.stop()

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=5) as said:
                return bool(said.status == 200)
        except OSError:
            return False

    def _get(self, path: str, **parameters: str) -> Any:
        url = f"http://127.0.0.1:{self.port}{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def value(self, expr: str) -> dict[Labels, float]:
        """Return what an expression is now."""
        found = self._get("/api/v1/query", query=expr)["result"]
        return {_labels(one["metric"]): float(one["value"][1]) for one in found}

    def over(self, expr: str, start: float, end: float, step_s: float) -> list[Value]:
        """Return what an expression was from start to end, every ``step_s``."""
        found = self._get(
            "/api/v1/query_range", query=expr, start=str(start), end=str(end), step=str(step_s)
        )
        return [
            Value(_labels(one["metric"]), [(float(at), float(v)) for at, v in one["values"]])
            for one in found["result"]
        ]

    def alerts(self, state: str = "firing") -> dict[str, list[dict[str, str]]]:
        """Return the alerts that are in a state now: name -> labels of each."""
        found: dict[str, list[dict[str, str]]] = {}
        for one in self._get("/api/v1/alerts")["alerts"]:
            if one["state"] == state:
                found.setdefault(one["labels"]["alertname"], []).append(one["labels"])
        return found

    def ever(self, state: str) -> set[str]:
        """Return the alerts that have ever been in a state."""
        found = self.value(f'count_over_time(ALERTS{{alertstate="{state}"}}[1h])')
        return {dict(labels)["alertname"] for labels in found}

    def scraped(self) -> dict[str, str]:
        """Return job -> health of its target: ``up``, or what went wrong."""
        found = self._get("/api/v1/targets")["activeTargets"]
        return {
            one["labels"]["job"]: one["health"] if one["health"] == "up" else one["lastError"]
            for one in found
        }

    def until_scraped(self) -> None:
        """Wait until every target has answered."""
        until(
            lambda: (found := self.scraped()) and set(found.values()) == {"up"},
            lambda: str(self.scraped()),
            every_s=0.1,
        )

    def until_firing(self, name: str, /, **labels: str) -> dict[str, str]:
        """Wait until an alert with these labels fires; return all of its labels."""

        def found() -> dict[str, str] | None:
            return next(
                (one for one in self.alerts().get(name, []) if labels.items() <= one.items()), None
            )

        said = until(found, lambda: f"{name} does not fire, but {self.alerts()}", every_s=0.1)
        assert said is not None
        return said


def _labels(metric: Mapping[str, str]) -> Labels:
    return tuple(sorted(metric.items()))
