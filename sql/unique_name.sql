SELECT CONCAT('tickets_new_', REPLACE(UUID(), '-', ''))
