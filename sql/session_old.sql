SET NAMES utf8mb4,
    SESSION autocommit = 1,
    SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION',
    SESSION innodb_lock_wait_timeout = {lock_wait_seconds},
    SESSION lock_wait_timeout = {lock_wait_seconds}
