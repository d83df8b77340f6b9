"""What is computed from it: a file a question, each giving DataFrames. Knows what is read, and no page."""
