"""What jobs leave behind: records, artifacts, and the folder that holds them; export, merge, reuse and cleanup."""
