-- Note that a row was tried in vain.
-- Arguments: position, delay (seconds), error, aside (whether it is not to be tried again).

UPDATE {table}
SET attempts = attempts + 1, error = %(error)s, due_at = now() + make_interval(secs => %(delay)s),
    set_aside_at = CASE WHEN %(aside)s THEN now() END
WHERE position = %(position)s
