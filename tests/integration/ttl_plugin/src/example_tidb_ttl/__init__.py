"""
Rows that TiDB deletes after a number of days, and tables in partitions::

    class Meta:
        tidb_ttl = ("created", 30)
        tidb_partitions = ("created", 4)
"""
