"""Statistics of records: boards, ranks, intervals, tiers, curves, comparisons. Pure functions of the store."""
