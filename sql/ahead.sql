SELECT MAX({column}) FROM {table}
WHERE {column} >= ? AND MOD({column} - ?, ?) = 0
