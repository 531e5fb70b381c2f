"""Training of the networks of the family."""
