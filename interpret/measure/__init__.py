"""From one structure's record to rows of the result tables: one module a family."""
