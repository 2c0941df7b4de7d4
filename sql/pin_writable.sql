SET @tickr_writable = {writable}
