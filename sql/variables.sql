SHOW VARIABLES WHERE Variable_name IN (
    'version', 'read_only', 'super_read_only', 'innodb_read_only',
    'server_uuid', 'server_id', 'wsrep_on', 'wsrep_cluster_name', 'group_replication_group_name',
    'binlog_format', 'innodb_flush_log_at_trx_commit', 'log_bin', 'sync_binlog'
)
