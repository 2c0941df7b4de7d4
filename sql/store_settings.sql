INSERT IGNORE INTO tickr_settings
    (only_row, max_nodes, starting_offset, node_number, lease_seconds)
VALUES ('only', ?, ?, ?, ?)
