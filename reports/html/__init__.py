"""Pages that open offline: one a structure, and an index over the data set."""
