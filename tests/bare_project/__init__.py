"""What a developer adds to a bare Django project, and a user who then tries it.

`tests/test_package.py` lays these files into a project that `django-admin startproject` made.
"""
