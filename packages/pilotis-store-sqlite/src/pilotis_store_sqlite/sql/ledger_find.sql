-- Entries that fit, newest first.
-- Arguments: `service`, and those below. Lines with one that is NULL are left out, so that an index serves the others.
-- `live_at` goes with `status`: entries whose lease has not ended then. `left_at`: those whose lease has ended then.

SELECT notification, message, digest, version, leased_until, takeovers
FROM pilotis_ledger
WHERE service = :service
AND status = :status
AND (leased_until IS NULL OR leased_until > :live_at)
AND leased_until <= :left_at
AND recipient = :recipient
AND channel = :channel
AND resource_kind = :resource_kind
AND resource_id = :resource_id
AND created_at >= :since
AND takeovers < :takeovers_below
ORDER BY created_at DESC, id DESC
LIMIT :limit
