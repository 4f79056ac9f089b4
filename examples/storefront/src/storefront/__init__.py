"""A shop that takes orders through all six modules of Pilotis."""
