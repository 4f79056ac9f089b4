-- Put an entry in place of the one with its id, if that is one version older. Returns its id, or nothing.
-- Names: {table}. Arguments: `service` and the columns of the new entry. What never changes is left as it is.

UPDATE {table}
SET status = %(status)s, notification = %(notification)s, message = %(message)s, digest = %(digest)s,
    version = %(version)s, leased_until = %(leased_until)s, takeovers = %(takeovers)s
WHERE service = %(service)s AND id = %(id)s AND version = %(version)s - 1
RETURNING id
