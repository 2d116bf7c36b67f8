"""What a recipe says: its tables, targets and upstream's test suite."""
