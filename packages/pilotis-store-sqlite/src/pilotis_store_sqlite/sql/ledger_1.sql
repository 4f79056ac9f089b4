-- The ledger of notifications. `service` is the name of the app: several may keep theirs in one file.
-- Times: `created_at` in microseconds since 1970, `leased_until` in seconds since 1970.

CREATE TABLE pilotis_ledger (
    service TEXT NOT NULL,
    id TEXT NOT NULL,
    idempotency_key TEXT,
    status TEXT NOT NULL,
    recipient TEXT NOT NULL,
    channel TEXT NOT NULL,
    resource_kind TEXT,
    resource_id TEXT,
    created_at INTEGER NOT NULL,
    notification TEXT NOT NULL,
    message BLOB NOT NULL,
    digest TEXT NOT NULL,
    version INTEGER NOT NULL,
    leased_until REAL,
    takeovers INTEGER NOT NULL,
    PRIMARY KEY (service, id)
);
CREATE UNIQUE INDEX pilotis_ledger_key ON pilotis_ledger (service, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX pilotis_ledger_created ON pilotis_ledger (service, created_at, id);
CREATE INDEX pilotis_ledger_recipient ON pilotis_ledger (service, recipient, created_at, id);
CREATE INDEX pilotis_ledger_resource ON pilotis_ledger (service, resource_id, resource_kind, created_at, id);
CREATE INDEX pilotis_ledger_status ON pilotis_ledger (service, status, created_at, id);
CREATE INDEX pilotis_ledger_leased ON pilotis_ledger (service, leased_until) WHERE leased_until IS NOT NULL;
