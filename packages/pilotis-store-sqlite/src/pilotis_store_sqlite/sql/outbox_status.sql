-- How many rows wait, since when, how many of them were tried in vain, and how many were set aside.
-- Arguments: `bus`.

SELECT
    (SELECT COUNT(*) FROM pilotis_outbox WHERE bus = :bus AND set_aside_at IS NULL) AS waiting,
    (SELECT MIN(written_at) FROM pilotis_outbox WHERE bus = :bus AND set_aside_at IS NULL) AS oldest,
    (SELECT COUNT(*) FROM pilotis_outbox WHERE bus = :bus AND set_aside_at IS NULL AND attempts > 0) AS retrying,
    (SELECT COUNT(*) FROM pilotis_outbox WHERE bus = :bus AND set_aside_at IS NOT NULL) AS aside
