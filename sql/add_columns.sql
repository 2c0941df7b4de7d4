ALTER TABLE {table} {added}
