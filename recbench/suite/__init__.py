"""Suite files: reading YAML with line numbers, validating it against entries, expanding its grid into a plan."""
