INSERT INTO {table} (id, stub) VALUES ({counter}, 'a')
