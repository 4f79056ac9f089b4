-- Leases, who waits for them, and the functions that change both. {table}: the name, with its schema or without.
-- A waiter goes through its keys in sorted order. Those that it can have are reserved for it; it stands in the queue
-- of the first one that it cannot have. So nobody starves, and no circle of waiters can close.
-- Every function that looks at a key first locks it until its transaction ends, keys in the order of their numbers.

CREATE TABLE IF NOT EXISTS {table} (
    namespace text NOT NULL,
    key text COLLATE "C" NOT NULL,
    owner text NOT NULL,
    token bigint NOT NULL,
    since timestamptz NOT NULL,
    expires timestamptz NOT NULL,
    shared boolean NOT NULL,
    ticket bigint NOT NULL,
    PRIMARY KEY (namespace, key, owner)
);
CREATE INDEX IF NOT EXISTS {index}_owner ON {table} (namespace, owner);
COMMENT ON TABLE {table} IS 'pilotis locks, version 1';

-- listener: the server's process that hears `channel` for the waiter; where that is gone, so is the waiter.
CREATE TABLE IF NOT EXISTS {table}_queue (
    namespace text NOT NULL,
    key text COLLATE "C" NOT NULL,
    ticket bigint NOT NULL,
    place bigint NOT NULL,
    reserved boolean NOT NULL,
    owner text NOT NULL,
    shared boolean NOT NULL,
    permits integer,
    channel text,
    listener integer,
    until timestamptz NOT NULL,
    PRIMARY KEY (namespace, key, ticket)
);
CREATE SEQUENCE IF NOT EXISTS {table}_place AS bigint CACHE 1;

-- Locks keys, and forgets leases and waiters that are over. Returns the time.
CREATE OR REPLACE FUNCTION {table}_enter(its_namespace text, its_keys text[]) RETURNS timestamptz
LANGUAGE plpgsql AS $$
DECLARE
    moment timestamptz;
BEGIN
    PERFORM pg_advisory_xact_lock(1886219380, number) FROM (
        SELECT DISTINCT hashtext(its_namespace || chr(1) || each) AS number FROM unnest(its_keys) AS each ORDER BY 1
    ) AS numbers;
    moment := clock_timestamp();
    WITH over AS (
        SELECT key, owner FROM {table}
        WHERE namespace = its_namespace AND key = ANY(its_keys) AND expires <= moment
        ORDER BY key, owner FOR UPDATE
    )
    DELETE FROM {table} AS lease USING over
    WHERE lease.namespace = its_namespace AND lease.key = over.key AND lease.owner = over.owner;
    DELETE FROM {table}_queue
    WHERE namespace = its_namespace AND key = ANY(its_keys) AND (
        until <= moment
        OR listener IS NOT NULL AND NOT EXISTS (SELECT FROM pg_stat_get_activity(listener))
    );
    RETURN moment;
END $$;

-- Tells whether nobody else holds a key, or has it reserved, in a way that excludes a request.
CREATE OR REPLACE FUNCTION {table}_fits(
    its_namespace text, its_key text, its_owner text, is_shared boolean, its_permits integer
) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT count(*) = 0
        OR is_shared AND bool_and(shared) AND (its_permits IS NULL OR count(DISTINCT owner) < its_permits)
    FROM (
        SELECT owner, shared FROM {table} WHERE namespace = its_namespace AND key = its_key AND owner <> its_owner
        UNION ALL
        SELECT owner, shared FROM {table}_queue
        WHERE namespace = its_namespace AND key = its_key AND owner <> its_owner AND reserved
    ) AS others
$$;

-- Wakes whoever is the first in the queue of each key and can have it.
CREATE OR REPLACE FUNCTION {table}_wake(its_namespace text, its_keys text[]) RETURNS void
LANGUAGE sql AS $$
    SELECT pg_notify(first.channel, '')
    FROM unnest(its_keys) AS each(name) CROSS JOIN LATERAL (
        SELECT * FROM {table}_queue
        WHERE namespace = its_namespace AND key = each.name AND NOT reserved ORDER BY place LIMIT 1
    ) AS first
    WHERE first.channel IS NOT NULL
        AND {table}_fits(its_namespace, first.key, first.owner, first.shared, first.permits)
$$;

-- Grants a request, or has it wait for `stay` seconds at most; with no stay, it leaves no trace where it is refused.
-- What two requests of an owner were granted has the ticket of neither: then neither of them takes it back.
-- its_ttl: seconds. Result: the token, or NULL and for how many seconds what is in its way lasts, as far as is known.
CREATE OR REPLACE FUNCTION {table}_take(
    its_namespace text, its_keys text[], its_owner text, its_ttl float8, is_shared boolean, its_permits integer,
    its_ticket bigint, stay float8, its_channel text, its_listener integer, OUT granted bigint, OUT patience float8
) LANGUAGE plpgsql AS $$
DECLARE
    moment timestamptz := {table}_enter(its_namespace, its_keys);
    had integer := 0;
    each text;
    mine {table}_queue;
    is_holder boolean;
