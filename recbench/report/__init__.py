"""The report: a folder of pages that show all that is known of a suite's jobs. Imports no torch at the top."""
