-- Entries that fit all arguments that are not NULL, newest first. Returns the id before the columns of each.
-- `live_at` goes with `status`: entries whose lease has not ended then. `left_at`: those whose lease has ended then.
-- Names: {table}. Arguments: `service`, and those below. PostgreSQL plans each call with its arguments, so that what is
-- not asked costs nothing.

SELECT id, notification, message, digest, version, leased_until, takeovers
FROM {table}
WHERE service = %(service)s
AND (%(status)s::text IS NULL OR status = %(status)s)
AND (%(live_at)s::float8 IS NULL OR leased_until IS NULL OR leased_until > %(live_at)s)
AND (%(left_at)s::float8 IS NULL OR leased_until <= %(left_at)s)
AND (%(recipient)s::text IS NULL OR recipient = %(recipient)s)
AND (%(channel)s::text IS NULL OR channel = %(channel)s)
AND (%(resource_kind)s::text IS NULL OR resource_kind = %(resource_kind)s)
AND (%(resource_id)s::text IS NULL OR resource_id = %(resource_id)s)
AND (%(since)s::bigint IS NULL OR created_at >= %(since)s)
AND (%(takeovers_below)s::int IS NULL OR takeovers < %(takeovers_below)s)
ORDER BY created_at DESC, id DESC
LIMIT %(limit)s
