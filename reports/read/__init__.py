"""What a comparison left on disk, or anybody's predictions, read and checked. Knows the harness alone."""
