SELECT max_nodes, starting_offset, node_number, lease_seconds FROM tickr_settings
