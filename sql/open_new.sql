UPDATE tickets SET owner = ?, epoch = 1, epoch_tag = ?
WHERE stub = 'a' AND owner = '' AND epoch = 0 AND epoch_tag = 0 AND mark = 0 AND id >= ?
    AND {identity} = ?
