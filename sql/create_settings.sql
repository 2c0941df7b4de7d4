CREATE TABLE IF NOT EXISTS tickr_settings (
    only_row ENUM('only') NOT NULL PRIMARY KEY,
    max_nodes BIGINT UNSIGNED NOT NULL,
    starting_offset BIGINT UNSIGNED NOT NULL,
    node_number BIGINT UNSIGNED NOT NULL,
    lease_seconds INT UNSIGNED NOT NULL DEFAULT 10
) ENGINE = InnoDB
