"""The report: a folder of HTML pages with everything known about a suite's jobs. Torch is only imported on demand."""
