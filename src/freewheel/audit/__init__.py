"""What an application brings to a free-threaded interpreter, and what must be done about it."""
