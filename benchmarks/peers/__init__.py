"""What a user would pick instead, measured in the same run.

These modules run in an environment of their own (.venv-bench) and import nothing of AITBC.
"""
