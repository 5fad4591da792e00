"""Reports: what people read and act on, as HTML and PDF, and the record of each file.

What belongs here: collecting a report's content, its templates, rendering, and `report_file`. What does not: the
numbers themselves, which drift, calibration and KPIs have made.
"""
