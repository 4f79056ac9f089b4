"""The local notification provider of Pilotis: a log, an outbox to assert on, and .eml files."""
