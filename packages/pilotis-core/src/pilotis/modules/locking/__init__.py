"""Locking: mutual exclusion by name, with fencing tokens and a signal of loss."""

from __future__ import annotations

from pilotis.modules.locking.hold import Hold
from pilotis.modules.locking.leadership import Leadership
from pilotis.modules.locking.lease import Lease
from pilotis.modules.locking.portable import Locking
from pilotis.modules.locking.provider import Grant, LockingCapability, LockingProvider, LockRequest, LockState
from pilotis.modules.locking.semaphore import Semaphore

__all__ = [
    "Grant",
    "Hold",
    "Leadership",
    "Lease",
    "LockRequest",
    "LockState",
    "Locking",
    "LockingCapability",
    "LockingProvider",
    "Semaphore",
]
