"""Lanes: reliable queues in Redis. docs/design/lanes.md says how they work."""
