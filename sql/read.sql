SELECT t.id, t.mark, t.epoch, t.epoch_tag, t.owner, {identity}, {writable}, s.lease_seconds
FROM tickets AS t LEFT JOIN tickr_settings AS s ON s.only_row = 'only'
WHERE t.stub = 'a'
