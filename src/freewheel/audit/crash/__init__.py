"""A crash as an input: what faulthandler wrote, which distributions it names, what to do."""
