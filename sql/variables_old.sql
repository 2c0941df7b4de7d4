SHOW GLOBAL VARIABLES WHERE Variable_name IN (
    'version', 'read_only', 'super_read_only',
    'innodb_flush_log_at_trx_commit', 'log_bin', 'sync_binlog', 'wsrep_on'
)
