-- Gives advisory locks of the connection back. {unlock}: the function. numbers: which. Result: whether all of them were held.
SELECT bool_and({unlock}(number)) FROM unnest(%(numbers)s::bigint[]) AS number;
