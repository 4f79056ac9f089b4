-- Remove rows that were handed over.
-- Arguments: positions (an array).

DELETE FROM {table} WHERE position = ANY(%(positions)s)
