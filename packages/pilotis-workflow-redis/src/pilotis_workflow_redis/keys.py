"""How what belongs to runs is called in Redis. docs/design/workflow.md says what is under each key."""

from __future__ import annotations

from pilotis_redis.lanes.keys import BusKeys


class RunKeys(BusKeys):
    """The keys of the runs of a namespace. They share a hash tag, and so a node of a cluster.

    Those of workers are the same as of lanes. Scripts make most of the others themselves, of `base`.
    """

    def __init__(self, namespace: str) -> None:
        super().__init__(f"pilotis:workflows:{namespace}")
        self.base = f"{self.prefix}:"
        self.listened = f"{self.base}listened"
        """There while somebody is told what happens to runs."""
        self.notices = f"{self.base}notices"

    def run(self, id: str) -> str:
        """Return the key of the head and the journal of a run."""
        return f"{self.base}r:{id}"

    def waits(self, id: str) -> str:
        """Return the key of what a run waits for, and of how its waits ended."""
        return f"{self.base}w:{id}"

    def rest(self, id: str) -> str:
        """Return the channel on which it is said that a run has come to rest."""
        return f"{self.base}e:{id}"


def without_braces(service: str) -> str:
    """Return a name that cannot end the hash tag, and is no other one's."""
    return service.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")
