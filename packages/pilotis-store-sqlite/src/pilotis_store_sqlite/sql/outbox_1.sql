-- The outbox. `bus` names whose rows they are: several services, and several buses of one, may share the table.
-- Times in seconds since 1970. `claim` and `claimed_until` are of the relay that has a row in its hands.
-- `position` never comes again, and grows with each row: changes are made one at a time, so it is the order of commits.

CREATE TABLE pilotis_outbox (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    bus TEXT NOT NULL,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    key TEXT,
    body TEXT NOT NULL,
    written_at REAL NOT NULL,
    due_at REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT '',
    claim TEXT,
    claimed_until REAL,
    set_aside_at REAL
);
CREATE INDEX pilotis_outbox_waiting ON pilotis_outbox (bus, position) WHERE set_aside_at IS NULL;
CREATE INDEX pilotis_outbox_free ON pilotis_outbox (bus, due_at, position) WHERE key IS NULL AND set_aside_at IS NULL;
CREATE INDEX pilotis_outbox_key ON pilotis_outbox (bus, key, position) WHERE key IS NOT NULL AND set_aside_at IS NULL;
CREATE INDEX pilotis_outbox_aside ON pilotis_outbox (bus, position) WHERE set_aside_at IS NOT NULL;
