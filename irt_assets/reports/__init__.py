"""Reports for people to read and act on, as HTML and PDF, and the record of each file.

What belongs here: collecting a report's content, its templates, rendering, and the table `report_file`. What does not
belong here: computing the numbers (see drift, calibration and KPIs).
"""
