"""Results on disk to tables to one Markdown document; nothing in here ever trains a model."""
