UPDATE tickets SET id = LAST_INSERT_ID(id + ?)
WHERE stub = 'a' AND id <= ? AND id >= ? AND mark <= id
    AND {owned} AND epoch = ? AND epoch_tag = ? AND {writable}
