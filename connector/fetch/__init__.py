"""What a source has to be asked for, because it only says that something changed, or says nothing at all."""
