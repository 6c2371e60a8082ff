"""Published data sets, one file for each format: rows as they were published become records."""
