SELECT max_nodes, starting_offset, node_number FROM tickr_settings
