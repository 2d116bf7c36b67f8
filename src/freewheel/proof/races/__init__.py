"""Data races: ThreadSanitizer's runs, its reports, and what is suppressed."""
