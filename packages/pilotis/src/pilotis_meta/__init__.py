"""Infrastructure for Python applications as swappable modules: cache, event, file, locking, notification, workflow."""
