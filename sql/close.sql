UPDATE tickets SET mark = GREATEST(mark, ?, LEAST(id, 18446744073709551614) + 1)
WHERE stub = 'a' AND (epoch < ? OR (epoch = ? AND epoch_tag <> ?) OR id < ?)
