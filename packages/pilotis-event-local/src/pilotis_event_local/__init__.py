"""The in-process event provider of Pilotis."""
