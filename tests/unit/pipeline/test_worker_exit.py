"""With which code a worker ends when a batch cannot be processed."""

from __future__ import annotations

from typing import Any
from unittest.mock import MagicMock

import pytest

from streams.errors import Fatal, Recoverable
from streams.kafka.errors import Denied
from streams.pipeline.worker import runtime


@pytest.mark.parametrize(
    ("error", "code"), [(Denied("no right"), 2), (Fatal("bad"), 70), (Recoverable("later"), 70)]
)
async def test_a_withdrawn_right_ends_a_batch_with_code_2(
    monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    left: list[tuple[str, int]] = []
    monkeypatch.setattr(runtime, "exit_now", lambda why, code=70: left.append((why, code)))
    stage: Any = MagicMock()
    stage.name = "gate"
    runner = runtime.StageRunner(MagicMock(), stage, None)
    monkeypatch.setattr(runner, "_records", MagicMock(side_effect=error))
    runner._queued[0], runner._working[0] = [MagicMock()], MagicMock()
    await runner._work(0)
    assert left == [(f"gate: {error}", code)]
