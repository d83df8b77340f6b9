"""What a reader gets: a file a page of the report, with its own tables and words. Computes nothing."""
