-- Has the server look twice a second, while we wait, whether we are still there: whoever died would go on waiting, and
-- keep what it has. PostgreSQL 13 cannot, and neither can one on Windows.
SELECT set_config('client_connection_check_interval', '500', true)
WHERE current_setting('client_connection_check_interval', true) IS NOT NULL AND version() !~* 'windows|visual|mingw';
