"""How many runs of three steps a second the memory engine does: python benchmarks/workflow_memory.py [runs]."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

from harness import Task, medians
from pilotis.modules.workflow import Flow, WorkflowEngine, step, workflow
from pilotis_workflow_memory import MemoryWorkflow


@step
def double(number: int) -> int:
    return number * 2


@step
async def adouble(number: int) -> int:
    return number * 2


@workflow("bench-plain")
def plain(number: int) -> int:
    return double(double(double(number)))


@workflow("bench-async")
async def asynchronous(number: int) -> int:
    return await adouble(await adouble(await adouble(number)))


def runs_a_second(flow: Flow[..., Any], count: int) -> float:
    """Start `count` runs, and return how many of them ended in a second."""
    engine = WorkflowEngine(MemoryWorkflow())
    engine.open()
    started = time.perf_counter()
    runs = [engine.start(flow, number) for number in range(count)]
    for run in runs:
        run.result(timeout=60)
    elapsed = time.perf_counter() - started
    engine.close()
    return count / elapsed


def latency(flow: Flow[..., Any], count: int) -> float:
    """Return the median seconds of one run at a time."""
    engine = WorkflowEngine(MemoryWorkflow())
    engine.open()
    alone = medians({"run": Task(lambda: engine.start(flow, 1).result(timeout=60), 1)}, count)
    engine.close()
    return alone["run"]


def main() -> None:
    """Print both colours."""
    logging.basicConfig(level=logging.WARNING)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    for flow in (plain, asynchronous):
        median = latency(flow, min(count, 200)) * 1000
        print(f"{flow.name:<12} {runs_a_second(flow, count):8.0f} runs/s   median {median:.2f} ms alone")


if __name__ == "__main__":
    main()
