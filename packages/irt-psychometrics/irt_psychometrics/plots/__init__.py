"""Charts as data, and what draws them: SVG for reports, PDFs and Dagster, Plotly for the dashboard."""
