"""Applies the records that an executor follows: decisions, weights, candles, commands, orders."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from streams.config.settings import Config
from streams.errors import MustRestart, Recoverable
from streams.kafka.control_topic import read_control
from streams.kafka.follower import DecodedRecord, FollowedRecord
from streams.records.events import Candle, Control, GateDecision, Weights
from streams.records.log_record import InvalidRecord
from streams.records.topics import CANDLES
from streams.trading.context import ExecutorContext, MadeWith
from streams.trading.operator_commands import commands_of, resets_a_limit
from streams.trading.order_log import KEPT, bounded, why_blocked
from streams.trading.paper import PaperBroker
from streams.trading.reconcile_command import asks_to_reconcile

log = logging.getLogger("manifold.executor")


class Intake:
    """Applies followed records to the parts of an executor.

    Parameters
    ----------
    parts
        The parts of the executor.
    active
        Returns the active configuration.

    Attributes
    ----------
    reconcile_asked
        Whether a command has asked for a reconciliation since the caller reset this.
    control_read
        Whether ``ops.control`` was read further since the caller reset this.
    """

    def __init__(self, parts: ExecutorContext, active: Callable[[], Config]) -> None:
        self._parts, self._active = parts, active
        self._made_with = MadeWith.of(active())
        self._reading = asyncio.Lock()  # a check runs beside the taking of records
        self.reconcile_asked = self.control_read = False

    async def take(self, batch: Sequence[FollowedRecord]) -> None:
        """Apply a batch, in order.

        Raises
        ------
        MustRestart
            A setting that is fixed at creation has changed.
        """
        parts = self._parts
        for one in batch:  # first the inputs: a decision may be in the same batch as its candle
            if isinstance(one, DecodedRecord) and one.topic == CANDLES:
                parts.checks.inputs.take_input(one.partition, one.event)
        self._act_on(parts.checks.release())
        known = len(parts.ledger.invalid)
        for one in batch:
            if isinstance(one, InvalidRecord):
                # blocks opening at once, as a start does that finds one in the order log
                parts.ledger.invalid.append(one)
            elif isinstance(one.event, GateDecision | Weights):
                if parts.checks.arrive(one):
                    self._act_on([*parts.checks.release(), one])
            elif one.topic == CANDLES and isinstance(one.event, Candle):
                self._take_candle(one.event)
            elif isinstance(one.event, Control):
                await self._take_control(one.offset, one.event)
        if len(parts.ledger.invalid) > known:
            self._report_invalid(known)

    async def check(self) -> bool:
        """Ask once for what waiting decisions need; return whether there is something to act on.

        Raises
        ------
        MustRestart
            A setting that is fixed at creation has changed.
        """
        checks = self._parts.checks
        if checks.lacks_control:
            try:
                await self._read_control()
            except Recoverable as error:
                log.info("cannot read ops.control, which a decision names: %s", error)
        await checks.ask()
        confirmed = checks.release()
        self._act_on(confirmed)
        return bool(confirmed or checks.unconfirmed)

    def _act_on(self, records: Sequence[DecodedRecord]) -> None:
        """Apply confirmed decisions and weights."""
        for one in records:
            if isinstance(one.event, GateDecision):
                self._parts.runs.take(one.event, one.source)
            elif isinstance(one.event, Weights):
                self._parts.allocation.take(one.event)

    def _report_invalid(self, known: int) -> None:
        """Log once that a partition blocks opening; the ledger had ``known`` before the batch."""
        invalid = self._parts.ledger.invalid
        self._parts.metrics.invalid.inc(len(invalid) - known)
        account_id = self._parts.broker.account_id
        checked = commands_of(self._parts.control.records, account_id).checked
        said = {one.place for one in invalid[:known] if one.offset > checked.get(one.place, -1)}
        for place in sorted({one.place for one in invalid[known:]} - said):
            blocked = why_blocked([one for one in invalid if one.place == place], checked)
            if blocked:
                log.error("%s", blocked)
        if len(invalid) > KEPT:
            invalid[:] = bounded(invalid)

    async def _take_control(self, offset: int, command: Control) -> None:
        parts = self._parts
        # a decision processed earlier may have read this far: the command is due in any case
        account_id = parts.broker.account_id
        if asks_to_reconcile(command, account_id) or resets_a_limit(command, account_id):
            log.info("reconciling now, by command of %r: %r", command.actor, command.reason)
            self.reconcile_asked = True
        if offset >= parts.control.end:
            await self._read_control()

    def _take_candle(self, candle: Candle) -> None:
        broker = self._parts.broker
        if isinstance(broker, PaperBroker) and candle.granularity == self._made_with.candle_gran:
            broker.take(candle)

    async def _read_control(self) -> None:
        parts = self._parts
        async with self._reading:
            await asyncio.to_thread(read_control, parts.runtime, parts.codec, parts.control)
        self.control_read = True
        parts.followed.look(parts.control, refuse=False)
        changed = self._made_with.changed(self._active())
        if changed:
            raise MustRestart(f"the configuration has changed: {changed}")
