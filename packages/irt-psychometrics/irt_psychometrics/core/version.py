"""The version of this package."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("irt-psychometrics")
except PackageNotFoundError:  # the folder was copied, not installed
    __version__ = "unknown"
