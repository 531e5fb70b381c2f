"""What one structure's page shows, computed and saved: quantities, controls, crystal, words, sentences."""
