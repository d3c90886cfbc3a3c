"""What became of each call, kept on disk for whoever asks afterwards: the voice logs of the reference."""
