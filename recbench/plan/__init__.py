"""A suite laid out as jobs: the plain data that defines each job, tuning's search, and joining of plans."""
