"""Training by a TOML file: ``stepsmith train config.toml``.

Every table names a class with its key "type", and its other keys are that class's arguments.
"""
