UPDATE tickets SET id = ?, mark = ?, owner = 'closed' WHERE stub = 'a'
