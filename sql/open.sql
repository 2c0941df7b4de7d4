UPDATE tickets SET id = ?, owner = ?, epoch = ?, epoch_tag = ?
WHERE stub = 'a' AND owner = 'closed' AND id = ? AND mark = ? AND epoch = ? AND epoch_tag = ?
    AND {identity} = ? AND {writable}
