"""Jobs, schedules, sensors and the run launcher: when and how assets are materialised."""
