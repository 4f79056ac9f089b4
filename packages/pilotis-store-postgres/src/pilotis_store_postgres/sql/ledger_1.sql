-- The ledger of notifications. `service` is the name of the app: several may keep theirs in one table.
-- Times: `created_at` in microseconds since 1970, `leased_until` in seconds since 1970.
-- Names: {table}, and {index} to begin the names of its indexes with.

CREATE TABLE {table} (
    service text NOT NULL,
    id text NOT NULL,
    idempotency_key text,
    status text NOT NULL,
    recipient text NOT NULL,
    channel text NOT NULL,
    resource_kind text,
    resource_id text,
    created_at bigint NOT NULL,
    notification text NOT NULL,
    message bytea NOT NULL,
    digest text NOT NULL,
    version integer NOT NULL,
    leased_until double precision,
    takeovers integer NOT NULL,
    PRIMARY KEY (service, id)
);
CREATE UNIQUE INDEX {index}_key ON {table} (service, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX {index}_created ON {table} (service, created_at, id);
CREATE INDEX {index}_recipient ON {table} (service, recipient, created_at, id);
CREATE INDEX {index}_resource ON {table} (service, resource_id, resource_kind, created_at, id);
CREATE INDEX {index}_status ON {table} (service, status, created_at, id);
CREATE INDEX {index}_leased ON {table} (service, leased_until) WHERE leased_until IS NOT NULL;
