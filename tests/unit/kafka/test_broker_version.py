"""Which Kafka a broker is, from the features that it tells."""

from __future__ import annotations

from io import BytesIO

import pytest

from streams.kafka.broker_version import (
    _SUPPORTED,
    _Answer,
    _Asked,
    _AskFeatures,
    known_against,
    release_of,
)

# Kafka's MetadataVersion: the highest level that each release knows
LEVELS = {19: "3.7", 20: "3.8", 21: "3.9", 25: "4.0", 27: "4.1", 29: "4.2", 30: "4.3", 33: "4.4"}


@pytest.mark.parametrize(("level", "release"), LEVELS.items())
def test_the_highest_level_names_the_release(level: int, release: str) -> None:
    assert release_of(level) == release


def test_what_is_not_known_is_not_guessed() -> None:
    assert release_of(None) is None
    assert release_of(3) is None
    assert release_of(99) is None


def test_only_the_releases_that_lose_commit_markers_are_warned_of() -> None:
    warned = {release for release in LEVELS.values() if known_against(release)}
    assert warned == {"4.3", "4.4"}
    assert known_against(None) is None
    said = known_against("4.4")
    assert said is not None
    assert "commit markers" in said and "4.2.2" in said


def test_an_answer_of_a_broker_is_read() -> None:
    # as Kafka 4.4.0 answers: the header without tags, then the flexible body with tagged features
    features = _SUPPORTED.encode([("group.version", 0, 1, {}), ("metadata.version", 7, 33, {})])
    body = b"\x00\x00" + b"\x02" + b"\x00\x12\x00\x00\x00\x04\x00" + b"\x00\x00\x00\x00"
    tags = b"\x01" + b"\x00" + bytes([len(features)]) + features
    request = _AskFeatures().build(_Asked)
    buffer = BytesIO(b"\x00\x00\x00\x07" + body + tags)
    assert request.parse_response_header(buffer).correlation_id == 7
    answer = _Answer.decode(buffer)
    assert answer.api_versions == [(18, 0, 4, {})]
    found = _SUPPORTED.decode(BytesIO(answer.tags[0]))
    assert found is not None
    assert {name: highest for name, _, highest, _ in found} == {
        "group.version": 1,
        "metadata.version": 33,
    }
