"""What changes no result: console, files, processes, signals, trackers, devices."""