BEGIN
    FOREACH each IN ARRAY its_keys LOOP
        SELECT * INTO mine FROM {table}_queue WHERE namespace = its_namespace AND key = each AND ticket = its_ticket;
        IF mine.reserved IS NOT TRUE THEN
            is_holder := EXISTS (
                SELECT FROM {table} WHERE namespace = its_namespace AND key = each AND owner = its_owner
            );
            EXIT WHEN NOT {table}_fits(its_namespace, each, its_owner, is_shared, its_permits);
            EXIT WHEN NOT is_holder AND EXISTS (
                SELECT FROM {table}_queue
                WHERE namespace = its_namespace AND key = each AND NOT reserved AND ticket <> its_ticket
                    AND (mine.place IS NULL OR place < mine.place)
            );
        END IF;
        had := had + 1;
    END LOOP;

    IF had = cardinality(its_keys) THEN
        DELETE FROM {table}_queue
        WHERE namespace = its_namespace AND key = ANY(its_keys) AND ticket = its_ticket;
        IF (
            SELECT count(*) = had FROM {table}
            WHERE namespace = its_namespace AND key = ANY(its_keys) AND owner = its_owner
        ) THEN
            UPDATE {table} SET
                expires = greatest(expires, moment + make_interval(secs => its_ttl)), shared = shared AND is_shared,
                ticket = CASE ticket WHEN its_ticket THEN ticket ELSE 0 END
            WHERE namespace = its_namespace AND key = ANY(its_keys) AND owner = its_owner;
        ELSE
            granted := nextval('{table}_token');
            INSERT INTO {table} AS lease
            SELECT its_namespace, name, its_owner, granted, moment, moment + make_interval(secs => its_ttl), is_shared,
                its_ticket
            FROM unnest(its_keys) AS name ORDER BY name COLLATE "C"
            ON CONFLICT (namespace, key, owner) DO UPDATE SET
                expires = greatest(lease.expires, EXCLUDED.expires), shared = lease.shared AND EXCLUDED.shared,
                ticket = CASE lease.ticket WHEN its_ticket THEN lease.ticket ELSE 0 END;
        END IF;
        SELECT max(token) INTO granted FROM {table}
        WHERE namespace = its_namespace AND key = ANY(its_keys) AND owner = its_owner;
        PERFORM {table}_wake(its_namespace, its_keys);
        RETURN;
    END IF;

    each := its_keys[had + 1];
    SELECT extract(epoch FROM coalesce(
        (
            SELECT CASE WHEN its_permits IS NULL THEN max(expires) ELSE min(expires) END FROM {table}
            WHERE namespace = its_namespace AND key = each AND owner <> its_owner
        ),
        (
            SELECT min(until) FROM {table}_queue
            WHERE namespace = its_namespace AND key = each AND ticket <> its_ticket
        )
    ) - moment) INTO patience;
    IF stay > 0 THEN
        INSERT INTO {table}_queue AS entry
        SELECT its_namespace, name, its_ticket,
            CASE WHEN is_holder THEN -1 ELSE 1 END * nextval('{table}_place'), index <= had,
            its_owner, is_shared, its_permits, its_channel, its_listener, moment + make_interval(secs => stay)
        FROM unnest(its_keys[1:had + 1]) WITH ORDINALITY AS each(name, index)
        ON CONFLICT (namespace, key, ticket) DO UPDATE SET
            reserved = EXCLUDED.reserved, channel = EXCLUDED.channel, listener = EXCLUDED.listener,
            until = EXCLUDED.until;
        PERFORM {table}_wake(its_namespace, its_keys[1:had]);
    END IF;
END $$;

-- Leaves nothing of a request: neither its place in a queue, nor what it was granted before anybody knew.
CREATE OR REPLACE FUNCTION {table}_withdraw(its_namespace text, its_keys text[], its_ticket bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM {table}_enter(its_namespace, its_keys);
    DELETE FROM {table}_queue WHERE namespace = its_namespace AND key = ANY(its_keys) AND ticket = its_ticket;
    DELETE FROM {table} WHERE namespace = its_namespace AND key = ANY(its_keys) AND ticket = its_ticket;
    PERFORM {table}_wake(its_namespace, its_keys);
END $$;

-- Frees keys of a grant, and returns how many that were.
CREATE OR REPLACE FUNCTION {table}_release(
    its_namespace text, its_keys text[], its_owner text, its_token bigint
) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    freed bigint;
BEGIN
    PERFORM {table}_enter(its_namespace, its_keys);
    DELETE FROM {table}
    WHERE namespace = its_namespace AND key = ANY(its_keys) AND owner = its_owner AND token <= its_token;
    GET DIAGNOSTICS freed = ROW_COUNT;
    PERFORM {table}_wake(its_namespace, its_keys);
    RETURN freed;
END $$;

-- Frees what an owner holds, of some keys or (NULL) of all, and returns how many that were.
CREATE OR REPLACE FUNCTION {table}_release_owner(its_namespace text, its_owner text, only_keys text[]) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    its_keys text[] := ARRAY(
        SELECT key FROM {table}
        WHERE namespace = its_namespace AND owner = its_owner AND (only_keys IS NULL OR key = ANY(only_keys))
    );
BEGIN
    RETURN {table}_release(its_namespace, its_keys, its_owner, 9223372036854775807);
END $$;

-- Takes a key from whoever holds it, and returns from how many.
CREATE OR REPLACE FUNCTION {table}_break(its_namespace text, its_key text) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    freed bigint;
BEGIN
    PERFORM {table}_enter(its_namespace, ARRAY[its_key]);
    DELETE FROM {table} WHERE namespace = its_namespace AND key = its_key;
    GET DIAGNOSTICS freed = ROW_COUNT;
    PERFORM {table}_wake(its_namespace, ARRAY[its_key]);
    RETURN freed;
END $$;
