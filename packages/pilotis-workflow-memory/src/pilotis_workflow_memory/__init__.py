"""The in-memory workflow provider of Pilotis."""
