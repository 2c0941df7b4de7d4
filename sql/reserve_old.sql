UPDATE tickets SET id = LAST_INSERT_ID(id + ?) WHERE stub = 'a' AND id <= ?
