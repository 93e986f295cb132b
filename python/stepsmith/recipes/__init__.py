"""Programs to read, to run and to take from: each trains something on real data with what the library has.

``python -m stepsmith.recipes.cnn`` runs one; docs/recipes.md lists them. Nothing else imports them.
"""
