"""From one database to another: lines, Parquet files, and the checks of what comes in."""
