"""Workflows in Redis."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Any

from pilotis.errors import TypeMismatchError
from pilotis.providers import (
    AT_REST,
    STATUSES,
    Claimed,
    Ending,
    Fault,
    Fence,
    FencedError,
    Fire,
    Letter,
    Notice,
    Parked,
    RunQuery,
    RunRecord,
    RunStatus,
    StepRecord,
    WorkflowCapability,
    WorkflowProvider,
    reset_after_fork,
)
from pilotis_redis import RedisBacked, RedisLink
from pilotis_redis.link import each_stream
from redis.exceptions import RedisClusterException, RedisError

from pilotis_workflow_redis.claims import Claimant, flow_name
from pilotis_workflow_redis.keys import RunKeys, without_braces
from pilotis_workflow_redis.lives import Life, Rescue
from pilotis_workflow_redis.options import RedisWorkflowsOptions
from pilotis_workflow_redis.records import (
    HEAD,
    UNREADABLE,
    encode,
    given,
    letter_of,
    milliseconds,
    read_head,
    read_journal,
    read_over,
    read_run,
    this_wait,
    written,
)
from pilotis_workflow_redis.scripts import SCRIPTS

logger = logging.getLogger("pilotis.workflow.redis")

AT_ONCE = 200
"""How many timers, or runs of a worker that has gone, one script works through."""
LONGEST = 5.0
"""Seconds that a read waits on the server. One that broke off there, unnoticed, is found out soon after."""
LISTENED = 600.0
"""Seconds for which notices are kept for subscribers who do not ask any more."""
MOST_NOTICES = 500
_FENCED = b"fenced"


class RedisWorkflows(RedisBacked, WorkflowProvider):
    """Runs in one Redis, or on one node of a cluster, shared by all processes of a service."""

    Options = RedisWorkflowsOptions
    capabilities = WorkflowCapability.DURABLE | WorkflowCapability.CROSS_PROCESS

    def __init__(
        self, options: RedisWorkflowsOptions | None = None, *, client: Any = None, async_client: Any = None
    ) -> None:
        super().__init__(options, client=client, async_client=async_client)
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """The workers stay with the parent."""
        self._lock = threading.Lock()
        self._claimants: dict[str, Claimant] = {}
        self._users = 0

    async def open(self) -> None:
        """Make ready. Several engines may share the provider: the last of them to close it does so."""
        with self._lock:
            self._users += 1
        await super().open()

    async def close(self) -> None:
        with self._lock:
            self._users = max(0, self._users - 1)
            is_shared = self._users > 0
        if not is_shared:
            await self._close()

    async def _close(self) -> None:
        try:
            for worker in list(self._claimants):
                await self._part(worker)
            self._claimants.clear()
            await self._reads.close()
        finally:
            await super().close()

    # Made when they are first needed: only then are link and context those that count

    @cached_property
    def _keys(self) -> RunKeys:
        return RunKeys(self.options.namespace or without_braces(self.context.name))

    @cached_property
    def _reads(self) -> RedisLink:
        """For what waits on the server."""
        return self.link.patient(LONGEST)

    @cached_property
    def _rescue(self) -> Rescue:
        return Rescue(self.link, self._keys, self.options.max_crashes)

    # Runs

    async def start(
        self, run: RunRecord, journal: Sequence[StepRecord] = (), fire: Fire | None = None
    ) -> tuple[RunRecord | None, bool]:
        flow = (run.name, run.version)
        retention = None if run.retention is None else round(run.retention * 1000)
        timed = ("", 0, "") if fire is None else (given(fire.schedule), repr(fire.due), fire.overlap)
        optional = (given(run.deadline), given(retention), given(run.parent))
        reply: Any = await self._run(
            "start",
            run.id,
            encode(run),
            run.name,
            flow_name(flow),
            repr(run.created),
            *optional,
            *timed,
            *written(journal),
        )
        if reply == 0:
            return None, False
        if reply != 1:
            return read_head(run.id, reply), False
        await self._stir(flow)
        return run, True

    async def claim(
        self, worker: str, flows: Collection[tuple[str, str]], limit: int, timeout: float | None
    ) -> list[Claimed]:
        return await self._claimant(worker).claim(flows, limit, timeout) if limit > 0 else []

    async def commit(self, fence: Fence, records: Sequence[StepRecord]) -> bool:
        return bool(await self._write("commit", fence, *written(records)))

    async def park(self, fence: Fence, records: Sequence[StepRecord], due: float | None) -> Parked:
        clock = self.context.clock
        waits = [
            part
            for record in records
            for part in (
                record.key,
                encode(record),
                this_wait(record),
                given(record.signal),
                given(milliseconds(record.due, clock)),
            )
        ]
        cancelled, resolved = await self._write("park", fence, given(milliseconds(due, clock)), *waits)
        return Parked([read_over(*over) for over in resolved], bool(cancelled))

    async def compensate(self, fence: Fence, error: Fault | None, verdict: RunStatus) -> RunRecord:
        return _known(fence.id, await self._write("compensate", fence, _fault(error), verdict))

    async def finish(self, fence: Fence, ending: Ending) -> RunRecord:
        letter = letter_of(Letter(ending.result, ending.error))
        told = given(ending.result), _fault(ending.error), letter
        return _known(fence.id, await self._write("finish", fence, ending.status, *told))

    async def give_back(self, fence: Fence) -> None:
        await self._write("give_back", fence)

    # From outside

    async def signal(self, id: str, name: str, letter: Letter, dedupe: str | None = None) -> bool | None:
        taken = await self._run("signal", id, name, letter_of(letter), given(dedupe))
        return None if taken < 0 else bool(taken)

    async def fire(self) -> float | None:
        left = await self._run("fire", AT_ONCE)
        return None if left < 0 else left / 1000

    async def cancel(self, id: str) -> RunStatus | None:
        status = await self._run("cancel", id)
        return None if status is None else status.decode()

    async def rewind(self, id: str, epoch: int, keep: Collection[str], deadline: float | None) -> RunRecord | None:
        reply = await self._run("rewind", id, epoch, given(deadline), *keep)
        if reply == _FENCED:
            raise FencedError(f"run {id!r} is not at rest any more")
        return None if reply is None else read_head(id, reply)

    async def bury(self, worker: str) -> int:
        claimant = self._claimants.get(worker)
        if claimant is not None and not claimant.is_claiming:
            del self._claimants[worker]
            await claimant.end()
        buried, more = 0, AT_ONCE
        while more == AT_ONCE:
            more = await self._run("bury", worker, AT_ONCE)
            buried += more
        return buried

    # Looking

    async def load(self, id: str) -> RunRecord | None:
        return read_head(id, await self.link.execute("HMGET", self._keys.run(id), *HEAD))

    async def journal(self, id: str) -> list[StepRecord]:
        whole = await self._run("journal", id)
        try:
            return read_journal(*whole)
        except UNREADABLE as error:
            raise TypeMismatchError(f"journal of run {id!r}: what Redis has of it cannot be read: {error}") from error

    async def find(self, query: RunQuery) -> list[RunRecord]:
        since = "-inf" if query.since is None else repr(query.since)
        until = "+inf" if query.until is None else repr(query.until)
        statuses = STATUSES if query.statuses is None else query.statuses
        found = await self._run("find", query.limit, since, until, given(query.name), *statuses)
        return [_known(id.decode(), values) for id, values in found]

    async def ended(self, id: str, timeout: float | None) -> RunRecord | None:
        clock = self.context.clock
        end = None if timeout is None else clock.monotonic() + timeout
        while True:
            run = await self.load(id)
            left = None if end is None else end - clock.monotonic()
            if run is None or run.status in AT_REST or (left is not None and left <= 0):
                return run
            async with self.link.listening(self._keys.rest(id)) as rests:
                run = await self.load(id)
                if run is not None and run.status not in AT_REST:
                    await clock.wait(rests, left)

    async def notices(self, cursor: str | None, timeout: float | None) -> tuple[list[Notice], str]:
        keys = self._keys
        listened = round(LISTENED * 1000)
        await self.link.pipeline([("SET", keys.listened, "", "PX", listened), ("PEXPIRE", keys.notices, listened)])
        if cursor is None:
            last = await self.link.execute("XREVRANGE", keys.notices, "+", "-", "COUNT", 1)
            return [], last[0][0].decode() if last else "0-0"
        wait = () if timeout is not None and timeout <= 0 else ("BLOCK", self._wait(timeout))
        reply = await self._reads.execute("XREAD", "COUNT", MOST_NOTICES, *wait, "STREAMS", keys.notices, cursor)
        told = [entry for _, entries in each_stream(reply) for entry in entries]
        notices = [Notice(fields[b"event"].decode(), read_run(fields[b"id"].decode(), fields)) for _, fields in told]
        return notices, told[-1][0].decode() if told else cursor

    # Inside

    async def _run(self, script: str, *arguments: Any) -> Any:
        return await self.link.script(SCRIPTS[script], [self._keys.base], arguments)

    async def _write(self, script: str, fence: Fence, *arguments: Any) -> Any:
        """Run a script that writes for a worker."""
        reply = await self._run(script, fence.id, fence.epoch, *arguments)
        if reply == _FENCED:
            raise FencedError(f"run {fence.id!r} has changed hands since epoch {fence.epoch}")
        return reply

    def _wait(self, timeout: float | None) -> int:
        """Return for how many milliseconds a read may wait: not so long that nobody notices that it broke off."""
        most = min(LONGEST, self._reads.patience / 2)
        return max(1, int((most if timeout is None else min(most, timeout)) * 1000))

    def _claimant(self, worker: str) -> Claimant:
        with self._lock:
            found = self._claimants.get(worker)
            if found is None:
                found = self._claimants[worker] = Claimant(
                    worker, self.link, self._reads, self._keys, lambda: self._life(worker)
                )
            return found

    def _life(self, worker: str) -> Life:
        options = self.options
        return Life(worker, self._rescue, context=self.context, liveness=options.liveness, stall=options.stall)

    async def _stir(self, flow: tuple[str, str]) -> None:
        """Have workers of this process look again who began to wait before they knew a workflow."""
        for claimant in list(self._claimants.values()):
            if claimant.is_deaf_to(flow):
                await claimant.ring()

    async def _part(self, worker: str) -> None:
        """Have a worker of this process be gone, also where Redis cannot be told."""
        try:
            await self._claimants[worker].end()
            await self.bury(worker)
        except (RedisError, RedisClusterException, OSError) as error:
            logger.info("worker %s ends without a word to Redis: %s", worker, error)


def _known(id: str, values: Sequence[bytes | None]) -> RunRecord:
    run = read_head(id, values)
    assert run is not None, "the script has just seen it"
    return run


def _fault(fault: Fault | None) -> bytes | str:
    return given(None if fault is None else encode(fault))
