-- The outbox. `bus` names whose rows they are: several services, and several buses of one, may share the table.
-- Names: {table}, and {index} to begin the names of its indexes with.
-- A table that is always nearly empty, and through which much goes, has to be cleaned up early and often.

CREATE TABLE {table} (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    bus text NOT NULL,
    kind text NOT NULL,
    id text NOT NULL,
    name text NOT NULL,
    key text,
    body text NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now(),
    due_at timestamptz NOT NULL DEFAULT now(),
    attempts integer NOT NULL DEFAULT 0,
    error text NOT NULL DEFAULT '',
    set_aside_at timestamptz
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);
CREATE INDEX {index}_free ON {table} (bus, kind, due_at, position) WHERE key IS NULL AND set_aside_at IS NULL;
CREATE INDEX {index}_keyed ON {table} (bus, position) WHERE key IS NOT NULL AND set_aside_at IS NULL;
CREATE INDEX {index}_key ON {table} (bus, key, position) WHERE key IS NOT NULL AND set_aside_at IS NULL;
CREATE INDEX {index}_aside ON {table} (bus, position) WHERE set_aside_at IS NOT NULL;
