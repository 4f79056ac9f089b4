"""The portable classes, provider interfaces, discovery and settings of Pilotis."""
