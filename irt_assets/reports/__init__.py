"""The room of reports: what people read and act on, as HTML and PDF, and the record of each file.

What belongs here: gathering what a report says, its templates, rendering, and `report_artifacts`. What does not: the
numbers themselves, which the rooms of drift, calibration and KPIs have made.
"""
