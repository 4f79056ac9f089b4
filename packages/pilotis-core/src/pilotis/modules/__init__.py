"""The six modules, each in the same rooms: `portable.py` for users, `provider.py` for authors."""
