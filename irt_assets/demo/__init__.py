"""The demo: months of a company's life in minutes, or a user's log as one window, from import to reports."""
