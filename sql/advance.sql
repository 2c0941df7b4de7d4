UPDATE tickets SET id = ? WHERE stub = 'a' AND id < ?
