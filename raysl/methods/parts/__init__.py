"""What several methods share: one idea a file."""
