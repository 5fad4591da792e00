"""Load the fixtures that the library's tests share with the platform's tests."""

pytest_plugins = ["psychometrics_testbed.fixtures"]
