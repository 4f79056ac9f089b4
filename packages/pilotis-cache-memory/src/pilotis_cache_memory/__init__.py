"""The bounded in-process cache provider of Pilotis."""
