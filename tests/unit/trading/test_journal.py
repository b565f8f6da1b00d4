"""What ends an executor whose order log cannot be written."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from streams.kafka import transactions
from streams.trading import journal


@pytest.mark.parametrize(
    ("code", "exit_code", "said"),
    [
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, 2, "grant its user READ, WRITE"),
        (KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, 2, "on the transactional id"),
        (KafkaError._FENCED, 70, "fenced"),
    ],
)
def test_a_withdrawn_right_is_named_and_ends_with_code_2(
    monkeypatch: pytest.MonkeyPatch, code: int, exit_code: int, said: str
) -> None:
    def leave(why: str, code: int = 70) -> None:
        raise SystemExit(f"{code} {why}")

    for module in (journal, transactions):
        monkeypatch.setattr(module, "exit_now", leave)
    with pytest.raises(SystemExit) as left:
        journal._leave(KafkaError(code, "fenced by another"))
    expected = f"{exit_code} executor: the order log cannot be written: fenced by another"
    assert str(left.value).startswith(expected) and said in str(left.value)
