"""Loads the fixtures that tests of the library share with those of the platform."""

pytest_plugins = ["psychometrics_testbed.fixtures"]
