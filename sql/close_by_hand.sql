UPDATE tickets SET owner = 'closed' WHERE stub = 'a' AND owner <> 'closed'
