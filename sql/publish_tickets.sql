RENAME TABLE {table} TO tickets
