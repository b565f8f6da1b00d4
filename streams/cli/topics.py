"""``manifold topics``."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import click

from streams.cli.output import echo
from streams.config.runtime import Runtime
from streams.kafka.cluster_check import check_cluster, cluster_findings_json
from streams.kafka.topics_admin import Cluster, create_topics, expected_topics, require_topics

EXIT_DRIFT = 1
MARKS = {"ok": "ok  ", "warn": "WARN", "fail": "NO  "}


@click.group()
def topics() -> None:
    """Create, list or check the topics; check a cluster.

    \b
    Examples:
      manifold topics create
      manifold topics list --json
      manifold topics check --bootstrap-servers broker:9092
    """


@topics.command()
@click.option(
    "--json", "as_json_", is_flag=True, help="Print one JSON object: topic -> created, exists."
)
def create(as_json_: bool) -> None:
    """Create the topics that are missing, the changelogs of the stages included.

    Existing topics are not changed; `manifold topics check` lists the differences. A topic with
    another number of partitions is refused, because keys would move: exit code 2.

    \b
    Examples:
      manifold topics create
      TOPIC_PARTITIONS=6 TOPIC_REPLICATION_FACTOR=3 manifold topics create
      manifold topics create --topic-prefix staging. --json
    """
    runtime = Runtime.from_env()
    cluster = Cluster(runtime)
    done = create_topics(runtime, cluster)
    require_topics(runtime, cluster)
    if as_json_:
        echo(json.dumps(done))
        return
    width = max(map(len, done))
    for name, outcome in done.items():
        echo(f"{name:<{width}}  {outcome}")


@topics.command("list")
@click.option("--json", "as_json_", is_flag=True, help="Print a JSON list, one object per topic.")
def list_(as_json_: bool) -> None:
    """List the topics of the deployment: content of each, and whether it exists.

    \b
    Examples:
      manifold topics list
      manifold topics list --json
    """
    runtime = Runtime.from_env()
    wanted = expected_topics(runtime)
    actual = Cluster(runtime).actual(topic.name for topic in wanted)
    rows: list[dict[str, Any]] = []
    for topic in wanted:
        found = actual.get(topic.name)
        rows.append(
            {
                "topic": topic.name,
                "exists": found is not None,
                "partitions": topic.partitions if found is None else found.partitions,
                "replicas": None if found is None else found.replicas,
                "cleanup": topic.spec.cleanup,
                "records": list(topic.spec.records),
                "written_by": topic.spec.derived_by,
                "content": topic.spec.content,
            }
        )
    echo(json.dumps(rows, indent=2) if as_json_ else _table(rows))


def _table(rows: list[dict[str, Any]]) -> str:
    width = max(len(row["topic"]) for row in rows)
    lines = [f"{'topic':<{width}}  parts  repl  cleanup  content"]
    for row in rows:
        replicas = row["replicas"] if row["exists"] else "none"
        content = row["content"] if row["exists"] else f"(missing) {row['content']}"
        lines.append(
            f"{row['topic']:<{width}}  {row['partitions']:>5}  {replicas:>4}  {row['cleanup']:<7}  "
            f"{content}"
        )
    return "\n".join(lines)


@topics.command()
@click.option(
    "--json", "as_json_", is_flag=True, help="Print one JSON object: ok, and every finding."
)
def check(as_json_: bool) -> None:
    """Check a cluster for the required features, and the topics for drift from the topic table.

    Transactions, fencing of a replaced worker, read_committed, timestamps and clocks are tested on
    two temporary topics, which are deleted afterwards. Exit code 1 when a requirement is not met; a
    WARN works, but has a known problem (such as a release that loses commit markers).

    \b
    Examples:
      manifold topics check
      manifold topics check --bootstrap-servers broker:9092 --json
      manifold topics check --env-file production.env
    """
    found = asyncio.run(check_cluster(Runtime.from_env()))
    if as_json_:
        echo(json.dumps(cluster_findings_json(found), indent=2))
    else:
        for finding in found:
            echo(f"{MARKS[finding.state]} {finding.name:<14}  {finding.detail}")
    if not all(finding.ok for finding in found):
        sys.exit(EXIT_DRIFT)
