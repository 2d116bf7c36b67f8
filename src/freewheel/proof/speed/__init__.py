"""What the patches cost and gain, in threads and in processes."""
