"""From a recipe to a verified wheel: the stages, the pipeline that composes them, the index."""
