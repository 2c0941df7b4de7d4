INSERT INTO {table} (id, stub, owner, epoch, epoch_tag, mark) VALUES (?, 'a', ?, ?, ?, ?)
