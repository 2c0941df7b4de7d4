SELECT id FROM tickets WHERE stub = 'a'
