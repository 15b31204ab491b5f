"""A suite laid out as jobs: the plain data that defines each job, the search of tuning, and the union of plans."""
