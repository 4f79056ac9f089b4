-- Reads the next token, and then which locks are held: whoever lost them before that may have a successor by now, whose
-- token is lower. {holdings}: holdings.sql, with its parameters. Result: the token, and the numbers of the locks.
SELECT nextval('{table}_token');
SELECT currval('{table}_token'), ARRAY(SELECT number FROM ({holdings}) AS held(process, number));
