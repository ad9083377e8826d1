"""What a database is asked: conditions, tables, statistics, comparisons, coverage, and forecasts for other devices."""
