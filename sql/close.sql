UPDATE tickets SET
    mark = GREATEST(mark, ?, LEAST(id, 18446744073709551614) + 1),
    epoch_tag = IF(epoch < ?, 0, epoch_tag),
    epoch = GREATEST(epoch, ?)
WHERE stub = 'a' AND (epoch < ? OR (epoch = ? AND epoch_tag <> ?) OR id < ?)
