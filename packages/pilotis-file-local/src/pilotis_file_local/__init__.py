"""The local file system provider of Pilotis."""
