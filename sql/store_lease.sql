UPDATE tickr_settings SET lease_seconds = ? WHERE only_row = 'only'
