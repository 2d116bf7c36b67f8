"""What can be audited: locks, requirements, environments, wheels; a module for each form."""
