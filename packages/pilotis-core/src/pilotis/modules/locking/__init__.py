"""Locking: mutual exclusion by name, with fencing tokens and a signal of loss."""

from __future__ import annotations

from pilotis.modules.locking.hold import Hold
from pilotis.modules.locking.lease import Lease
from pilotis.modules.locking.portable import Locking
from pilotis.modules.locking.provider import Grant, LockingCapability, LockingProvider, LockRequest, LockState

__all__ = ["Grant", "Hold", "Lease", "LockRequest", "LockState", "Locking", "LockingCapability", "LockingProvider"]
