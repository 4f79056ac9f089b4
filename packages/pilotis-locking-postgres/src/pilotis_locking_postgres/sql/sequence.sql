-- The sequence of fencing tokens. It must not be cached by sessions: then numbers would not grow with time.
CREATE SEQUENCE {table}_token AS bigint CACHE 1
