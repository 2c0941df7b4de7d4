INSERT IGNORE INTO tickr_settings (only_row, max_nodes, starting_offset, node_number)
VALUES ('only', ?, ?, ?)
