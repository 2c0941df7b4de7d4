SELECT MAX({column}) FROM {table}
