SET NAMES utf8mb4,
    SESSION autocommit = 1,
    SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION',
    SESSION sql_select_limit = 18446744073709551615,
    SESSION sql_big_selects = 1,
    SESSION sql_safe_updates = 0,
    SESSION innodb_lock_wait_timeout = {lock_wait_seconds},
    SESSION lock_wait_timeout = {lock_wait_seconds}
